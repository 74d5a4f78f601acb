//go:build lab

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A balancer passes TCP connections on, one to this and one to that; what does not answer
// is passed over. It knows no HTTP.
type balancer struct {
	listener net.Listener
	turn     atomic.Uint64
	backends []string
	group    sync.WaitGroup
}

func newBalancer(t *testing.T, backends ...string) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: listener, backends: backends}
	b.group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.group.Go(func() { b.pass(conn) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); b.group.Wait() })
	return b
}

func (b *balancer) pass(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for range b.backends {
		to, err := net.Dial("tcp", b.backends[int(b.turn.Add(1))%len(b.backends)])
		if err != nil {
			continue
		}
		defer func() { _ = to.Close() }()
		var both sync.WaitGroup
		for _, way := range [][2]net.Conn{{conn, to}, {to, conn}} {
			both.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				_ = way[0].(*net.TCPConn).CloseWrite()
			})
		}
		both.Wait()
		return
	}
}

// twins are two instances on one PostgreSQL behind a balancer.
type twins struct {
	*site
	public   string
	listen   [2]string
	dovecot  [2]string
	process  [2]*lab.Process
	confs    [2]string
	cookie   string
	program  string
	verifier string
}

func startTwins(t *testing.T) *twins {
	t.Helper()
	s := &twins{site: &site{t: t, folder: t.TempDir()}, verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}
	s.binary = filepath.Join(s.folder, "letterlockd")
	if out, err := exec.Command("go", "build", "-o", s.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	pg := lab.RunPostgres(t, lab.PostgresOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	if err := pg.NewDatabase(ctx, "twins"); err != nil {
		t.Fatal(err)
	}
	place := pg.URL("postgres", "twins")
	s.write("database.url", place+"\n", 0o600)
	s.site.write("dovecot.secret", "dove-secret\n", 0o600)
	ports := freePorts(t, 4)
	for i := range 2 {
		s.listen[i], s.dovecot[i] = fmt.Sprintf("127.0.0.1:%d", ports[2*i]), fmt.Sprintf("127.0.0.1:%d", ports[2*i+1])
	}
	s.public = "http://" + newBalancer(t, s.listen[:]...).listener.Addr().String()
	for i := range 2 {
		name := fmt.Sprintf("letterlockd%d.toml", i)
		s.write(name, fmt.Sprintf(`domains = ["try.test"]
[database]
url_file = "%[1]s/database.url"
[web]
public_url = %[2]q
listen = %[3]q
master_key_file = "%[1]s/master.key"
[oauth]
registration = true
[dovecot]
listen = %[4]q
secret_file = "%[1]s/dovecot.secret"
`, s.folder, s.public, s.listen[i], s.dovecot[i]), 0o644)
		s.confs[i] = filepath.Join(s.folder, name)
	}
	s.conf = s.confs[0]
	s.run("person", "add", "ann@try.test")
	s.cookie = s.sessionIn(place)
	for i := range 2 {
		s.start(i)
	}
	s.program = s.registered()
	return s
}

func (s *twins) start(i int) {
	s.t.Helper()
	s.conf = s.confs[i]
	s.serve()
	s.process[i] = s.site.process
}

// sessionIn puts a signed-in browser into the database.
func (s *twins) sessionIn(place string) string {
	s.t.Helper()
	db, err := database.Open(s.t.Context(), place, database.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	person, err := db.PersonByAddress(s.t.Context(), "ann@try.test")
	now := time.Now()
	if err = errors.Join(err, db.AddSession(s.t.Context(), identity.Session{ID: identity.DigestOf("twin-cookie"), Person: person.ID, Proved: now, How: "github",
		From: netip.MustParseAddr("127.0.0.1"), Created: now, Seen: now, Expires: now.Add(time.Hour)})); err != nil {
		s.t.Fatal(err)
	}
	return "twin-cookie"
}

// at is a client that reaches one instance, or the balancer when it is negative.
func (s *twins) at(i int) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true}
	if i >= 0 {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, s.listen[i])
		}
	}
	return &http.Client{Transport: transport, Timeout: testPatience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (s *twins) form(client *http.Client, path string, form url.Values) (int, map[string]any, error) {
	res, err := client.PostForm(s.public+path, form)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	var value map[string]any
	body, err := io.ReadAll(res.Body)
	if err == nil && len(body) > 0 {
		err = json.Unmarshal(body, &value)
	}
	return res.StatusCode, value, err
}

func (s *twins) registered() string {
	s.t.Helper()
	res, err := s.at(-1).Post(s.public+"/register", "application/json", strings.NewReader(
		`{"client_name":"Twin","redirect_uris":["http://127.0.0.1/cb"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none"}`))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	id, _ := decodeMap(s.t, res)["client_id"].(string)
	return id
}

// code goes through the pages; the balancer sends one request here and the next there.
func (s *twins) code() url.Values {
	s.t.Helper()
	b := &seat{s.t, s.public, s.cookie}
	query := url.Values{"response_type": {"code"}, "client_id": {s.program}, "redirect_uri": {chainCallback}, "scope": {"imap offline_access"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}
	code := b.allow("/authorize?" + query.Encode()).Get("code")
	return url.Values{"grant_type": {"authorization_code"}, "client_id": {s.program}, "code": {code}, "redirect_uri": {chainCallback}, "code_verifier": {s.verifier}}
}

func (s *twins) renewal(token any) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {s.program}, "refresh_token": {fmt.Sprint(token)}}
}

// active asks an instance as Dovecot does; its answers come from its caches.
func (s *twins) active(i int, token any) bool {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.dovecot[i]+"/dovecot/introspect",
		strings.NewReader(url.Values{"token": {fmt.Sprint(token)}, "client_id": {"dovecot"}, "client_secret": {"dove-secret"}}.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Dovecot-Auth-Service", "imap")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	return decodeMap(s.t, res)["active"] == true
}

// TestTwoInstances: a code is redeemed exactly once wherever it is taken, a revocation at one
// is felt at the other, and when one is killed under load nobody loses their sign-in.
func TestTwoInstances(t *testing.T) {
	s := startTwins(t)
	// Taken by way of both, redeemed at the second, and never again: the second use ends
	// what came of the first, at both.
	form := s.code()
	status, tokens, err := s.form(s.at(1), "/token", form)
	if err != nil || status != http.StatusOK {
		t.Fatalf("at the other instance: %d %v %v", status, tokens, err)
	}
	if !s.active(0, tokens["access_token"]) || !s.active(1, tokens["access_token"]) {
		t.Error("the token is not good at both")
	}
	if status, again, err := s.form(s.at(0), "/token", form); err != nil || again["error"] != "invalid_grant" {
		t.Errorf("the code again: %d %v %v", status, again, err)
	}
	s.inactive(tokens["access_token"])
	if _, renewed, err := s.form(s.at(1), "/token", s.renewal(tokens["refresh_token"])); err != nil || renewed["error"] != "invalid_grant" {
		t.Errorf("renewal after the replay: %v %v", renewed, err)
	}
	// Sixteen at once at both instances: never do two get it. One that comes between the
	// taking and the issuing ends even that, since somebody else has the code.
	form = s.code()
	won := make(chan any, 16)
	var group sync.WaitGroup
	for n := range 16 {
		group.Go(func() {
			status, tokens, err := s.form(s.at(n%2), "/token", form)
			switch {
			case err != nil:
				t.Error(err)
			case status == http.StatusOK:
				won <- tokens["access_token"]
			case status != http.StatusBadRequest || tokens["error"] != "invalid_grant":
				t.Errorf("one of sixteen: %d %v", status, tokens)
			}
		})
	}
	group.Wait()
	if len(won) > 1 {
		t.Errorf("%d of 16 redeemed one code", len(won))
	}
	for range len(won) {
		s.inactive(<-won)
	}
	// Revoked at the first, felt at the second though it remembers the token.
	_, tokens, err = s.form(s.at(0), "/token", s.code())
	if err != nil || !s.active(1, tokens["access_token"]) {
		t.Fatalf("%v %v", tokens, err)
	}
	p := takePace(t)
	if status, _, err := s.form(s.at(0), "/revoke", url.Values{"client_id": {s.program}, "token": {fmt.Sprint(tokens["refresh_token"])}}); status != http.StatusOK {
		t.Fatalf("revocation: %d %v", status, err)
	}
	s.inactive(tokens["access_token"])
	p.within(10*time.Second, "felt at both")
	s.killed()
}

// inactive waits until both say no: caches hear of it within a second.
func (s *twins) inactive(token any) {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(testPatience); s.active(0, token) || s.active(1, token); {
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatal("a token that has ended is still good")
		}
	}
}

// killed renews all the time through the balancer, as mail programs do, while one instance
// is killed. An answer that was lost is asked for again; a "no" would be a lost sign-in.
func (s *twins) killed() {
	s.t.Helper()
	const programs = 6
	var refreshed, lost atomic.Int64
	half, done := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var group sync.WaitGroup
	for range programs {
		_, tokens, err := s.form(s.at(-1), "/token", s.code())
		if err != nil || tokens["refresh_token"] == nil {
			s.t.Fatalf("%v %v", tokens, err)
		}
		group.Go(func() {
			client, token := s.at(-1), tokens["refresh_token"]
			for {
				status, renewed, err := s.form(client, "/token", s.renewal(token))
				switch {
				case err != nil || status >= 500:
					lost.Add(1)
				case status != http.StatusOK:
					s.t.Errorf("a sign-in was lost: %d %v", status, renewed)
					return
				default:
					token = renewed["refresh_token"]
					if refreshed.Add(1) > 30 {
						once.Do(func() { close(half) })
					}
				}
				select {
				case <-done:
					// What is held at the end is good.
					if status, renewed, err := s.form(s.at(1), "/token", s.renewal(token)); err != nil || status != http.StatusOK {
						s.t.Errorf("at the end: %d %v %v", status, renewed, err)
					}
					return
				default:
				}
			}
		})
	}
	select {
	case <-half:
	case <-time.After(testPatience):
		s.t.Error("no renewals")
	}
	s.site.process = s.process[0]
	s.kill()
	after := refreshed.Load()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(testPatience); refreshed.Load() < after+30; {
		select {
		case <-tick.C:
			continue
		case <-deadline:
			s.t.Error("the other instance does not go on")
		}
		break
	}
	close(done)
	group.Wait()
	s.t.Logf("%d renewals, %d answers lost by the kill", refreshed.Load(), lost.Load())
}

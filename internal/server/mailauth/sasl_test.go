package mailauth

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto/rand"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// bound is how long a test waits for what must come, on a machine ten times slower.
const bound = 60 * time.Second

// A door is a fake Door of two secrets and some people. block, when set, holds every
// check until it is closed or the context ends.
type door struct {
	err    error         // answers everything
	block  chan struct{} // checks wait for it
	deaf   bool          // checks do not heed the context
	limits bool          // the app password has limits
	asked  chan credential.Presented

	credential *identity.Credential // in place of the usual one
}

func (d *door) Password(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	return d.judge(ctx, p, "right-password")
}

func (d *door) Token(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	return d.judge(ctx, p, "llat_right")
}

func (d *door) judge(ctx context.Context, p credential.Presented, want string) (credential.Verdict, error) {
	err, block, deaf, limits := d.err, d.block, d.deaf, d.limits
	if d.asked != nil {
		d.asked <- p
	}
	if block != nil {
		done := ctx.Done()
		if deaf {
			done = nil
		}
		select {
		case <-block:
		case <-done:
			return credential.Verdict{}, ctx.Err()
		}
	}
	if err != nil {
		return credential.Verdict{}, err
	}
	if p.Secret.Reveal() != want {
		return credential.Verdict{}, &credential.Refused{Reason: "wrong secret"}
	}
	v := credential.Verdict{
		Person: identity.Person{ID: "p1", Address: "ann@example.org"}, Login: "ann@example.org",
		Credential: &identity.Credential{ID: "c1", Name: "scanner"},
		Scopes:     []string{"mail", "smtp"},
	}
	if d.credential != nil {
		v.Credential = d.credential
	}
	if limits {
		v.Credential.PerHour = 5
	}
	return v, nil
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A mailServer is the client side of the protocol: what Postfix or Dovecot would be.
type mailServer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// start serves and returns a function that connects; the test ends the server.
func start(t *testing.T, o SASLOptions) (dial func(minor int) *mailServer, cancel func()) {
	t.Helper()
	if o.Log == nil {
		o.Log = quietLog()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Answer == 0 {
		o.Answer = bound
	}
	o.Random = rand.Reader
	path := filepath.Join(t.TempDir(), "auth")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- NewSASL(o).Serve(ctx, listener) }()
	end := sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(end)
	return func(minor int) *mailServer {
		t.Helper()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(bound))
		m := &mailServer{t: t, conn: conn, r: bufio.NewReader(conn)}
		m.send(fmt.Sprintf("VERSION\t1\t%d", minor), "CPID\t77")
		for m.line() != "DONE" {
		}
		return m
	}, end
}

func (m *mailServer) send(lines ...string) {
	m.t.Helper()
	if _, err := io.WriteString(m.conn, strings.Join(lines, "\n")+"\n"); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mailServer) line() string {
	m.t.Helper()
	line, err := m.r.ReadString('\n')
	if err != nil {
		m.t.Fatalf("read: %v (after %q)", err, line)
	}
	return strings.TrimSuffix(line, "\n")
}

func (m *mailServer) expect(want ...string) {
	m.t.Helper()
	for _, w := range want {
		if got := m.line(); got != w {
			m.t.Fatalf("got %q\nwant %q", got, w)
		}
	}
}

// gone wants the connection closed without another byte.
func (m *mailServer) gone() {
	m.t.Helper()
	rest, err := io.ReadAll(m.r)
	if len(rest) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		m.t.Fatalf("connection said %q (%v), it should close in silence", rest, err)
	}
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// begin is an AUTH as Postfix sends it.
func begin(id int, mechanism string, initial ...string) string {
	line := fmt.Sprintf("AUTH\t%d\t%s\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.9\tsecured", id, mechanism)
	for _, text := range initial {
		line += "\tresp=" + b64(text)
	}
	return line
}

const (
	good  = "\x00ann@example.org\x00right-password"
	wrong = "\x00ann@example.org\x00wrong"
	yes   = "OK\t1\tuser=ann@example.org"
	no    = "FAIL\t1\tuser=ann@example.org\treason=Invalid credentials"
)

func TestGreeting(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	go NewSASL(SASLOptions{Door: &door{}, Log: quietLog(), Random: zeros{}}).answer(t.Context(), server)
	_ = client.SetDeadline(time.Now().Add(bound))
	r := bufio.NewReader(client)
	var names []string
	for len(names) == 0 || names[len(names)-1] != "DONE" {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\n")
		verb, rest, _ := strings.Cut(line, "\t")
		if verb == "MECH" {
			verb = strings.ReplaceAll(line, "\t", " ")
		}
		if verb == "COOKIE" && rest != strings.Repeat("0", 32) {
			t.Errorf("cookie %q", rest)
		}
		names = append(names, verb)
	}
	want := "VERSION,MECH PLAIN plaintext,MECH LOGIN plaintext,MECH XOAUTH2 plaintext,MECH OAUTHBEARER plaintext,SPID,CUID,COOKIE,DONE"
	if got := strings.Join(names, ","); got != want {
		t.Errorf("greeting is %s\nwant %s", got, want)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestDialogues(t *testing.T) {
	const discovery = "https://id.example.org/.well-known/oauth-authorization-server"
	xoauth2 := func(token string) string { return "user=ann@example.org\x01auth=Bearer " + token + "\x01\x01" }
	bearer := func(token string) string { return "n,a=ann@example.org,\x01auth=Bearer " + token + "\x01\x01" }
	refusalX := "CONT\t1\t" + b64(`{"status":"401","schemes":"bearer","openid-configuration":"`+discovery+`"}`)
	refusalB := "CONT\t1\t" + b64(`{"status":"invalid_token","openid-configuration":"`+discovery+`"}`)
	for _, c := range []struct {
		name   string
		minor  int
		talk   []string // alternately: what is sent, what is answered ("" for nothing)
		limits bool
	}{
		{name: "plain at once", talk: []string{begin(1, "PLAIN", good), yes}},
		{name: "plain, lower case name", talk: []string{begin(1, "plain", good), yes}},
		{name: "plain after a challenge", talk: []string{begin(1, "PLAIN"), "CONT\t1\t", "CONT\t1\t" + b64(good), yes}},
		{name: "plain, wrong", talk: []string{begin(1, "PLAIN", wrong), no}},
		{name: "plain, the password for a name", talk: []string{begin(1, "PLAIN", "\x00right-password\x00x"), "FAIL\t1\treason=Invalid credentials"}},
		{name: "plain for somebody else", talk: []string{begin(1, "PLAIN", "boss@example.org"+good), no}},
		{name: "plain naming oneself", talk: []string{begin(1, "PLAIN", "Ann@example.org"+good), yes}},
		{name: "plain, empty password", talk: []string{begin(1, "PLAIN", "\x00ann@example.org\x00"), "FAIL\t1\treason=Invalid credentials"}},
		{name: "limited app password", limits: true, talk: []string{begin(1, "PLAIN", good), "OK\t1\tuser=ann+scanner@example.org"}},
		{name: "limited, not to send", limits: true, talk: []string{
			strings.Replace(begin(1, "PLAIN", good), "service=smtp", "protocol=imap", 1), yes}},
		{name: "login", talk: []string{begin(1, "LOGIN"), "CONT\t1\t" + b64("Username:"), "CONT\t1\t" + b64("ann@example.org"),
			"CONT\t1\t" + b64("Password:"), "CONT\t1\t" + b64("right-password"), yes}},
		{name: "login, name at once", talk: []string{begin(1, "LOGIN", "ann@example.org"), "CONT\t1\t" + b64("Password:"),
			"CONT\t1\t" + b64("nope"), no}},
		{name: "xoauth2", talk: []string{begin(1, "XOAUTH2", xoauth2("llat_right")), yes}},
		{name: "xoauth2, refused, empty dummy", talk: []string{begin(1, "XOAUTH2", xoauth2("llat_wrong")), refusalX, "CONT\t1\t", no}},
		{name: "xoauth2, refused, no dummy at all", talk: []string{begin(1, "XOAUTH2", xoauth2("llat_wrong")), refusalX, "CONT\t1", no}},
		{name: "oauthbearer", talk: []string{begin(1, "OAUTHBEARER"), "CONT\t1\t", "CONT\t1\t" + b64(bearer("llat_right")), yes}},
		{name: "oauthbearer without a name", talk: []string{begin(1, "OAUTHBEARER", "n,,\x01auth=Bearer llat_right\x01\x01"), yes}},
		{name: "oauthbearer, refused", talk: []string{begin(1, "OAUTHBEARER", bearer("llat_wrong")), refusalB, "CONT\t1\tAQ==", no}},
		{name: "oauthbearer, refused, not base64", talk: []string{begin(1, "OAUTHBEARER", bearer("llat_wrong")), refusalB, "CONT\t1\t*",
			"FAIL\t1\treason=Invalid credentials"}},
		{name: "oauthbearer, channel binding", talk: []string{begin(1, "OAUTHBEARER", "p=tls-exporter,,\x01auth=Bearer llat_right\x01\x01"),
			"CONT\t1\t" + b64(`{"status":"invalid_request"}`), "CONT\t1\tAQ==", "FAIL\t1\treason=Invalid credentials"}},
		{name: "empty initial response of old clients is none", talk: []string{begin(1, "PLAIN") + "\tresp=", "CONT\t1\t", "CONT\t1\t" + b64(good), yes}},
		{name: "empty initial response of new clients is one", minor: 2, talk: []string{begin(1, "PLAIN") + "\tresp=", "FAIL\t1\treason=Invalid credentials"}},
		{name: "empty initial response said aloud", talk: []string{begin(1, "PLAIN") + "\tresp==", "FAIL\t1\treason=Invalid credentials"}},
		{name: "something behind the response", talk: []string{begin(1, "PLAIN", good) + "\tsecured", "FAIL\t1\treason=Invalid credentials"}},
		{name: "no service", talk: []string{strings.Replace(begin(1, "PLAIN", good), "service=smtp\t", "", 1), "FAIL\t1\treason=Invalid credentials"}},
		{name: "unknown service", talk: []string{strings.Replace(begin(1, "PLAIN", good), "=smtp", "=gopher", 1), "FAIL\t1\treason=Invalid credentials"}},
		{name: "unknown mechanism", talk: []string{begin(1, "SCRAM-SHA-256", "n,,n=ann,r=x"), "FAIL\t1\treason=Invalid credentials"}},
		{name: "no mechanism", talk: []string{"AUTH\t1", "FAIL\t1\treason=Invalid credentials"}},
		{name: "unknown parameters", talk: []string{strings.Replace(begin(1, "PLAIN", good), "nologin", "no-penalty\tcert_username=x\tanything", 1), yes}},
		{name: "not secured", talk: []string{strings.Replace(begin(1, "PLAIN", good), "\tsecured", "", 1), "FAIL\t1\treason=Invalid credentials"}},
		{name: "2.4's secured", talk: []string{strings.Replace(begin(1, "PLAIN", good), "\tsecured", "\tsecured=tls", 1), yes}},
		{name: "never begun", talk: []string{"CONT\t1\t" + b64(good), "FAIL\t1\treason=Authentication timed out"}},
		{name: "cancelled", talk: []string{begin(1, "LOGIN"), "CONT\t1\t" + b64("Username:"), "CANCEL\t1", "", "CONT\t1\t" + b64("x"),
			"FAIL\t1\treason=Authentication timed out"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dial, _ := start(t, SASLOptions{Door: &door{limits: c.limits}, Discovery: discovery})
			m := dial(c.minor)
			for i := 0; i < len(c.talk); i += 2 {
				m.send(c.talk[i])
				if c.talk[i+1] != "" {
					m.expect(c.talk[i+1])
				}
			}
			// Nothing more follows, and the connection is good for the next.
			m.send(begin(9, "PLAIN", good))
			if got := m.line(); !strings.HasPrefix(got, "OK\t9\t") {
				t.Errorf("then: %q", got)
			}
		})
	}
}

func TestPlainLoopback(t *testing.T) {
	dial, _ := start(t, SASLOptions{Door: &door{}, PlainLoopback: true})
	m := dial(0)
	open := strings.Replace(begin(1, "PLAIN", good), "\tsecured", "", 1)
	m.send(open)
	m.expect("FAIL\t1\treason=Invalid credentials")
	m.send(strings.Replace(open, "rip=192.0.2.9", "rip=127.0.0.1", 1))
	m.expect(yes)
	m.send(strings.Replace(open, "rip=192.0.2.9", "rip=::1", 1))
	m.expect(yes)
}

// TestGarbageHarmsNobody: what cannot be understood fails alone.
func TestGarbageHarmsNobody(t *testing.T) {
	for _, garbage := range []string{
		"", "\t", "HELLO", "AUTH", "AUTH\t0\tPLAIN", "AUTH\t-1\tPLAIN", "AUTH\t4294967296\tPLAIN", "AUTH\tx\tPLAIN\tresp=AAAA",
		"CONT", "CONT\t\t", "CANCEL", "CANCEL\t5", "CANCEL\tx", "VERSION\t2\t0", "CPID", "\x00\x01\x02\xff", "REQUEST\t1\t2\t3\tcookie",
		strings.Repeat("x", 3*maxLine), "AUTH\t+3\tPLAIN\tservice=smtp", "USER\t1\tann",
	} {
		dial, _ := start(t, SASLOptions{Door: &door{}})
		m := dial(0)
		m.send(begin(7, "LOGIN"))
		m.expect("CONT\t7\t" + b64("Username:"))
		m.send(garbage, begin(1, "PLAIN", good))
		m.expect(yes)
		m.send("CONT\t7\t" + b64("ann@example.org"))
		m.expect("CONT\t7\t" + b64("Password:"))
	}
	for _, bad := range []string{
		"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp=!!!!", "AUTH\t1\tPLAIN\tservice=smtp\x01", "AUTH\t1\tPLAIN\tservice=\x01z",
		"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp=" + strings.Repeat("A", 2*maxLine), "AUTH\t1\t\tservice=smtp\tsecured",
		"CONT\t1\t!!", "CONT\t1\tQUJD\tQUJD",
	} {
		dial, _ := start(t, SASLOptions{Door: &door{}})
		m := dial(0)
		m.send(bad)
		if got := m.line(); !strings.HasPrefix(got, "FAIL\t1\treason=") {
			t.Errorf("%.60q: %q", bad, got)
		}
		m.send(begin(1, "PLAIN", good))
		m.expect(yes)
	}
}

func TestHandshake(t *testing.T) {
	for _, first := range []string{"VERSION\t2\t0", "VERSION\t1", "VERSION\t1\tx", "CPID\t1", begin(1, "PLAIN", good), strings.Repeat("x", 2*maxLine)} {
		client, server := net.Pipe()
		_ = client.SetDeadline(time.Now().Add(bound))
		done := make(chan struct{})
		go func() {
			defer close(done)
			NewSASL(SASLOptions{Door: &door{}, Log: quietLog(), Random: zeros{}, Now: time.Now}).answer(t.Context(), server)
		}()
		r := bufio.NewReader(client)
		for line := ""; line != "DONE\n"; {
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		go func() { _, _ = io.WriteString(client, first+"\n") }()
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Errorf("%.40q was answered: %q", first, rest)
		}
		<-done
		client.Close()
	}
}

// TestOneAnswer: whatever comes in the middle of a check, the request gets one answer.
func TestOneAnswer(t *testing.T) {
	for _, c := range []struct{ name, meanwhile, answer string }{
		{"cancelled", "CANCEL\t1", ""},
		{"continued", "CONT\t1\t" + b64(good), "FAIL\t1\treason=Invalid credentials"},
		{"begun again", begin(1, "PLAIN", good), "FAIL\t1\treason=Invalid credentials"},
		{"garbled", "AUTH\t1\tPLAIN\t" + strings.Repeat("x", maxLine), "FAIL\t1\treason=Invalid credentials"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &door{block: make(chan struct{}), asked: make(chan credential.Presented, 10)}
			dial, _ := start(t, SASLOptions{Door: d})
			m := dial(2)
			m.send(begin(1, "PLAIN", good))
			<-d.asked
			m.send(c.meanwhile)
			if c.answer != "" {
				m.expect(c.answer)
			}
			// The reader has to have seen the line before the check ends: it answers this.
			m.send("CONT\t99\t")
			m.expect("FAIL\t99\treason=Authentication timed out")
			close(d.block)
			m.send(begin(2, "PLAIN", good))
			m.expect("OK\t2\tuser=ann@example.org")
		})
	}
}

// TestSeveralAtOnce: a slow check holds up no other on the same connection.
func TestSeveralAtOnce(t *testing.T) {
	d := &door{block: make(chan struct{}), asked: make(chan credential.Presented, 100)}
	dial, _ := start(t, SASLOptions{Door: d})
	m := dial(2)
	for id := 1; id <= 50; id++ {
		m.send(begin(id, "PLAIN", good))
	}
	for range 50 {
		<-d.asked
	}
	m.send(begin(51, "LOGIN"))
	m.expect("CONT\t51\t" + b64("Username:"))
	close(d.block)
	seen := map[string]bool{}
	for range 50 {
		seen[m.line()] = true
	}
	for id := 1; id <= 50; id++ {
		if !seen[fmt.Sprintf("OK\t%d\tuser=ann@example.org", id)] {
			t.Errorf("request %d has no answer", id)
		}
	}
}

// TestOwnFaultCloses: what is not a no is never told as one.
func TestOwnFaultCloses(t *testing.T) {
	for _, err := range []error{errors.New("database away"), context.DeadlineExceeded, fmt.Errorf("queue: %w", io.ErrUnexpectedEOF)} {
		for _, first := range []string{begin(1, "PLAIN", good), begin(1, "XOAUTH2", "user=ann@example.org\x01auth=Bearer llat_right\x01\x01")} {
			dial, _ := start(t, SASLOptions{Door: &door{err: err}})
			m := dial(0)
			m.send(first)
			m.gone()
		}
	}
}

// TestSlowDoorCloses: an answer comes in time even from a Door that heeds nothing.
func TestSlowDoorCloses(t *testing.T) {
	d := &door{block: make(chan struct{}), deaf: true}
	dial, _ := start(t, SASLOptions{Door: d, Answer: 20 * time.Millisecond})
	m := dial(0)
	m.send(begin(1, "PLAIN", good))
	m.gone()
	close(d.block)
}

// TestNoNameCloses: a person without a usable address is our fault, not the password's.
func TestNoNameCloses(t *testing.T) {
	for _, address := range []string{"", "Ann@example.org", "ann\n@example.org"} {
		dial, _ := start(t, SASLOptions{Door: named(address)})
		m := dial(0)
		m.send(begin(1, "PLAIN", good))
		m.gone()
	}
}

type named string

func (n named) Password(context.Context, credential.Presented) (credential.Verdict, error) {
	return credential.Verdict{Person: identity.Person{Address: string(n)}}, nil
}
func (n named) Token(context.Context, credential.Presented) (credential.Verdict, error) {
	return credential.Verdict{}, nil
}

// TestForgotten: Postfix never cancels; requests whose client hung up must not pile up.
func TestForgotten(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1_000_000, 0)
	dial, _ := start(t, SASLOptions{Door: &door{}, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Millisecond)
		return now
	}})
	m := dial(0)
	for id := 1; id <= maxPending+10; id++ {
		m.send(begin(id, "LOGIN"))
		m.expect(fmt.Sprintf("CONT\t%d\t%s", id, b64("Username:")))
	}
	m.send("CONT\t3\t" + b64("ann@example.org"))
	m.expect("FAIL\t3\treason=Authentication timed out")
	m.send("CONT\t200\t" + b64("ann@example.org"))
	m.expect("CONT\t200\t" + b64("Password:"))
	mu.Lock()
	now = now.Add(patience)
	mu.Unlock()
	m.send("CONT\t200\t" + b64("right-password"))
	m.expect("FAIL\t200\treason=Authentication timed out")
}

// TestTooManyAtOnce: with every place taken by a check there is only "later".
func TestTooManyAtOnce(t *testing.T) {
	d := &door{block: make(chan struct{}), asked: make(chan credential.Presented, maxPending)}
	dial, _ := start(t, SASLOptions{Door: d})
	m := dial(2)
	for id := 1; id <= maxPending; id++ {
		m.send(begin(id, "PLAIN", good))
	}
	for range maxPending {
		<-d.asked
	}
	m.send(begin(maxPending+1, "PLAIN", good))
	m.gone()
	close(d.block)
}

// TestStop: what was asked is answered, then the connection ends.
func TestStop(t *testing.T) {
	d := &door{block: make(chan struct{}), asked: make(chan credential.Presented, 1)}
	dial, stop := start(t, SASLOptions{Door: d})
	m := dial(0)
	m.send(begin(1, "PLAIN", good))
	<-d.asked
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	close(d.block)
	m.expect(yes)
	m.gone()
	<-ended
}

func TestPresented(t *testing.T) {
	d := &door{asked: make(chan credential.Presented, 1)}
	dial, _ := start(t, SASLOptions{Door: d})
	m := dial(2)
	m.send(strings.NewReplacer("rip=192.0.2.9", "rip=::ffff:192.0.2.9", "service=smtp", "service=sieve").Replace(begin(1, "PLAIN", good)))
	p := <-d.asked
	if p.Protocol != identity.Sieve || p.Remote.String() != "192.0.2.9" || !p.Secured || p.Mechanism != "PLAIN" || p.User != "ann@example.org" {
		t.Errorf("presented: %+v", p)
	}
}

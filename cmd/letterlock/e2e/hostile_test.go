//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// A waiting is a `letterlock login` that waits for a browser's answer.
type waiting struct {
	t      *testing.T
	h      *home
	issuer *issuer
	cmd    *exec.Cmd
	said   *syncBuffer
	out    bytes.Buffer
	ended  chan error
	before string // the home while it waits
	good   *url.URL
}

// A syncBuffer can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(data)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// startWaiting starts it and has the person say yes; the answer, in good, is not sent.
func startWaiting(t *testing.T, i *issuer, more ...string) *waiting {
	t.Helper()
	w := &waiting{t: t, h: newHome(t), issuer: i, said: &syncBuffer{}, ended: make(chan error, 1)}
	shown := make(chan string, 1)
	lines := watchLines(func(line string) {
		if strings.HasPrefix(line, i.server.URL+"/authorize?") {
			shown <- line
		}
	})
	w.cmd = w.h.command(within(t), "letterlock", i.accountArgs(append([]string{"--flow", "browser", "--no-browser"}, more...)...)...)
	w.cmd.Stdout, w.cmd.Stderr = &w.out, io.MultiWriter(w.said, lines)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { w.ended <- w.cmd.Wait() }()
	t.Cleanup(func() { _ = w.cmd.Process.Kill() })
	select {
	case address := <-shown:
		var err error
		if w.good, err = i.approve(address); err != nil {
			t.Fatal(err)
		}
	case err := <-w.ended:
		t.Fatalf("login ended: %v\n%s", err, w.said)
	case <-within(t).Done():
		t.Fatalf("no address is shown\n%s", w.said)
	}
	w.before = state(t, w.h.dir)
	return w
}

// port is where it listens, on both loopback addresses.
func (w *waiting) port() string { return w.good.Port() }

// unmoved fails when anything that was sent has had an effect.
func (w *waiting) unmoved() {
	w.t.Helper()
	select {
	case err := <-w.ended:
		w.t.Fatalf("login ended: %v\n%s", err, w.said)
	default:
	}
	if n := w.issuer.asked("token"); n != 0 {
		w.t.Errorf("the token endpoint was asked %d times", n)
	}
	if after := state(w.t, w.h.dir); after != w.before {
		w.t.Errorf("something has changed:\n%s", differences(w.before, after))
	}
}

// succeeds sends the true answer and wants a sign-in.
func (w *waiting) succeeds() {
	w.t.Helper()
	if status, _ := hit(w.t, w.good.String()); status != 200 {
		w.t.Errorf("the true answer: status %d", status)
	}
	w.endsWell()
}

func (w *waiting) endsWell() {
	w.t.Helper()
	select {
	case err := <-w.ended:
		if err != nil || w.out.Len() != 0 || !strings.Contains(w.said.String(), "signed in you@example.org") {
			w.t.Errorf("login: %v, %q\n%s", err, w.out.String(), w.said)
		}
	case <-within(w.t).Done():
		w.t.Fatalf("login does not end\n%s", w.said)
	}
	r := w.h.letterlock("token", "you@example.org")
	if r.code != 0 || !w.issuer.good(strings.TrimSpace(r.stdout)) {
		w.t.Errorf("token: %v", r)
	}
	if n := w.issuer.asked("token authorization_code"); n != 1 {
		w.t.Errorf("%d codes were exchanged, want 1", n)
	}
	if conn, err := net.Dial("tcp", w.good.Host); err == nil {
		_ = conn.Close()
		w.t.Error("the port is still open")
	}
	if text := w.said.String(); strings.ContainsAny(text, "\x1b\x07") || len(text) > 8000 {
		w.t.Errorf("standard error has %d bytes: %q", len(text), text[:min(len(text), 3000)])
	}
}

func hit(t *testing.T, address string) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(address)
	if err != nil {
		t.Errorf("hit: %v", err)
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("hit: %v", err)
	}
	return resp.StatusCode, string(body)
}

// send writes raw bytes on a connection of their own and returns the answer.
func send(t *testing.T, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, request) // may be cut off
	answer, err := io.ReadAll(conn)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Errorf("no end of the answer to %.80q", request)
	}
	return string(answer)
}

// attacks are the requests that package login tests in the process, as data: a record
// is "=== STATUS name" and the request.
func attacks(t *testing.T) map[string]string {
	t.Helper()
	file, err := os.ReadFile("../../../internal/client/login/testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for record := range strings.SplitSeq(string(file), "\n=== ") {
		head, request, ok := strings.Cut(record, "\n")
		if ok && !strings.HasPrefix(record, "#") {
			all[head] = request
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d attacks were read", len(all))
	}
	return all
}

// fill puts in what an attacker might have learned.
func (w *waiting) fill(request string) string {
	q := w.good.Query()
	path := w.good.EscapedPath()
	if path == "" {
		path = "/"
	}
	headers := ""
	for n := range 200 {
		headers += fmt.Sprintf("X-%d: 1\n", n)
	}
	text := strings.NewReplacer("{HOST}", w.good.Host, "{PORT}", w.port(), "{PATH}", path, "{STATE}", q.Get("state"), "{ISS}", url.QueryEscape(w.issuer.server.URL),
		"{GOOD}", path+"?"+w.good.RawQuery, "{8K}", strings.Repeat("a", 8<<10), "{32K}", strings.Repeat("a", 32<<10), "{100K}", strings.Repeat("a", 100<<10),
		"{200HEADERS}", headers, "{MARK}", "reflect-me", "\n", "\r\n").Replace(request)
	return strings.TrimRight(text, "\r\n") + "\r\n\r\n"
}

func TestHostileRequests(t *testing.T) {
	i := newIssuer(t, &cage{})
	// The list was written for a listener at localhost/cb.
	w := startWaiting(t, i, "--redirect-uri", "http://localhost/cb")
	for name, request := range attacks(t) {
		for _, host := range []string{"127.0.0.1", "::1"} {
			answer := send(t, net.JoinHostPort(host, w.port()), w.fill(request))
			status, _, _ := strings.Cut(name, " ")
			if !strings.HasPrefix(answer, "HTTP/1.1 "+status+" ") && !strings.HasPrefix(answer, "HTTP/1.0 "+status+" ") {
				t.Errorf("%s: answer %.60q", name, answer)
			}
			lower := strings.ToLower(answer)
			for _, bad := range []string{"reflect-me", w.good.Query().Get("code"), "\r\nlocation:", "\r\nset-cookie:", "access-control-", "<script"} {
				if strings.Contains(lower, strings.ToLower(bad)) {
					t.Errorf("%s: the answer holds %q", name, bad)
				}
			}
		}
		w.unmoved()
	}
	w.succeeds()
}

// altered is the good answer with one parameter changed; without it for value "-".
func (w *waiting) altered(name string, values ...string) string {
	at := *w.good
	q := at.Query()
	q.Del(name)
	for _, value := range values {
		q.Add(name, value)
	}
	at.RawQuery = q.Encode()
	return at.String()
}

// TestHostileAnswers are good but for one thing.
func TestHostileAnswers(t *testing.T) {
	i := newIssuer(t, &cage{})
	w := startWaiting(t, i)
	for name, address := range map[string]string{
		"wrong state":             w.altered("state", "wrong"),
		"no state":                w.altered("state"),
		"empty state":             w.altered("state", ""),
		"two states":              w.altered("state", w.good.Query().Get("state"), "wrong"),
		"wrong issuer":            w.altered("iss", "https://evil.example"),
		"issuer in capitals":      w.altered("iss", strings.ToUpper(i.server.URL)),
		"issuer with a slash":     w.altered("iss", i.server.URL+"/"),
		"no issuer":               w.altered("iss"),
		"two issuers":             w.altered("iss", i.server.URL, "https://evil.example"),
		"two codes":               w.altered("code", "a", "b"),
		"code and error":          w.altered("error", "access_denied"),
		"an error of no state":    "http://" + w.good.Host + "?error=access_denied&iss=" + url.QueryEscape(i.server.URL),
		"an error, wrong issuer":  "http://" + w.good.Host + "?error=access_denied&iss=x&state=" + w.good.Query().Get("state"),
		"another path":            "http://" + w.good.Host + "/other?" + w.good.RawQuery,
		"escapes in the error":    "http://" + w.good.Host + "?error=%1b[2J&error_description=%07&state=x",
		"a mark in a wrong state": w.altered("state", "reflect-me"),
	} {
		status, body := hit(t, address)
		if status < 400 || strings.Contains(body, "reflect-me") {
			t.Errorf("%s: status %d: %s", name, status, body)
		}
		w.unmoved()
	}
	w.succeeds()
}

// TestThousandStrays: a browser's other tabs, a port scanner, and somebody who holds
// connections open.
func TestThousandStrays(t *testing.T) {
	i := newIssuer(t, &cage{})
	w := startWaiting(t, i)
	var held []net.Conn
	for range 100 {
		conn, err := net.Dial("tcp", w.good.Host)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: ")
		held = append(held, conn)
	}
	defer func() {
		for _, conn := range held {
			_ = conn.Close()
		}
	}()
	var hits sync.WaitGroup
	paths := []string{"/favicon.ico", "/", "/?state=x&code=y", "/robots.txt", "/?code=1&state=%1b[2J"}
	for worker := range 8 {
		hits.Go(func() {
			for n := range 125 {
				if status, _ := hit(t, "http://"+w.good.Host+paths[(worker+n)%len(paths)]); status < 400 {
					t.Errorf("a stray hit was answered with %d", status)
				}
			}
		})
	}
	hits.Wait()
	w.unmoved()
	w.succeeds()
}

// TestSecondAnswer: one that comes while the first is being exchanged changes nothing.
func TestSecondAnswer(t *testing.T) {
	i := newIssuer(t, &cage{})
	w := startWaiting(t, i)
	arrived, release := make(chan struct{}, 9), make(chan struct{})
	i.set(func(_ http.ResponseWriter, endpoint string, _ url.Values) bool {
		if endpoint == "token" {
			arrived <- struct{}{}
			<-release
		}
		return false
	})
	// Two at once: one is taken, and it does not matter which, as they are the same.
	var both sync.WaitGroup
	statuses := make(chan int, 2)
	for range 2 {
		both.Go(func() {
			client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
			// The loser may find the door closed.
			if resp, err := client.Get(w.good.String()); err == nil {
				resp.Body.Close()
				statuses <- resp.StatusCode
			}
		})
	}
	both.Wait()
	close(statuses)
	taken := 0
	for status := range statuses {
		if status == 200 {
			taken++
		} else if status != http.StatusGone {
			t.Errorf("the second answer got status %d", status)
		}
	}
	if taken != 1 {
		t.Errorf("%d answers were taken", taken)
	}
	<-arrived
	other := w.altered("code", "another")
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	if resp, err := client.Get(other); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusGone {
			t.Errorf("a late answer got status %d", resp.StatusCode)
		}
	}
	close(release)
	w.endsWell()
}

// TestRefusalThatCounts: the person's own no, with the right state and issuer, ends it
// and keeps nothing.
func TestRefusalThatCounts(t *testing.T) {
	i := newIssuer(t, &cage{})
	w := startWaiting(t, i)
	q := w.good.Query()
	no := url.Values{"error": {"access_denied"}, "error_description": {"no\x1b[2J"}, "state": q["state"], "iss": q["iss"]}
	hit(t, "http://"+w.good.Host+"?"+no.Encode())
	select {
	case <-w.ended:
	case <-within(t).Done():
		t.Fatal("login does not end")
	}
	if code := w.cmd.ProcessState.ExitCode(); code != 77 || strings.Contains(w.said.String(), "\x1b") || w.out.Len() != 0 {
		t.Errorf("exit code %d\n%q", code, w.said)
	}
	if after := state(t, w.h.dir); after != w.before {
		t.Errorf("something has changed:\n%s", differences(w.before, after))
	}
}

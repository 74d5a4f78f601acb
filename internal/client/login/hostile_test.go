package login

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// marker is in every hostile request and must be in no answer.
const marker = "reflect-me"

// raw sends bytes on a connection of their own and returns all that comes back.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	// A refused request may be cut off while it is still being written.
	_, _ = io.WriteString(conn, request)
	answer, err := io.ReadAll(conn)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Fatalf("no end of the answer to %.80q", request)
	}
	return string(answer)
}

// A hostileCase is one record of testdata/hostile.txt.
type hostileCase struct{ name, want, request string }

func readHostile(t *testing.T) []hostileCase {
	t.Helper()
	file, err := os.ReadFile("testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []hostileCase
	for record := range strings.SplitSeq(string(file), "\n=== ") {
		head, request, ok := strings.Cut(record, "\n")
		if !ok || strings.HasPrefix(record, "#") {
			continue
		}
		want, name, _ := strings.Cut(head, " ")
		all = append(all, hostileCase{name, want, request})
	}
	if len(all) < 20 {
		t.Fatalf("only %d hostile requests were read", len(all))
	}
	return all
}

// fill puts the secrets an attacker might have learned into the request.
func (c hostileCase) fill(good *url.URL, issuer string) string {
	query := good.Query()
	text := strings.NewReplacer(
		"{HOST}", good.Host, "{PORT}", good.Port(), "{PATH}", good.EscapedPath(),
		"{STATE}", query.Get("state"), "{ISS}", url.QueryEscape(issuer), "{GOOD}", good.RequestURI(),
		"{8K}", strings.Repeat("a", 8<<10), "{32K}", strings.Repeat("a", 32<<10), "{100K}", strings.Repeat("a", 100<<10),
		"{200HEADERS}", manyHeaders(200), "{MARK}", marker, "\n", "\r\n",
	).Replace(c.request)
	return strings.TrimRight(text, "\r\n") + "\r\n\r\n"
}

func manyHeaders(n int) string {
	var all []string
	for i := range n {
		all = append(all, "X-"+strings.Repeat("a", i+1)+": 1")
	}
	return strings.Join(all, "\n")
}

func TestHostileRequests(t *testing.T) {
	noLeaks(t)
	server := newFakeServer(t)
	req := server.request()
	req.Redirect = provider.Redirect{URI: "http://localhost/cb", AnyPort: true}
	run := start(t, t.Context(), Browser, req)
	address := run.opened()
	good := server.approve(address)
	for _, test := range readHostile(t) {
		t.Run(test.name, func(t *testing.T) {
			for _, host := range loopbackHosts(t.Context()) {
				answer := raw(t, net.JoinHostPort(host, good.Port()), test.fill(good, server.http.URL))
				checkHostileAnswer(t, test.want, answer)
			}
			run.waits()
		})
	}
	if n := len(server.tokens); n != 0 {
		t.Errorf("%d requests at the token endpoint", n)
	}
	if status, _ := get(t, good.String()); status != 200 {
		t.Errorf("the real answer: %d", status)
	}
	run.succeeds(address)
	if told := run.person.told(); strings.Count(told, "refused") > tellLimit || !strings.Contains(told, "refused") || strings.Contains(told, "\x1b") {
		t.Errorf("told %q", told)
	}
}

func checkHostileAnswer(t *testing.T, want, answer string) {
	t.Helper()
	status := strings.TrimPrefix(strings.TrimPrefix(answer, "HTTP/1.1 "), "HTTP/1.0 ")
	if !strings.HasPrefix(status, want+" ") {
		t.Errorf("answer %.60q, want %s", answer, want)
	}
	lower := strings.ToLower(answer)
	for _, bad := range []string{marker, "\r\nlocation:", "\r\nset-cookie:", "access-control-", "<script"} {
		if strings.Contains(lower, bad) {
			t.Errorf("answer holds %q: %s", bad, answer)
		}
	}
	// net/http answers what it cannot parse itself, in plain text.
	if !strings.Contains(lower, "text/html") {
		return
	}
	for _, header := range []string{
		"content-security-policy: default-src 'none';", "referrer-policy: no-referrer", "cache-control: no-store",
		"x-content-type-options: nosniff", "connection: close",
	} {
		// HTTP/1.0 closes without saying so.
		implied := strings.HasPrefix(answer, "HTTP/1.0") && strings.HasPrefix(header, "connection")
		if !strings.Contains(lower, "\r\n"+header) && !implied {
			t.Errorf("answer lacks %q: %s", header, answer)
		}
	}
}

func TestThousandStrayHits(t *testing.T) {
	noLeaks(t)
	server := newFakeServer(t)
	run := start(t, t.Context(), Browser, server.request())
	address := run.opened()
	good := server.approve(address)
	strays := []string{
		"/favicon.ico", "/", "/robots.txt", "/?state=x&code=y", "/?error=access_denied&state=wrong", "/.well-known/x",
	}
	var workers sync.WaitGroup
	for worker := range 20 {
		workers.Go(func() {
			for i := range 50 {
				answer := raw(t, good.Host, "GET "+strays[(worker+i)%len(strays)]+" HTTP/1.1\r\nHost: "+good.Host+"\r\n\r\n")
				if !strings.HasPrefix(answer, "HTTP/1.1 40") {
					t.Errorf("stray hit: %.60q", answer)
				}
			}
		})
	}
	workers.Wait()
	run.waits()
	if status, _ := get(t, good.String()); status != 200 {
		t.Errorf("the real answer: %d", status)
	}
	run.succeeds(address)
}

// Connections that never finish a request take no place from the real one.
func TestSlowloris(t *testing.T) {
	noLeaks(t)
	server := newFakeServer(t)
	run := start(t, t.Context(), Browser, server.request())
	address := run.opened()
	good := server.approve(address)
	for i := range 4 * maxConnections {
		conn, err := net.Dial("tcp", good.Host)
		if err != nil {
			t.Fatalf("dial %d: %v", i, err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: ")
	}
	if status, _ := get(t, good.String()); status != 200 {
		t.Errorf("the real answer: %d", status)
	}
	run.succeeds(address)
}

// A stalled connection is bounded in number by openDoor and in time by patience.
func TestDoorPatience(t *testing.T) {
	noLeaks(t)
	listeners, err := listenBoth(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	door := openDoor(listeners, http.NotFoundHandler(), 10*time.Millisecond)
	defer door.close()
	for _, begin := range []string{"", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nA: "} {
		answer := raw(t, listeners[0].Addr().String(), begin)
		if strings.Contains(answer, " 200 ") {
			t.Errorf("answer %q", answer)
		}
	}
}

func TestDoorBoundsConnections(t *testing.T) {
	noLeaks(t)
	listeners, err := listenBoth(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	door := openDoor(listeners, http.NotFoundHandler(), time.Minute)
	first, err := net.Dial("tcp", listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for range maxConnections {
		conn, err := net.Dial("tcp", listeners[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	_ = first.SetReadDeadline(time.Now().Add(patience))
	if _, err := first.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest connection is still open: %v", err)
	}
	if err := door.close(); err != nil {
		t.Error(err)
	}
}

func TestSecondAnswer(t *testing.T) {
	var checked int
	hits := newCallback("Letterlock", "localhost:1", "/", func(string) (oauth.Callback, error) {
		checked++
		return oauth.Callback{Code: secret.New("code")}, nil
	})
	var mu sync.Mutex
	statuses := map[int]int{}
	var workers sync.WaitGroup
	for range 50 {
		workers.Go(func() {
			recorder := httptest.NewRecorder()
			request := httptest.NewRequest("GET", "/?code=x", nil)
			request.Host = "localhost:1"
			hits.ServeHTTP(recorder, request)
			mu.Lock()
			defer mu.Unlock()
			statuses[recorder.Code]++
		})
	}
	workers.Wait()
	if statuses[200] != 1 || statuses[410] != 49 || checked != 1 || len(hits.answers) != 1 {
		t.Errorf("statuses %v, checked %d times", statuses, checked)
	}
}

// Two sign-ins at once: an answer that lands at the other one changes nothing.
func TestSwappedAnswers(t *testing.T) {
	noLeaks(t)
	server := newFakeServer(t)
	one := start(t, t.Context(), Browser, server.request())
	two := start(t, t.Context(), Browser, server.request())
	addressOne, addressTwo := one.opened(), two.opened()
	backOne, backTwo := server.approve(addressOne), server.approve(addressTwo)
	swapped := func(to, query *url.URL) string {
		mixed := *to
		mixed.RawQuery = query.RawQuery
		return mixed.String()
	}
	for _, hit := range []string{swapped(backOne, backTwo), swapped(backTwo, backOne)} {
		if status, _ := get(t, hit); status != http.StatusForbidden {
			t.Errorf("swapped answer: %d", status)
		}
	}
	one.waits()
	two.waits()
	get(t, backTwo.String())
	two.succeeds(addressTwo)
	get(t, backOne.String())
	one.succeeds(addressOne)
}

func TestPages(t *testing.T) {
	seen := map[string]bool{}
	for say := strayMessage; say <= lateMessage; say++ {
		body := page("Letter<b>lock", say)
		if bytes.Contains(body, []byte("<b>")) || seen[string(body)] {
			t.Errorf("page %d: %s", say, body)
		}
		seen[string(body)] = true
	}
}

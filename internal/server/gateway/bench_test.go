package gateway

import (
	"bytes"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A stub is a web mail that answers at once, so that what is measured is ours. Its headers
// are those that nginx gives a style sheet or a picture: most of what a web mail is asked for.
type stub struct{ body []byte }

// RoundTrip implements http.RoundTripper.
func (s stub) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(s.body)), Body: io.NopCloser(bytes.NewReader(s.body)),
		Header: http.Header{
			"Server": {"nginx"}, "Date": {"Sun, 22 Nov 2026 12:00:00 GMT"}, "Content-Type": {"text/css"}, "Content-Length": {strconv.Itoa(len(s.body))},
			"Last-Modified": {"Sun, 22 Nov 2026 07:00:00 GMT"}, "Etag": {`"6921a5b0-800"`}, "Accept-Ranges": {"bytes"},
		},
	}, nil
}

// A sink is a ResponseWriter that keeps nothing.
type sink struct {
	head   http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.head }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkForward is one request of somebody who is signed in, as Chromium sends it, with
// Roundcube's own cookies: all that the gateway does, without the network.
func BenchmarkForward(b *testing.B) {
	now := time.Now()
	cookie := strings.Repeat("c", secretLength)
	store := &memory{now: time.Now, people: map[identity.PersonID]identity.Person{"ann": {ID: "ann", Address: "ann@try.test"}}, signIns: map[string]bool{signInKey("ann", now): true},
		sessions: map[identity.Digest]identity.MailSession{}, grants: map[identity.GrantID]identity.Grant{"g": {ID: "g", Person: "ann"}}, tokens: map[identity.Digest]identity.Digest{}}
	store.sessions[identity.DigestOf(cookie)] = identity.MailSession{ID: identity.DigestOf(cookie), Gateway: "webmail", Person: "ann", Began: now, Grant: "g", Created: now, Seen: now, Expires: now.Add(24 * time.Hour)}
	gate, err := New(Options{
		Name: "webmail", PublicURL: "http://webmail.test", PagesURL: "https://id.test", Upstream: &url.URL{Scheme: "http", Host: "127.0.0.1:8088"}, Preset: Roundcube(),
		Store: store, Browser: &bench{}, SignIn: func(http.ResponseWriter, *http.Request, string, bool) {}, Now: time.Now, Random: rand.Reader,
		Log: slog.New(slog.DiscardHandler), Transport: stub{bytes.Repeat([]byte("x"), 2048)},
	})
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "http://webmail.test/?_task=mail&_mbox=INBOX", nil)
	key := newBinder(bindingKey(cookie))
	for name, value := range map[string]string{
		"User-Agent":      "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
		"Accept":          "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
		"Accept-Encoding": "gzip, deflate, br", "Accept-Language": "en-US,en;q=0.9", "Upgrade-Insecure-Requests": "1",
		"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin", "Referer": "http://webmail.test/",
		"Cookie": "letterlock-mail=" + cookie + "; roundcube_sessid=" + key.bound("roundcube_sessid", "abcdefghijklmnopqrstuvwxyz") + "; roundcube_sessauth=" + key.bound("roundcube_sessauth", "0123456789abcdef0123456789abcdef"),
	} {
		r.Header.Set(name, value)
	}
	b.ReportAllocs()
	for b.Loop() {
		w := &sink{head: http.Header{}}
		if gate.ServeHTTP(w, r); w.status != http.StatusOK {
			b.Fatalf("status %d", w.status)
		}
	}
}

// TestEverydayHeaders: the short way of passes lets through nothing that the long one stops.
func TestEverydayHeaders(t *testing.T) {
	for _, name := range []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Length", "Content-Type", "Origin", "Pragma", "Priority", "Referer",
		"Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User", "Upgrade-Insecure-Requests", "User-Agent", "X-Requested-With", "X-Roundcube-Request",
	} {
		if !passes(name) || claimed(name) {
			t.Errorf("%s: passes %v, claimed %v", name, passes(name), claimed(name))
		}
	}
	for _, word := range claims() {
		if passes(http.CanonicalHeaderKey(word)) {
			t.Errorf("%s passes", word)
		}
	}
}

package gateway

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// ticketOf is the user and the token that the upstream was shown.
func ticketOf(t *testing.T, e echo) (user, token string) {
	t.Helper()
	all := e.Header["Authorization"]
	if len(all) != 1 || !strings.HasPrefix(all[0], "Basic ") {
		t.Fatalf("Authorization %q", all)
	}
	pair, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(all[0], "Basic "))
	if err != nil {
		t.Fatal(err)
	}
	user, password, _ := strings.Cut(string(pair), ":")
	token, ok := strings.CutPrefix(password, "Bearer llat_")
	if !ok {
		t.Fatalf("the password is %.12q…", password)
	}
	return user, "llat_" + token
}

// From nothing to the web mail, and where the person wanted to go.
func TestSignIn(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	resp := s.open("/?_task=mail&_uid=7")
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/?_task=mail&_uid=7" {
		t.Fatalf("%d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	e := s.echoed(s.get("/?_task=mail&_uid=7"))
	user, token := ticketOf(t, e)
	if user != "ann@try.test" || e.URI != "/?_task=mail&_uid=7" {
		t.Errorf("%s at %s", user, e.URI)
	}
	if _, known := b.store.tokens[identity.DigestOf(token)]; !known {
		t.Error("the token is nobody's")
	}
	if n := len(b.store.events); n != 1 || b.store.events[0].Kind != "webmail.opened" {
		t.Errorf("the trail has %+v", b.store.events)
	}
	for _, g := range b.store.grants {
		if g.Client != "gateway:webmail" || strings.Join(g.Scopes, " ") != "imap smtp" {
			t.Errorf("grant %+v", g)
		}
	}
}

// A code is good once, in the browser that began, and for this gateway.
func TestHandover(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	victim, thief := b.surfer(), b.surfer()
	codeFor := func(s *surfer) string {
		to := s.get("/").Header.Get("Location")
		w := httptest.NewRecorder()
		b.pages.ServeHTTP(w, httptest.NewRequest(http.MethodGet, to, nil))
		return strings.TrimPrefix(w.Header().Get("Location"), b.gate.o.PublicURL)
	}
	stolen := codeFor(victim)
	thief.get("/") // begins, too
	if resp := thief.get(stolen); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a stolen code: %d", resp.StatusCode)
	}
	// Planted: the thief's own code in the victim's browser would sign the victim in as the thief.
	if resp := victim.get(codeFor(thief)); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a planted code: %d", resp.StatusCode)
	}
	if resp := victim.get(stolen); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the victim's own code: %d", resp.StatusCode)
	}
	late := b.surfer()
	late.jar = map[string]string{}
	if resp := late.get(stolen); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a used code: %d", resp.StatusCode)
	}
	for _, query := range []string{"", "state=", "state=short", "state=" + strings.Repeat("A", 43) + "&state=" + strings.Repeat("A", 43), "state=" + strings.Repeat("!", 43), "%zz"} {
		w := httptest.NewRecorder()
		b.pages.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/gateway/webmail?"+query, nil))
		if to := w.Header().Get("Location"); to != b.gate.o.PublicURL+"/" {
			t.Errorf("query %q leads to %s", query, to)
		}
	}
}

// Nobody is led elsewhere by "back".
func TestBackStaysHere(t *testing.T) {
	for _, back := range []string{"//evil.test", "/\\evil.test", "https://evil.test", "/__letterlock/out", "/%2f/evil.test", "javascript:alert(1)"} {
		if _, got, ok := readBegin("state=" + commitment("x") + "&back=" + strings.NewReplacer("%", "%25", "\\", "%5C").Replace(back)); !ok || got != "/" {
			t.Errorf("%s: %q, %v", back, got, ok)
		}
	}
}

// A token is renewed while it is good; of many requests at once one makes it.
func TestRenewal(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Recheck = time.Hour })
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	_, first := ticketOf(t, s.echoed(s.get("/")))
	b.later(4 * time.Minute)
	if _, same := ticketOf(t, s.echoed(s.get("/"))); same != first || b.store.issued != 1 {
		t.Errorf("renewed after four of ten minutes: %d tokens", b.store.issued)
	}
	b.later(time.Minute)
	tokens := make(chan string, 6)
	var wg sync.WaitGroup
	for range 6 {
		r := s.request(http.MethodGet, "/", "")
		r.Header.Set("Cookie", "letterlock-mail="+s.jar["letterlock-mail"])
		wg.Go(func() {
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			_, token := ticketOf(t, s.echoed(resp))
			tokens <- token
		})
	}
	wg.Wait()
	close(tokens)
	seen := map[string]int{}
	for token := range tokens {
		seen[token]++
	}
	if len(seen) != 1 || b.store.issued != 2 || seen[first] != 0 {
		t.Errorf("%d tokens for six requests, %d ever", len(seen), b.store.issued)
	}
	if _, still := b.store.tokens[identity.DigestOf(first)]; !still {
		t.Error("the token of those under way was taken away")
	}
	if b.store.asked > 2 {
		t.Errorf("the store was asked %d times", b.store.asked)
	}
}

// What ends a session is felt when it is asked for again, and that is within seconds.
func TestEnds(t *testing.T) {
	for name, end := range map[string]func(b *bench, s *surfer){
		"the grant is revoked":  func(b *bench, _ *surfer) { b.store.revokeAll() },
		"the sign-in has ended": func(b *bench, _ *surfer) { clear(b.store.signIns) },
		"the person is disabled": func(b *bench, _ *surfer) {
			b.store.people["ann"] = identity.Person{ID: "ann", Address: "ann@try.test", Disabled: b.now}
		},
		"nobody came for long": func(b *bench, _ *surfer) { b.later(12 * time.Hour) },
		"it is as old as a sign-in gets": func(b *bench, s *surfer) {
			for range 7 * 24 {
				b.later(time.Hour)
				s.get("/")
			}
		},
	} {
		b := newBench(t, nil)
		b.sit("ann")
		s := b.surfer()
		s.open("/")
		s.echoed(s.get("/"))
		end(b, s)
		b.later(b.gate.o.Recheck)
		if resp := s.get("/"); resp.StatusCode != http.StatusSeeOther {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
}

// Who closed the web mail on their page proves anew who they are before it opens again.
func TestRevokedNeedsProof(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	b.later(time.Minute)
	b.store.revokeAll()
	to := s.get("/").Header.Get("Location")
	ask := func() string {
		w := httptest.NewRecorder()
		b.pages.ServeHTTP(w, httptest.NewRequest(http.MethodGet, to, nil))
		return w.Header().Get("Location")
	}
	if at := ask(); !strings.HasPrefix(at, "/signin") || b.again != 1 {
		t.Errorf("led to %s, asked for proof %d times", at, b.again)
	}
	b.later(time.Minute)
	b.sit("ann")
	if at := ask(); !strings.HasPrefix(at, b.gate.o.PublicURL+"/__letterlock/in?code=") {
		t.Errorf("after the proof led to %s", at)
	}
}

// With the store away a session goes on as long as its token; then it is "later", never "no".
func TestStoreAway(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	s.echoed(s.get("/"))
	b.store.away = true
	b.later(9 * time.Minute)
	s.echoed(s.get("/"))
	b.later(time.Minute)
	resp := s.get("/")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || s.jar["letterlock-mail"] == "" {
		t.Errorf("%d", resp.StatusCode)
	}
	b.store.away = false
	s.echoed(s.get("/"))
}

// The log-out ends the session, its tokens and the sign-in, and takes all cookies.
func TestLogOut(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	s.echoed(s.get("/"))
	s.jar["roundcube_sessid"] = "x"
	stolen := s.jar["letterlock-mail"]
	for _, site := range []string{"cross-site", "same-site"} {
		if resp := s.get("/__letterlock/out", "Sec-Fetch-Site", site); resp.StatusCode != http.StatusOK || s.jar["letterlock-mail"] == "" {
			t.Fatalf("another site signed the person out: %d", resp.StatusCode)
		}
	}
	if resp := s.get("/__letterlock/out", "Sec-Fetch-Site", "same-origin"); resp.StatusCode != http.StatusOK {
		t.Errorf("%d", resp.StatusCode)
	}
	if len(s.jar) != 0 || len(b.store.sessions) != 0 || len(b.store.tokens) != 0 || len(b.store.signIns) != 0 {
		t.Errorf("left: cookies %v, %d sessions, %d tokens, %d sign-ins", s.jar, len(b.store.sessions), len(b.store.tokens), len(b.store.signIns))
	}
	s.jar["letterlock-mail"] = stolen
	if resp := s.get("/"); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the old cookie: %d", resp.StatusCode)
	}
	for method, want := range map[string]int{http.MethodDelete: http.StatusMethodNotAllowed, http.MethodPost: http.StatusOK} {
		if resp := s.do(s.request(method, "/__letterlock/out", "")); resp.StatusCode != want {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
	}
}

// An ended session is said in the way of whoever asks.
func TestEndedAnswers(t *testing.T) {
	b := newBench(t, nil)
	s := b.surfer()
	for _, c := range []struct {
		name, method string
		headers      []string
		want         int
		holds        string
	}{
		{"a page", "GET", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 303, ""},
		{"an old browser", "GET", nil, 303, ""},
		{"Roundcube's script", "GET", []string{"X-Requested-With", "XMLHttpRequest"}, 200, `this.session_error(\"/\")`},
		{"fetch", "GET", []string{"Sec-Fetch-Mode", "cors"}, 401, `"session_ended"`},
		{"a picture", "GET", []string{"Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, 401, "session_ended"},
		{"a message that is sent", "POST", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe", "Sec-Fetch-Site", "same-origin"}, 401, "parent.rcmail"},
		{"a form", "POST", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", "same-origin"}, 401, "Go back in your browser"},
		{"a WebSocket", "GET", []string{"Connection", "Upgrade", "Upgrade", "websocket", "Origin", b.gate.o.PublicURL}, 401, "session_ended"},
	} {
		resp := s.do(s.request(c.method, "/?_task=mail&_action=refresh", "", c.headers...))
		body := new(strings.Builder)
		if err := resp.Write(body); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.want || !strings.Contains(body.String(), c.holds) {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, body)
		}
		if resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control %q", c.name, resp.Header.Get("Cache-Control"))
		}
	}
	if b.arrivals() != 0 {
		t.Error("the web mail was asked without a session")
	}
}

// A watch calls back whenever somebody waits for it.
type watch struct {
	context.Context
	asked func()
}

func (w watch) Done() <-chan struct{} {
	w.asked()
	return w.Context.Done()
}

// A mailbox gets another name while a request is on its way: the request goes on with the
// token it was given, and the next one has the new name.
func TestRenamedMeanwhile(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	e, err := b.gate.sessions.find(t.Context(), s.jar["letterlock-mail"])
	if err != nil || e == nil {
		t.Fatal(err)
	}
	r := s.request(http.MethodGet, "/", "", "Cookie", "letterlock-mail="+s.jar["letterlock-mail"])
	r.RemoteAddr, r.RequestURI = "127.0.0.1:9", "/"
	w := httptest.NewRecorder()
	b.gate.ServeHTTP(w, r.WithContext(watch{r.Context(), func() { e.ticket.Store(nil) }}))
	if user, _ := ticketOf(t, s.echoed(w.Result())); user != "ann@try.test" {
		t.Errorf("the request under way: %q", user)
	}
}

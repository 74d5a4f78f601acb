package web

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// memory is a session store; down makes every call fail as a database does.
type memory struct {
	sessions map[identity.SessionID]identity.Session
	person   identity.Person
	down     bool
	touched  int
	tries    int // of a transaction that are for nothing
}

func (m *memory) AddSession(_ context.Context, s identity.Session) error {
	if m.down {
		return identity.ErrUnavailable
	}
	m.sessions[s.ID] = s
	return nil
}

func (m *memory) Session(_ context.Context, id identity.SessionID, now time.Time) (identity.Session, identity.Person, error) {
	s, ok := m.sessions[id]
	switch {
	case m.down:
		return s, m.person, identity.ErrUnavailable
	case !ok || !now.Before(s.Expires):
		return s, m.person, identity.ErrNotFound
	}
	return s, m.person, nil
}

func (m *memory) TouchSession(_ context.Context, id identity.SessionID, at time.Time) error {
	s := m.sessions[id]
	s.Seen = at
	m.sessions[id] = s
	m.touched++
	return nil
}

func (m *memory) EndSession(_ context.Context, id identity.SessionID) error {
	if m.down {
		return identity.ErrUnavailable
	}
	delete(m.sessions, id)
	return nil
}

// Together undoes what came before an error of do. Nobody else is at work here.
func (m *memory) Together(ctx context.Context, do func(context.Context) error) error {
	before := maps.Clone(m.sessions)
	for range m.tries {
		if err := do(ctx); err != nil {
			return err
		}
		m.sessions = maps.Clone(before)
	}
	err := do(ctx)
	if err != nil {
		m.sessions = before
	}
	return err
}

// A desk is a browser in front of sessions, with a clock.
type desk struct {
	t        *testing.T
	sessions *Sessions
	store    *memory
	now      time.Time
	jar      map[string]string
}

func newDesk(t *testing.T, public string) *desk {
	t.Helper()
	d := &desk{t: t, store: &memory{sessions: map[identity.SessionID]identity.Session{}}, now: time.Unix(1_800_000_000, 0), jar: map[string]string{}}
	d.store.person = identity.Person{ID: "p1", Address: "ann@example.org"}
	var err error
	d.sessions, err = NewSessions(SessionOptions{
		Store: d.store, PublicURL: public, FormKey: FormKey("0123456789abcdef"),
		Now: func() time.Time { return d.now }, Random: rand.Reader, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://mail.test/x?y=1", nil)
	for name, value := range d.jar {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

func (d *desk) keep(w *httptest.ResponseRecorder) []*http.Cookie {
	cookies := w.Result().Cookies()
	for _, c := range cookies {
		if c.MaxAge < 0 {
			delete(d.jar, c.Name)
		} else {
			d.jar[c.Name] = c.Value
		}
	}
	return cookies
}

func (d *desk) signIn() identity.Session {
	d.t.Helper()
	w := httptest.NewRecorder()
	s, err := d.sessions.Start(w, d.request(), identity.Session{Person: "p1", How: "test"})
	if err != nil {
		d.t.Fatal(err)
	}
	d.keep(w)
	return s
}

func (d *desk) signedIn() bool {
	_, _, ok := d.sessions.Current(d.request())
	return ok
}

func TestSessionCookie(t *testing.T) {
	for public, want := range map[string]string{
		"https://mail.test":     "__Host-letterlock=",
		"http://127.0.0.1:8480": "letterlock=",
	} {
		d := newDesk(t, public)
		w := httptest.NewRecorder()
		if _, err := d.sessions.Start(w, d.request(), identity.Session{Person: "p1"}); err != nil {
			t.Fatal(err)
		}
		set := w.Header().Get("Set-Cookie")
		if !strings.HasPrefix(set, want) || !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "SameSite=Lax") ||
			!strings.Contains(set, "Path=/;") || strings.Contains(set, "Domain") || strings.Contains(set, "Secure") != strings.HasPrefix(public, "https") {
			t.Errorf("%s: %s", public, set)
		}
		value := w.Result().Cookies()[0].Value
		if len(value) != 43 {
			t.Errorf("%d characters are not 256 bits", len(value))
		}
		for id := range d.store.sessions {
			if id != identity.DigestOf(value) {
				t.Error("the store holds something else than the digest of the id")
			}
		}
	}
}

// The id that a browser had before it signed in is worth nothing after, whoever put it
// there, and each change of rights brings a new one.
func TestFixation(t *testing.T) {
	d := newDesk(t, "https://mail.test")
	d.jar["__Host-letterlock"] = "planted-by-somebody-else-000000000000000000"
	first := d.signIn()
	planted := identity.DigestOf("planted-by-somebody-else-000000000000000000")
	if _, there := d.store.sessions[planted]; there || first.ID == planted {
		t.Error("a planted id is in use")
	}
	old := d.jar["__Host-letterlock"]
	w := httptest.NewRecorder()
	d.now = d.now.Add(time.Hour)
	second, err := d.sessions.Renew(w, d.request(), func(s *identity.Session) { s.Admin = true })
	if err != nil {
		t.Fatal(err)
	}
	d.keep(w)
	if second.ID == first.ID || !second.Admin || !second.Expires.Equal(first.Expires) || !second.Created.Equal(first.Created) {
		t.Errorf("renewed %+v", second)
	}
	if !d.signedIn() {
		t.Error("signed out by a change of rights")
	}
	d.jar["__Host-letterlock"] = old
	if d.signedIn() {
		t.Error("the id from before the change of rights is still good")
	}
}

func TestSessionLifetimes(t *testing.T) {
	d := newDesk(t, "https://mail.test")
	d.signIn()
	d.now = d.now.Add(12*time.Hour - time.Second)
	if !d.signedIn() {
		t.Error("ended before its idle time")
	}
	if !d.signedIn() || d.store.touched != 1 {
		t.Errorf("touched %d times within a minute", d.store.touched)
	}
	d.now = d.now.Add(12 * time.Hour)
	if d.signedIn() || len(d.store.sessions) != 0 {
		t.Error("an idle session lives")
	}
	d.signIn()
	for range 7*24 - 1 {
		d.now = d.now.Add(time.Hour)
		if !d.signedIn() {
			t.Fatal("a session in use ended before its time")
		}
	}
	d.now = d.now.Add(time.Hour)
	if d.signedIn() {
		t.Error("a session in use outlives its absolute lifetime")
	}
	d.signIn()
	d.store.person.Disabled = d.now
	if d.signedIn() {
		t.Error("a disabled person is signed in")
	}
}

func TestSignOut(t *testing.T) {
	d := newDesk(t, "https://mail.test")
	d.signIn()
	stolen := d.jar["__Host-letterlock"]
	w := httptest.NewRecorder()
	if err := d.sessions.End(w, d.request()); err != nil {
		t.Fatal(err)
	}
	d.keep(w)
	if len(d.jar) != 0 {
		t.Error("the cookie stays")
	}
	d.jar["__Host-letterlock"] = stolen
	if d.signedIn() {
		t.Error("the session outlives the sign-out")
	}
}

// TestAlong: a session starts and ends with what goes along, or not at all; a transaction that
// is tried again makes one session and one cookie.
func TestAlong(t *testing.T) {
	d := newDesk(t, "https://mail.test")
	d.signIn()
	first, refused := maps.Clone(d.store.sessions), errors.New("no audit trail")
	fail := func(context.Context) error { return refused }
	w := httptest.NewRecorder()
	if _, err := d.sessions.Start(w, d.request(), identity.Session{Person: "p1"}, fail); !errors.Is(err, refused) || len(w.Result().Cookies()) != 0 {
		t.Errorf("started: %v, %v", err, w.Result().Cookies())
	}
	if err := d.sessions.End(w, d.request(), fail); !errors.Is(err, refused) {
		t.Errorf("ended: %v", err)
	}
	if !maps.Equal(first, d.store.sessions) {
		t.Error("something has changed without what goes along")
	}
	d.store.tries, w = 2, httptest.NewRecorder()
	done := 0
	_, err := d.sessions.Start(w, d.request(), identity.Session{Person: "p1"}, func(context.Context) error { done++; return nil })
	if err != nil || done != 3 || len(w.Result().Cookies()) != 1 || len(d.store.sessions) != 1 || maps.Equal(first, d.store.sessions) {
		t.Errorf("tried again: %v, %d times, cookies %v, sessions %v", err, done, w.Result().Cookies(), d.store.sessions)
	}
}

// Two cookies of one name: one of them was put there by somebody else.
func TestTwoCookies(t *testing.T) {
	d := newDesk(t, "http://127.0.0.1:8480")
	d.signIn()
	r := d.request()
	r.AddCookie(&http.Cookie{Name: "letterlock", Value: "another"})
	if _, _, ok := d.sessions.Current(r); ok {
		t.Error("one of two cookies was believed")
	}
}

func TestSessionHandler(t *testing.T) {
	d := newDesk(t, "https://mail.test")
	d.signIn()
	page := d.sessions.Handler(d.sessions.SignedIn(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, person, _ := d.sessions.Current(r)
		_, _ = w.Write([]byte(person.Address))
	})))
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, d.request())
		return w
	}
	if w := get(); w.Body.String() != "ann@example.org" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	d.store.down = true
	if w := get(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("with the database away: %d", w.Code)
	}
	d.store.down = false
	d.jar = map[string]string{}
	if w := get(); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/signin?back=%2Fx%3Fy%3D1" {
		t.Errorf("nobody: %d %s", w.Code, w.Header().Get("Location"))
	}
}

func TestFormToken(t *testing.T) {
	d := newDesk(t, "https://mail.test")
	if token := d.sessions.FormToken(d.request(), "revoke", "x"); token != "" || d.sessions.ValidForm(d.request(), "", "revoke", "x") {
		t.Error("a form without a session")
	}
	d.signIn()
	token := d.sessions.FormToken(d.request(), "revoke", "x")
	if !d.sessions.ValidForm(d.request(), token, "revoke", "x") || d.sessions.ValidForm(d.request(), token, "revoke", "y") {
		t.Error("the token is not that of its form")
	}
	d.signIn()
	if d.sessions.ValidForm(d.request(), token, "revoke", "x") {
		t.Error("a form of an earlier session is valid")
	}
}

func TestOwnForms(t *testing.T) {
	d := newDesk(t, "https://mail.test")
	page := d.sessions.OwnForms(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, c := range []struct {
		method, site, origin string
		want                 int
	}{
		{"POST", "same-origin", "https://mail.test", 200},
		{"POST", "none", "", 200},
		{"POST", "", "https://mail.test", 200},
		{"GET", "cross-site", "https://evil.test", 200},
		{"POST", "cross-site", "https://evil.test", 403},
		{"POST", "same-site", "https://other.mail.test", 403},
		{"POST", "", "https://evil.test", 403},
		{"POST", "", "null", 403},
		{"DELETE", "cross-site", "", 403},
	} {
		r := httptest.NewRequest(c.method, "https://mail.test/x", nil)
		r.Header.Set("Sec-Fetch-Site", c.site)
		if c.site == "" {
			r.Header.Del("Sec-Fetch-Site")
		}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%+v: %d", c, w.Code)
		}
	}
}

func TestOnlyHosts(t *testing.T) {
	page := OnlyHosts(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "mail.test", "mail.test:8443")
	for host, want := range map[string]int{"mail.test": 200, "MAIL.test": 200, "mail.test:8443": 200, "evil.test": 421, "mail.test.evil.test": 421, "": 421} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
	}
}

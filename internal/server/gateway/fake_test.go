package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A memory is a store that can go away.
type memory struct {
	mu       sync.Mutex
	away     bool
	now      func() time.Time
	people   map[identity.PersonID]identity.Person
	signIns  map[string]bool // person and moment
	sessions map[identity.Digest]identity.MailSession
	grants   map[identity.GrantID]identity.Grant
	tokens   map[identity.Digest]identity.Digest // token to session
	issued   int
	asked    int
	once     map[identity.Digest][]byte
	events   []identity.Event
	mute     bool // the audit trail cannot be written
	again    int  // how often a transaction is tried for nothing
}

var errAway = errors.New("away")

func signInKey(person identity.PersonID, began time.Time) string {
	return string(person) + began.UTC().String()
}

func (m *memory) lock() func() { m.mu.Lock(); return m.mu.Unlock }

// inside marks the context of a transaction, which has the lock.
type inside struct{}

func (m *memory) within(ctx context.Context) (unlock func()) {
	if ctx.Value(inside{}) != nil {
		return func() {}
	}
	return m.lock()
}

// Together undoes what came before an error of do, and is tried again as often as again says.
func (m *memory) Together(ctx context.Context, do func(context.Context) error) error {
	defer m.lock()()
	if m.away {
		return errAway
	}
	signIns, sessions, grants := maps.Clone(m.signIns), maps.Clone(m.sessions), maps.Clone(m.grants)
	tokens, once, events := maps.Clone(m.tokens), maps.Clone(m.once), slices.Clone(m.events)
	for again := m.again; ; again-- {
		err := do(context.WithValue(ctx, inside{}, true))
		if err == nil && again == 0 {
			return nil
		}
		m.signIns, m.sessions, m.grants = maps.Clone(signIns), maps.Clone(sessions), maps.Clone(grants)
		m.tokens, m.once, m.events = maps.Clone(tokens), maps.Clone(once), slices.Clone(events)
		if err != nil {
			return err
		}
	}
}

func (m *memory) OpenMailSession(ctx context.Context, s identity.MailSession, grant identity.Grant) (identity.MailSession, error) {
	defer m.within(ctx)()
	if m.away {
		return s, errAway
	}
	if !m.signIns[signInKey(s.Person, s.Began)] {
		return s, identity.ErrNotFound
	}
	s.Grant = grant.ID
	for id, g := range m.grants {
		if g.Person == s.Person && g.Client == grant.Client && g.Revoked.IsZero() {
			s.Grant = id
		}
	}
	if _, there := m.grants[s.Grant]; !there {
		m.grants[grant.ID] = grant
	}
	m.sessions[s.ID] = s
	return s, nil
}

func (m *memory) find(id identity.Digest) (identity.MailSession, error) {
	s, there := m.sessions[id]
	if !there || !m.signIns[signInKey(s.Person, s.Began)] || !m.grants[s.Grant].Revoked.IsZero() || !m.now().Before(s.Expires) {
		return s, identity.ErrNotFound
	}
	return s, nil
}

func (m *memory) MailSession(ctx context.Context, id identity.Digest, _ time.Time) (identity.MailSession, identity.Person, error) {
	defer m.within(ctx)()
	m.asked++
	if m.away {
		return identity.MailSession{}, identity.Person{}, errAway
	}
	s, err := m.find(id)
	return s, m.people[s.Person], err
}

func (m *memory) TouchMailSession(ctx context.Context, id identity.Digest, at time.Time) error {
	defer m.within(ctx)()
	s := m.sessions[id]
	s.Seen = at
	m.sessions[id] = s
	return nil
}

func (m *memory) EndMailSession(ctx context.Context, id identity.Digest, _ time.Time, signIn bool) error {
	defer m.within(ctx)()
	if m.away {
		return errAway
	}
	if s, there := m.sessions[id]; there && signIn {
		delete(m.signIns, signInKey(s.Person, s.Began))
	}
	for token, session := range m.tokens {
		if session == id {
			delete(m.tokens, token)
		}
	}
	delete(m.sessions, id)
	return nil
}

func (m *memory) IssueMail(ctx context.Context, session identity.Digest, access identity.AccessToken) error {
	defer m.within(ctx)()
	if m.away {
		return errAway
	}
	if _, err := m.find(session); err != nil {
		return err
	}
	m.tokens[access.Digest] = session
	m.issued++
	return nil
}

func (m *memory) GrantsOf(ctx context.Context, person identity.PersonID) ([]identity.Grant, error) {
	defer m.within(ctx)()
	var all []identity.Grant
	for _, g := range m.grants {
		if g.Person == person {
			all = append(all, g)
		}
	}
	return all, nil
}

func (m *memory) PutOnce(ctx context.Context, d identity.Digest, _ string, data []byte, _ time.Time) error {
	defer m.within(ctx)()
	m.once[d] = data
	return nil
}

func (m *memory) TakeOnce(ctx context.Context, d identity.Digest, _ string, _ time.Time) ([]byte, error) {
	defer m.within(ctx)()
	data, there := m.once[d]
	if !there {
		return nil, identity.ErrNotFound
	}
	delete(m.once, d)
	return data, nil
}

func (m *memory) AddEvent(ctx context.Context, e identity.Event) error {
	defer m.within(ctx)()
	if m.mute {
		return errAway
	}
	m.events = append(m.events, e)
	return nil
}

func (m *memory) revokeAll() {
	defer m.lock()()
	for id, g := range m.grants {
		g.Revoked = m.now()
		m.grants[id] = g
	}
}

// echo is what the upstream got, as it tells.
type echo struct {
	Method, URI, Host string
	Header            http.Header
	Trailer           http.Header
	Body              string
}

// A bench is a gateway with an upstream that echoes what it gets, and the pages' side of it.
type bench struct {
	t     *testing.T
	now   time.Time
	nowMu sync.Mutex
	store *memory
	gate  *Gateway
	pages *http.ServeMux
	front *httptest.Server
	// who sits at the browser of the pages
	person  identity.Person
	session identity.Session
	again   int
	answer  http.HandlerFunc // in the echo's place
	got     int
}

func newBench(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC), pages: http.NewServeMux()}
	b.store = &memory{now: b.clock, people: map[identity.PersonID]identity.Person{}, signIns: map[string]bool{}, sessions: map[identity.Digest]identity.MailSession{},
		grants: map[identity.GrantID]identity.Grant{}, tokens: map[identity.Digest]identity.Digest{}, once: map[identity.Digest][]byte{}}
	upstream := httptest.NewServer(http.HandlerFunc(b.upstream))
	t.Cleanup(upstream.Close)
	at, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	b.front = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.gate.ServeHTTP(w, r) }))
	o := Options{
		Name: "webmail", PublicURL: "http://" + b.front.Listener.Addr().String(), PagesURL: "https://id.test", Upstream: at, Preset: Roundcube(),
		Store: b.store, Browser: b, Now: b.clock, Random: rand.Reader, Log: slog.New(slog.DiscardHandler),
		SignIn: func(w http.ResponseWriter, r *http.Request, back string, again bool) {
			if again {
				b.again++
			}
			http.Redirect(w, r, "/signin?back="+url.QueryEscape(back), http.StatusSeeOther)
		},
	}
	if change != nil {
		change(&o)
	}
	if b.gate, err = New(o); err != nil {
		t.Fatal(err)
	}
	b.gate.Register(b.pages)
	b.front.Start()
	t.Cleanup(b.front.Close)
	return b
}

func (b *bench) clock() time.Time {
	b.nowMu.Lock()
	defer b.nowMu.Unlock()
	return b.now
}

func (b *bench) later(d time.Duration) {
	b.nowMu.Lock()
	defer b.nowMu.Unlock()
	b.now = b.now.Add(d)
}

// Current implements Browser.
func (b *bench) Current(*http.Request) (identity.Session, identity.Person, bool) {
	return b.session, b.person, b.person.ID != ""
}

func (b *bench) upstream(w http.ResponseWriter, r *http.Request) {
	if b.answer != nil {
		b.answer(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.nowMu.Lock()
	b.got++
	b.nowMu.Unlock()
	_ = json.NewEncoder(w).Encode(echo{r.Method, r.RequestURI, r.Host, r.Header, r.Trailer, string(body)})
}

// arrivals is how many whole requests the upstream has seen since the last call.
func (b *bench) arrivals() int {
	b.nowMu.Lock()
	defer b.nowMu.Unlock()
	defer func() { b.got = 0 }()
	return b.got
}

// sit signs somebody in at the pages.
func (b *bench) sit(name string) {
	id := identity.PersonID(name)
	b.person = identity.Person{ID: id, Address: name + "@try.test"}
	b.session = identity.Session{ID: identity.DigestOf(name), Person: id, Created: b.clock(), Proved: b.clock()}
	defer b.store.lock()()
	b.store.people[id] = b.person
	b.store.signIns[signInKey(id, b.session.Created)] = true
}

// A surfer is a browser at the gateway.
type surfer struct {
	b   *bench
	jar map[string]string
}

func (b *bench) surfer() *surfer { return &surfer{b, map[string]string{}} }

func (s *surfer) do(r *http.Request) *http.Response {
	s.b.t.Helper()
	var pairs []string
	for name, value := range s.jar {
		pairs = append(pairs, name+"="+value)
	}
	slices.Sort(pairs)
	if have := r.Header.Get("Cookie"); have != "" {
		pairs = append(pairs, have)
	}
	if len(pairs) > 0 {
		r.Header.Set("Cookie", strings.Join(pairs, "; "))
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.b.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		s.b.t.Fatal(err)
	}
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 {
			delete(s.jar, c.Name)
		} else {
			s.jar[c.Name] = c.Value
		}
	}
	return resp
}

func (s *surfer) request(method, path, body string, headers ...string) *http.Request {
	s.b.t.Helper()
	r, err := http.NewRequestWithContext(s.b.t.Context(), method, s.b.gate.o.PublicURL+path, strings.NewReader(body))
	if err != nil {
		s.b.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
	}
	return r
}

func (s *surfer) get(path string, headers ...string) *http.Response {
	s.b.t.Helper()
	return s.do(s.request(http.MethodGet, path, "", headers...))
}

// open walks through the sign-in and returns the last answer.
func (s *surfer) open(path string) *http.Response {
	s.b.t.Helper()
	resp := s.get(path)
	to := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, "https://id.test/gateway/webmail?") {
		s.b.t.Fatalf("%s: %d to %s", path, resp.StatusCode, to)
	}
	w := httptest.NewRecorder()
	s.b.pages.ServeHTTP(w, httptest.NewRequest(http.MethodGet, to, nil))
	back, ok := strings.CutPrefix(w.Header().Get("Location"), s.b.gate.o.PublicURL)
	if !ok {
		s.b.t.Fatalf("the pages answer %d to %s", w.Code, w.Header().Get("Location"))
	}
	return s.get(back)
}

// echoed is what the upstream got.
func (s *surfer) echoed(resp *http.Response) echo {
	s.b.t.Helper()
	var e echo
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || resp.StatusCode != http.StatusOK {
		s.b.t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	return e
}

var _ Browser = (*web.Sessions)(nil)

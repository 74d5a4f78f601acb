package signin

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

const public = "https://id.example.org"

// keep is the store of one test. down makes it answer as a database that is away.
type keep struct {
	mu        sync.Mutex
	people    map[identity.PersonID]identity.Person
	addresses map[string]identity.Address
	bindings  map[[2]string]identity.Binding
	once      map[string][]byte
	expires   map[string]time.Time
	sessions  map[identity.SessionID]identity.Session
	events    []identity.Event
	down      bool
	now       func() time.Time
	starting  func() // what happens just before a session is kept
	mute      bool   // the audit trail cannot be written
	again     int    // how often a transaction is tried for nothing
}

func (k *keep) lock() func() { k.mu.Lock(); return k.mu.Unlock }

// Together undoes what came before an error of do. One visitor is at work at a time here.
func (k *keep) Together(ctx context.Context, do func(context.Context) error) error {
	people, addresses, bindings := maps.Clone(k.people), maps.Clone(k.addresses), maps.Clone(k.bindings)
	once, expires, sessions, events := maps.Clone(k.once), maps.Clone(k.expires), maps.Clone(k.sessions), slices.Clone(k.events)
	for again := k.again; ; again-- {
		err := do(ctx)
		if err == nil && again == 0 {
			return nil
		}
		k.people, k.addresses, k.bindings = maps.Clone(people), maps.Clone(addresses), maps.Clone(bindings)
		k.once, k.expires, k.sessions, k.events = maps.Clone(once), maps.Clone(expires), maps.Clone(sessions), slices.Clone(events)
		if err != nil {
			return err
		}
	}
}

func (k *keep) err(found bool) error {
	switch {
	case k.down:
		return identity.ErrUnavailable
	case !found:
		return identity.ErrNotFound
	}
	return nil
}

func (k *keep) Person(_ context.Context, id identity.PersonID) (identity.Person, error) {
	defer k.lock()()
	p, ok := k.people[id]
	return p, k.err(ok)
}

func (k *keep) PersonByAddress(_ context.Context, address string) (identity.Person, error) {
	defer k.lock()()
	for _, p := range k.people {
		if p.Address == address {
			return p, k.err(true)
		}
	}
	return identity.Person{}, k.err(false)
}

func (k *keep) AddPerson(_ context.Context, p identity.Person) error {
	defer k.lock()()
	if _, taken := k.addresses[p.Address]; taken {
		return identity.ErrExists
	}
	k.people[p.ID] = p
	return k.err(true)
}

func (k *keep) Address(_ context.Context, address string) (identity.Address, error) {
	defer k.lock()()
	a, ok := k.addresses[address]
	return a, k.err(ok)
}

func (k *keep) PutAddress(_ context.Context, a identity.Address) error {
	defer k.lock()()
	k.addresses[a.Address] = a
	return k.err(true)
}

func (k *keep) Binding(_ context.Context, issuer, subject string) (identity.Binding, error) {
	defer k.lock()()
	b, ok := k.bindings[[2]string{issuer, subject}]
	return b, k.err(ok)
}

func (k *keep) Bindings(_ context.Context, person identity.PersonID) ([]identity.Binding, error) {
	defer k.lock()()
	var all []identity.Binding
	for _, b := range k.bindings {
		if b.Person == person {
			all = append(all, b)
		}
	}
	return all, k.err(true)
}

func (k *keep) Bind(_ context.Context, b identity.Binding) error {
	defer k.lock()()
	key := [2]string{b.Issuer, b.Subject}
	if _, there := k.bindings[key]; there {
		return identity.ErrExists
	}
	k.bindings[key] = b
	return k.err(true)
}

func (k *keep) Confirm(_ context.Context, issuer, subject string, at time.Time) error {
	defer k.lock()()
	key := [2]string{issuer, subject}
	b, ok := k.bindings[key]
	b.Checked = at
	k.bindings[key] = b
	return k.err(ok)
}

func (k *keep) PutOnce(_ context.Context, d identity.Digest, kind string, data []byte, expires time.Time) error {
	defer k.lock()()
	k.once[kind+string(d[:])], k.expires[kind+string(d[:])] = data, expires
	return k.err(true)
}

func (k *keep) TakeOnce(_ context.Context, d identity.Digest, kind string, now time.Time) ([]byte, error) {
	defer k.lock()()
	data, ok := k.once[kind+string(d[:])]
	ok = ok && now.Before(k.expires[kind+string(d[:])])
	if !k.down {
		delete(k.once, kind+string(d[:]))
	}
	return data, k.err(ok)
}

func (k *keep) ReadOnce(_ context.Context, d identity.Digest, kind string, now time.Time) ([]byte, error) {
	defer k.lock()()
	data, ok := k.once[kind+string(d[:])]
	return data, k.err(ok && now.Before(k.expires[kind+string(d[:])]))
}

func (k *keep) Admins(context.Context) ([]identity.Person, error) {
	defer k.lock()()
	var all []identity.Person
	for _, p := range k.people {
		if p.Admin && p.Disabled.IsZero() {
			all = append(all, p)
		}
	}
	return all, k.err(true)
}

func (k *keep) AddEvent(_ context.Context, e identity.Event) error {
	defer k.lock()()
	if k.mute {
		return identity.ErrUnavailable
	}
	k.events = append(k.events, e)
	return k.err(true)
}

func (k *keep) AddSession(_ context.Context, s identity.Session) error {
	if k.starting != nil {
		k.starting()
	}
	defer k.lock()()
	if !k.people[s.Person].Disabled.IsZero() {
		return identity.ErrRevoked
	}
	k.sessions[s.ID] = s
	return k.err(true)
}

func (k *keep) Session(_ context.Context, id identity.SessionID, now time.Time) (identity.Session, identity.Person, error) {
	defer k.lock()()
	s, ok := k.sessions[id]
	return s, k.people[s.Person], k.err(ok && now.Before(s.Expires))
}

func (k *keep) TouchSession(context.Context, identity.SessionID, time.Time) error { return nil }

func (k *keep) EndSession(_ context.Context, id identity.SessionID) error {
	defer k.lock()()
	delete(k.sessions, id)
	return k.err(true)
}

// A house is a desk with its providers, store and clock.
type house struct {
	t        *testing.T
	store    *keep
	github   *fakegithub.Server
	at       string // where the fake GitHub is
	now      time.Time
	sessions *web.Sessions
	handler  http.Handler
	refuse   bool // what the throttle says
	misses   int  // what it was told
}

func (h *house) Ask(context.Context, netip.Addr) bool { return h.refuse }
func (h *house) Miss(context.Context, netip.Addr)     { h.misses++ }

type rule func(*GitHubOptions, *Entrance)

func newHouse(t *testing.T, rules ...rule) *house {
	t.Helper()
	h := &house{t: t, now: time.Unix(1_800_000_000, 0)}
	clock := func() time.Time { return h.now }
	h.store = &keep{people: map[identity.PersonID]identity.Person{}, addresses: map[string]identity.Address{}, bindings: map[[2]string]identity.Binding{},
		once: map[string][]byte{}, expires: map[string]time.Time{}, sessions: map[identity.SessionID]identity.Session{}, now: clock}
	h.github = fakegithub.New(clock, "app", "hush", public+"/signin/github/callback")
	server := httptest.NewServer(h.github)
	t.Cleanup(server.Close)
	h.at = server.URL
	o := GitHubOptions{Label: "GitHub", URL: server.URL, ClientID: "app", Secret: secret.New("hush"), HTTP: oauth.NewHTTPClient(oauth.HTTPOptions{}), Now: clock}
	e := Entrance{Name: "github", Label: "GitHub"}
	for _, r := range rules {
		r(&o, &e)
	}
	e.Provider = NewGitHub(o)
	h.serve(e)
	return h
}

func (h *house) serve(entrances ...Entrance) {
	h.t.Helper()
	clock := func() time.Time { return h.now }
	log := slog.New(slog.DiscardHandler)
	var err error
	h.sessions, err = web.NewSessions(web.SessionOptions{Store: h.store, PublicURL: public, FormKey: web.FormKey("0123456789abcdef"), Now: clock, Random: rand.Reader, Log: log})
	if err != nil {
		h.t.Fatal(err)
	}
	desk, err := New(Options{PublicURL: public, Domains: []string{"example.org"}, Entrances: entrances, Sessions: h.sessions, Store: h.store, Throttle: h, Now: clock, Random: rand.Reader, Log: log})
	if err != nil {
		h.t.Fatal(err)
	}
	mux := http.NewServeMux()
	desk.Register(mux)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		_, p, ok := h.sessions.Current(r)
		if !ok {
			http.Error(w, "nobody", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "home of "+p.Address+" at "+r.URL.Path)
	})
	h.handler = web.Headers(h.sessions.OwnForms(h.sessions.Handler(mux)))
}

// person adds somebody with a mailbox.
func (h *house) person(address string) identity.Person {
	p := identity.Person{ID: identity.PersonID("id-" + address), Address: address}
	h.store.people[p.ID] = p
	return p
}

// A browser has its own cookies. It follows redirects, ours in process and others over
// the network, until an answer is none or leads to a place in stop.
type browser struct {
	h    *house
	jar  map[string]string
	path []string // where it has been
}

func (h *house) browser() *browser { return &browser{h: h, jar: map[string]string{}} }

type seen struct {
	code   int
	at     string
	body   string
	header http.Header
}

func (b *browser) one(method, target string, form url.Values) seen {
	b.h.t.Helper()
	b.path = append(b.path, target)
	if !strings.HasPrefix(target, public) {
		client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		res, err := client.Get(target)
		if err != nil {
			b.h.t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		body, _ := io.ReadAll(res.Body)
		return seen{res.StatusCode, target, string(body), res.Header}
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequest(method, target, body)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for name, value := range b.jar {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.h.handler.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.jar, c.Name)
		} else {
			b.jar[c.Name] = c.Value
		}
	}
	return seen{w.Code, target, w.Body.String(), w.Header()}
}

// walk goes on until a page is shown, or until the next step would be to a place that has
// stop in it: then it returns without going there.
func (b *browser) walk(target, stop string) seen {
	b.h.t.Helper()
	for range 12 {
		if strings.HasPrefix(target, "/") {
			target = public + target
		}
		if stop != "" && strings.Contains(target, stop) {
			return seen{at: target}
		}
		s := b.one(http.MethodGet, target, nil)
		next := s.header.Get("Location")
		if next == "" {
			return s
		}
		target = next
	}
	b.h.t.Fatalf("redirected too often: %v", b.path)
	return seen{}
}

// signIn goes the whole way.
func (b *browser) signIn() seen { b.h.t.Helper(); return b.walk("/signin", "") }

func (b *browser) signedIn() bool {
	return strings.HasPrefix(b.one(http.MethodGet, public+"/", nil).body, "home of ")
}

func (h *house) kinds() string {
	var all []string
	for _, e := range h.store.events {
		all = append(all, e.Kind)
	}
	return strings.Join(all, " ")
}

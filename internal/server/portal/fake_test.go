package portal

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A memory is a store in memory. away makes it unreachable.
type memory struct {
	people      map[identity.PersonID]identity.Person
	credentials []identity.Credential
	grants      []identity.Grant
	sessions    []identity.Session
	addresses   map[string]identity.Address
	events      []identity.Event
	bans        []identity.Ban
	bindings    []identity.Binding
	held        []identity.Held
	away        bool
	down        bool // as away, but browsers are known still
}

var errAway = fmt.Errorf("memory: %w", identity.ErrUnavailable)

func (m *memory) ask() error {
	if m.away || m.down {
		return errAway
	}
	return nil
}

func (m *memory) AddCredential(_ context.Context, c identity.Credential) error {
	for _, old := range m.credentials {
		if old.Person == c.Person && old.Name == c.Name && old.Revoked.IsZero() {
			return identity.ErrExists
		}
	}
	if _, taken := m.addresses[identity.LoginName(m.people[c.Person].Address, c.Name)]; taken {
		return identity.ErrExists
	}
	m.credentials = append(m.credentials, c)
	return m.ask()
}

func (m *memory) Credentials(_ context.Context, person identity.PersonID) (list []identity.Credential, err error) {
	for _, c := range m.credentials {
		if c.Person == person {
			list = append(list, c)
		}
	}
	return list, m.ask()
}

func (m *memory) RevokeCredential(_ context.Context, id identity.CredentialID, at time.Time, reason string) error {
	for i := range m.credentials {
		if m.credentials[i].ID == id && m.credentials[i].Revoked.IsZero() {
			m.credentials[i].Revoked, m.credentials[i].Reason = at, reason
		}
	}
	return m.ask()
}

func (m *memory) Grant(_ context.Context, id identity.GrantID) (identity.Grant, error) {
	for _, g := range m.grants {
		if g.ID == id {
			return g, m.ask()
		}
	}
	return identity.Grant{}, identity.ErrNotFound
}

func (m *memory) GrantsOf(_ context.Context, person identity.PersonID) (list []identity.Grant, err error) {
	for _, g := range m.grants {
		if g.Person == person {
			list = append(list, g)
		}
	}
	return list, m.ask()
}

func (m *memory) RevokeGrant(_ context.Context, id identity.GrantID, at time.Time, reason string) error {
	for i := range m.grants {
		if m.grants[i].ID == id {
			m.grants[i].Revoked, m.grants[i].Reason = at, reason
		}
	}
	return m.ask()
}

func (m *memory) AllowAgain(_ context.Context, again identity.Grant) error {
	m.grants = append([]identity.Grant{again}, m.grants...)
	return m.ask()
}

func (m *memory) AddSession(_ context.Context, s identity.Session) error {
	m.sessions = append(m.sessions, s)
	return m.ask()
}

func (m *memory) Session(_ context.Context, id identity.SessionID, now time.Time) (identity.Session, identity.Person, error) {
	for _, s := range m.sessions {
		if s.ID == id && now.Before(s.Expires) {
			return s, m.people[s.Person], nil
		}
	}
	return identity.Session{}, identity.Person{}, identity.ErrNotFound
}

func (m *memory) TouchSession(context.Context, identity.SessionID, time.Time) error { return m.ask() }

func (m *memory) Sessions(_ context.Context, person identity.PersonID) (list []identity.Session, err error) {
	for _, s := range m.sessions {
		if s.Person == person {
			list = append(list, s)
		}
	}
	return list, m.ask()
}

func (m *memory) EndSession(_ context.Context, id identity.SessionID) error {
	m.sessions = slices.DeleteFunc(m.sessions, func(s identity.Session) bool { return s.ID == id })
	return m.ask()
}

func (m *memory) EndSessions(_ context.Context, person identity.PersonID) error {
	m.sessions = slices.DeleteFunc(m.sessions, func(s identity.Session) bool { return s.Person == person })
	return m.ask()
}

func (m *memory) list(keep func(identity.Address) bool) (list []identity.Address) {
	for _, a := range m.addresses {
		if keep(a) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b identity.Address) int { return strings.Compare(a.Address, b.Address) })
	return list
}

func (m *memory) AddressesOf(_ context.Context, person identity.PersonID) ([]identity.Address, error) {
	return m.list(func(a identity.Address) bool {
		return slices.ContainsFunc(a.Owners, func(o identity.Owner) bool { return o.Person == person })
	}), m.ask()
}

func (m *memory) Addresses(_ context.Context, after string, limit int) ([]identity.Address, error) {
	all := m.list(func(a identity.Address) bool { return a.Address > after })
	return all[:min(len(all), limit)], m.ask()
}

func (m *memory) Address(_ context.Context, address string) (identity.Address, error) {
	a, ok := m.addresses[address]
	if !ok {
		return a, identity.ErrNotFound
	}
	return a, m.ask()
}

func (m *memory) PutAddress(_ context.Context, a identity.Address) error {
	m.addresses[a.Address] = a
	return m.ask()
}

func (m *memory) DeleteAddress(_ context.Context, address string) error {
	if _, ok := m.addresses[address]; !ok {
		return identity.ErrNotFound
	}
	delete(m.addresses, address)
	return m.ask()
}

func (m *memory) Person(_ context.Context, id identity.PersonID) (identity.Person, error) {
	p, ok := m.people[id]
	if !ok {
		return p, identity.ErrNotFound
	}
	return p, m.ask()
}

func (m *memory) PersonByAddress(_ context.Context, address string) (identity.Person, error) {
	for _, p := range m.people {
		if p.Address == address {
			return p, m.ask()
		}
	}
	return identity.Person{}, identity.ErrNotFound
}

func (m *memory) People(_ context.Context, after string, limit int) (list []identity.Person, err error) {
	for _, p := range m.people {
		if p.Address > after {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b identity.Person) int { return strings.Compare(a.Address, b.Address) })
	return list[:min(len(list), limit)], m.ask()
}

func (m *memory) AddPerson(ctx context.Context, p identity.Person) error {
	if _, err := m.PersonByAddress(ctx, p.Address); err == nil {
		return identity.ErrExists
	}
	m.people[p.ID] = p
	return m.ask()
}

func (m *memory) DisablePerson(_ context.Context, id identity.PersonID, at time.Time, reason string) error {
	p := m.people[id]
	p.Disabled, p.Reason = at, reason
	m.people[id] = p
	return m.ask()
}

func (m *memory) EnablePerson(_ context.Context, id identity.PersonID) error {
	p, ok := m.people[id]
	if !ok {
		return identity.ErrNotFound
	}
	p.Disabled, p.Reason = time.Time{}, ""
	m.people[id] = p
	return m.ask()
}

func (m *memory) Bindings(context.Context, identity.PersonID) ([]identity.Binding, error) {
	return m.bindings, m.ask()
}

func (m *memory) Held(_ context.Context, after string, limit int) (list []identity.Held, err error) {
	for _, h := range m.held {
		if h.Address > after {
			list = append(list, h)
		}
	}
	return list[:min(len(list), limit)], m.ask()
}

func (m *memory) ReleaseHeld(_ context.Context, address string) error {
	before := len(m.held)
	m.held = slices.DeleteFunc(m.held, func(h identity.Held) bool { return h.Address == address })
	if len(m.held) == before {
		return identity.ErrNotFound
	}
	return m.ask()
}

// Together undoes nothing: the database's own tests look at that.
func (m *memory) Together(ctx context.Context, do func(context.Context) error) error { return do(ctx) }

func (m *memory) AddEvent(_ context.Context, e identity.Event) error {
	e.ID = fmt.Sprint(len(m.events))
	m.events = append(m.events, e)
	return m.ask()
}

func (m *memory) Events(_ context.Context, f identity.EventFilter) (list []identity.Event, err error) {
	for _, e := range slices.Backward(m.events) {
		if (f.Person == "" || e.Person == f.Person) && strings.HasPrefix(e.Kind, f.Kind) && (f.Before.IsZero() || e.At.Before(f.Before)) {
			list = append(list, e)
		}
	}
	return list[:min(len(list), f.Limit)], m.ask()
}

func (m *memory) Bans(context.Context) ([]identity.Ban, error) { return m.bans, m.ask() }

func (m *memory) PutBan(_ context.Context, b identity.Ban) error {
	m.bans = append(m.bans, b)
	return m.ask()
}

func (m *memory) DeleteBan(_ context.Context, network netip.Prefix) error {
	before := len(m.bans)
	m.bans = slices.DeleteFunc(m.bans, func(b identity.Ban) bool { return b.Network == network })
	if len(m.bans) == before {
		return identity.ErrNotFound
	}
	return m.ask()
}

func (m *memory) Generation(context.Context) (int64, error) { return 1, m.ask() }

// A mint makes app passwords without the slow hash.
type mint struct{ err error }

const minted = "k7m2q9-4hw8t-9n3xc-0v5gb-e1r7d-zk2y6p"

func (m mint) NewAppPassword(context.Context) (secret.String, string, string, error) {
	return secret.New(minted), "k7m2q9", "$argon2id$hash", m.err
}

// An echo remembers who is to be thrown out, and confirms nothing by itself.
type echo struct{ told []string }

func (e *echo) Revoke(users ...string) { e.told = append(e.told, users...) }

func (e *echo) Unconfirmed(users ...string) []string {
	for _, user := range users {
		if slices.Contains(e.told, user) {
			return []string{"mx1"}
		}
	}
	return nil
}

// A bench is the portal on a store in memory, with two people and an administrator.
type bench struct {
	t        *testing.T
	store    *memory
	push     *echo
	changed  int
	maker    mint
	handler  http.Handler
	sessions *web.Sessions
	now      time.Time
	log      strings.Builder
}

const (
	ann  identity.PersonID = "p-ann"
	bob  identity.PersonID = "p-bob"
	root identity.PersonID = "p-root"
)

func newBench(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	b := &bench{t: t, now: now, push: &echo{}, store: &memory{people: map[identity.PersonID]identity.Person{
		ann:  {ID: ann, Address: "ann@example.org", Name: "Ann", Created: now.Add(-time.Hour)},
		bob:  {ID: bob, Address: "bob@example.org", Name: "Bob", Created: now.Add(-time.Hour)},
		root: {ID: root, Address: "root@example.org", Name: "Root", Admin: true, Created: now.Add(-time.Hour)},
	}, addresses: map[string]identity.Address{}}}
	for id, p := range b.store.people {
		b.store.addresses[p.Address] = identity.Address{Address: p.Address, Owners: []identity.Owner{{Person: id, Roles: []identity.Role{identity.RoleLogin, identity.RoleSend}}}}
		b.signIn(string(id), identity.Session{Person: id, Proved: now.Add(-time.Minute), Admin: p.Admin, Agent: "Firefox on Linux", How: "github"})
	}
	log := slog.New(slog.NewTextHandler(&b.log, nil))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.log.String())
		}
	})
	sessions, err := web.NewSessions(web.SessionOptions{
		Store: b.store, PublicURL: "http://portal.test", FormKey: web.FormKey("a key of the tests that is long"),
		Now: func() time.Time { return b.now }, Random: zeros{}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Store: b.store, Browser: sessions, Maker: &b.maker, Push: b.push, Changed: func() { b.changed++ },
		Nodes: func() []Node {
			return []Node{{Name: "mx1", Waiting: len(b.push.told), Since: now, Error: "connection refused"}}
		},
		Lists: func() []List {
			return []List{{Name: "/etc/letterlock/drop.txt", Entries: 2, Faults: 3, Read: now}, {Name: "/etc/letterlock/gone.txt", Error: "no <such> file"}}
		},
		Client: func(id identity.ClientID) (identity.Client, bool) {
			return identity.Client{Name: "Client " + string(id)}, true
		},
		SignIn: func(w http.ResponseWriter, r *http.Request, back string, again bool) {
			http.Redirect(w, r, "/signin?"+url.Values{"back": {back}, "again": {fmt.Sprint(again)}}.Encode(), http.StatusSeeOther)
		},
		SignOut: "/signout", Domains: []string{"example.org", "example.net"},
		Servers: Servers{Name: "Example Project", IMAP: Server{"imap.example.org", 993, false}, SMTP: Server{"smtp.example.org", 587, true}},
		Now:     func() time.Time { return b.now }, Random: zeros{}, Log: log,
	}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.sessions = sessions
	mux := http.NewServeMux()
	p.Register(mux)
	b.handler = sessions.OwnForms(sessions.Handler(mux))
	return b
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// signIn keeps a session whose cookie is value.
func (b *bench) signIn(value string, s identity.Session) {
	s.ID, s.Created, s.Seen, s.Expires = identity.DigestOf(value), b.now.Add(-time.Hour), b.now, b.now.Add(24*time.Hour)
	s.From = netip.MustParseAddr("192.0.2.7")
	b.store.sessions = append(b.store.sessions, s)
}

func (b *bench) do(cookie string, r *http.Request) *httptest.ResponseRecorder {
	b.t.Helper()
	if cookie != "" {
		r.AddCookie(&http.Cookie{Name: "letterlock", Value: cookie})
	}
	r.Host = "portal.test"
	r.RemoteAddr = "198.51.100.9:1234"
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	for _, name := range []string{"Cache-Control", "Referrer-Policy", "X-Content-Type-Options"} {
		if w.Code < 300 && !strings.HasPrefix(r.URL.Path, "/.well-known/") && !strings.HasPrefix(r.URL.Path, "/mail/") && w.Header().Get(name) == "" {
			b.t.Errorf("%s %s: no %s", r.Method, r.URL, name)
		}
	}
	return w
}

func (b *bench) get(cookie identity.PersonID, path string) *httptest.ResponseRecorder {
	b.t.Helper()
	return b.do(string(cookie), httptest.NewRequest(http.MethodGet, path, nil))
}

func (b *bench) post(cookie identity.PersonID, path string, form url.Values) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(string(cookie), r)
}

// token finds the token of the form on a page that posts to action about id.
func (b *bench) token(cookie identity.PersonID, page, action, id string) string {
	b.t.Helper()
	w := b.get(cookie, page)
	hidden := ""
	if id != "" {
		hidden = `<input type="hidden" name="id" value="` + regexp.QuoteMeta(strings.ReplaceAll(id, "+", "&#43;")) + `">`
	}
	found := regexp.MustCompile(`action="` + regexp.QuoteMeta(action) + `"[^>]*>` + hidden + `<input type="hidden" name="token" value="([^"]+)">`).FindStringSubmatch(w.Body.String())
	if found == nil {
		b.t.Fatalf("%s shows no form for %s %s: %d", page, action, id, w.Code)
	}
	return found[1]
}

// send posts a form as the page shows it, with further fields.
func (b *bench) send(cookie identity.PersonID, page, action, id string, more url.Values) *httptest.ResponseRecorder {
	b.t.Helper()
	form := url.Values{"token": {b.token(cookie, page, action, id)}}
	if id != "" {
		form.Set("id", id)
	}
	for name, values := range more {
		form[name] = values
	}
	return b.post(cookie, action, form)
}

func (b *bench) kinds() (kinds []string) {
	for _, e := range b.store.events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

var (
	_ Store            = (*memory)(nil)
	_ web.SessionStore = (*memory)(nil)
	_ Maker            = (*credential.Door)(nil)
	_ Browser          = (*web.Sessions)(nil)
)

package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/authenticator"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A saboteur has the database refuse all lines of the audit trail, beside letterlockd's own
// connections, and sees everything that the database holds.
type saboteur struct {
	t                     *testing.T
	pool                  *sql.DB
	refuse, allow, tables string
}

func sabotageSQLite(t *testing.T, path string) *saboteur {
	t.Helper()
	pool, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	return &saboteur{t, pool, `CREATE TRIGGER no_audit BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'no audit'); END`, `DROP TRIGGER no_audit`,
		`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`}
}

func (s *saboteur) do(text string) {
	s.t.Helper()
	if _, err := s.pool.ExecContext(s.t.Context(), text); err != nil {
		s.t.Fatal(err)
	}
}

// rows are those of one query as text. When a browser was seen last is no right, nor when a
// provider last confirmed somebody, or a device asked.
func (s *saboteur) rows(text string) []string {
	s.t.Helper()
	rows, err := s.pool.QueryContext(s.t.Context(), text)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		s.t.Fatal(err)
	}
	var all []string
	for rows.Next() {
		row, into := make([]any, len(names)), make([]any, len(names))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			s.t.Fatal(err)
		}
		var line []string
		for i, name := range names {
			if name != "seen" && name != "checked" && name != "last_poll" {
				line = append(line, fmt.Sprintf("%v", row[i]))
			}
		}
		all = append(all, strings.Join(line, "|"))
	}
	if err := rows.Err(); err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// holds is all that the database holds, but for counters, which are no facts.
func (s *saboteur) holds() string {
	s.t.Helper()
	var all []string
	for _, table := range s.rows(s.tables) {
		if table != "counter" {
			all = append(all, table+":")
			all = append(all, slices.DeleteFunc(s.rows(`SELECT * FROM `+table), underWay)...)
		}
	}
	return strings.Join(all, "\n")
}

// underWay is of what a browser has begun and not done: it is no fact yet, and is taken once
// whatever comes of it.
func underWay(row string) bool {
	return strings.Contains(row, "|signin.flow|") || strings.Contains(row, "|factor.challenge|")
}

// step tries something twice: without an audit trail nothing at all may happen, and with it
// what is to happen, and its line.
func (s *saboteur) step(name, kind string, prepare func(), try func() error) {
	s.t.Helper()
	prepare()
	before := s.holds()
	s.do(s.refuse)
	err := try()
	s.do(s.allow)
	if err == nil {
		s.t.Errorf("%s: said to be done without an audit trail", name)
	}
	if after := s.holds(); after != before {
		s.t.Errorf("%s without an audit trail changed the database:\n%s", name, difference(before, after))
	}
	prepare()
	before = s.holds()
	if err := try(); err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	added := difference(before, s.holds())
	if !strings.Contains(added, "|"+kind+"|") || strings.Count(added, "\n") < 1 {
		s.t.Errorf("%s: want a change and a line %q, got\n%s", name, kind, added)
	}
}

func difference(before, after string) string {
	old, now := strings.Split(before, "\n"), strings.Split(after, "\n")
	var text strings.Builder
	for _, line := range old {
		if !slices.Contains(now, line) {
			text.WriteString("- " + line + "\n")
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			text.WriteString("+ " + line + "\n")
		}
	}
	return text.String()
}

// Each command that changes a right changes nothing when its line of the audit trail cannot
// be written.
func commandsAreWhole(t *testing.T, place string, sabotage func() *saboteur) {
	d := bareDesk(t, "http")
	t.Cleanup(func() { _ = d.listener.Close() })
	d.database = place
	d.configure("example.org", fmt.Sprintf("[signin.github]\ntype = \"github\"\nclient_id = \"app\"\nclient_secret_file = %q\norganization = 9919\n"+
		"[membership.github]\napp_id = \"4711\"\napp_key_file = %q\n", d.write("secret", "hush\n"), d.write("app.pem", "")))
	d.must("person", "add", "ann@example.org")
	d.must("client", "add", "old", "--name", "Old", "--redirect", "https://old.example.org/cb")
	ann, _, _ := d.person("ann@example.org")
	db, now := d.p.db, time.Now()
	issuer := issuerOf(d.p.conf.SignIn["github"])
	keep := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	session := func(name string) identity.Session {
		s := identity.Session{ID: identity.DigestOf(name), Person: ann.ID, How: "github", Created: now, Seen: now, Expires: now.Add(time.Hour)}
		keep(db.AddSession(t.Context(), s))
		return s
	}
	one := session("one")
	session("two")
	keep(db.Bind(t.Context(), identity.Binding{Issuer: issuer, Subject: "9", Person: ann.ID, Bound: now}),
		db.PutLeaver(t.Context(), identity.Leaver{Issuer: issuer, Subject: "9", Person: ann.ID, State: identity.LeaverWaiting, Since: now}),
		db.AddCode(t.Context(), identity.Grant{ID: "g", Person: ann.ID, Client: "old", Created: now}, identity.Code{Digest: identity.DigestOf("c"), Grant: "g", Expires: now}),
		db.AddPasskey(t.Context(), identity.Passkey{ID: []byte("key"), Person: ann.ID, Name: "ring", PublicKey: []byte("k"), Created: now}),
		db.PutTOTP(t.Context(), identity.TOTP{Person: ann.ID, Sealed: []byte("s"), Created: now}))
	removed(t, db, "left", "cyd@example.org")
	newcomers := d.write("people.csv", "address,name\nzoe@example.org,Zoe\n")
	s := sabotage()
	for _, c := range []struct{ kind, line string }{
		{"person.added", "person add bob@example.org"},
		{"person.added", "person import " + newcomers},
		{"signin.invited", "person invite bob@example.org"},
		{"person.admin", "person invite bob@example.org --admin"},
		{"signin.bound", "person bind bob@example.org --issuer https://op.test --subject 7"},
		{"signin.unbound", "person unbind bob@example.org --issuer https://op.test --subject 7"},
		{"credential.made", "credential make ann@example.org --label phone"},
		{"credential.revoked", "credential revoke ann@example.org phone"},
		{"address.changed", "address alias info@example.org ann@example.org"},
		{"address.changed", "address grant sales@example.org ann@example.org --role send"},
		{"address.changed", "address revoke sales@example.org ann@example.org --role send"},
		{"address.removed", "address remove info@example.org"},
		{"session.ended", "session end ann@example.org " + sessionID(one)},
		{"session.ended", "session end ann@example.org"},
		{"client.added", "client add new --name New --person ann@example.org --scope send-only"},
		{"grant.revoked", "client disable old"},
		{"client.removed", "client remove old"},
		{"ban.added", "ban add 192.0.2.0/24"},
		{"ban.removed", "ban remove 192.0.2.0/24"},
		{"factor.removed", "otp remove ann@example.org ring"},
		{"factor.removed", "otp remove ann@example.org app"},
		{"recovery.made", "otp reset-recovery ann@example.org"},
		{"factor.removed", "otp remove ann@example.org --all"},
		{"key.rotated", "key rotate --now"},
		{"membership.approved", "membership approve github"},
		{"person.disabled", "person disable ann@example.org"},
		{"person.enabled", "person enable ann@example.org"},
		{"person.removed", "person remove ann@example.org"},
		{"hold.released", "person release cyd@example.org"},
	} {
		s.step(c.line, c.kind, func() {}, func() error { _, err := d.run(strings.Fields(c.line)...); return err })
	}
}

// Each page that changes a right does the same.
func pagesAreWhole(t *testing.T, place string, sabotage func() *saboteur) {
	h := newHallOn(t, place, "")
	h.must("person", "add", "bob@example.org")
	h.must("person", "invite", "ann@example.org", "--admin")
	s := sabotage()
	v := h.visitor()
	v.github().want(200, "/")
	ann, _, _ := h.person("ann@example.org")
	bob, _, _ := h.person("bob@example.org")
	admin := func(page string) string { return "/admin/person/" + string(bob.ID) + page }
	now := h.p.now()
	for _, one := range []string{"one", "two"} {
		for _, p := range []identity.PersonID{ann.ID, bob.ID} {
			if err := h.p.db.AddSession(t.Context(), identity.Session{ID: identity.DigestOf(one + string(p)), Person: p, How: "github", Created: now, Seen: now, Expires: now.Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := h.p.db.AddCode(t.Context(), identity.Grant{ID: "g", Person: ann.ID, Client: "c", Scopes: []string{"imap"}, Created: now}, identity.Code{Digest: identity.DigestOf("c"), Grant: "g", Expires: now}); err != nil {
		t.Fatal(err)
	}
	h.must("credential", "make", "bob@example.org", "--label", "phone")
	removed(t, h.p.db, "left", "cyd@example.org")
	device, seed := authenticator.New(h.public), ""
	for _, c := range []struct {
		kind, page, action string
		pairs              []string
		send               func() // instead of the form
	}{
		{kind: "recovery.made", page: "/security", action: "/security/recovery"},
		{kind: "factor.added", page: "/security/app", action: "/security/app", send: func() {
			seed = seedOf(v.page)
			v.send("/security/app", "code", h.code(seed))
			h.later += time.Minute
		}},
		{kind: "factor.added", page: "/security/passkey", action: "/security/passkey", send: func() { v.make(device, "/security/passkey", "Ring") }},
		{kind: "factor.removed", page: "/security", action: "/security/passkey/remove"},
		{kind: "credential.made", page: "/passwords/new", action: "/passwords/new", pairs: []string{"label", "Phone", "protocol", "imap", "expires", "0"}},
		{kind: "credential.revoked", page: "/", action: "/passwords/revoke"},
		{kind: "grant.revoked", page: "/", action: "/grants/revoke"},
		{kind: "session.ended", page: "/", action: "/sessions/end"},
		{kind: "session.ended", page: "/", action: "/sessions/end-others"},
		{kind: "person.added", page: "/admin", action: "/admin/person/add", pairs: []string{"address", "zoe@example.org", "name", "Zoe"}},
		{kind: "credential.revoked", page: admin(""), action: "/admin/person/revoke"},
		{kind: "session.ended", page: admin(""), action: "/admin/person/end-sessions"},
		{kind: "person.disabled", page: admin(""), action: "/admin/person/disable", pairs: []string{"reason", "left"}},
		{kind: "person.enabled", page: admin(""), action: "/admin/person/enable"},
		{kind: "hold.released", page: "/admin", action: "/admin/held/release"},
		{kind: "address.changed", page: "/admin/addresses", action: "/admin/addresses/alias", pairs: []string{"alias-address", "info@example.org", "alias-targets", "ann@example.org"}},
		{kind: "address.changed", page: "/admin/addresses", action: "/admin/addresses/role", pairs: []string{"role-address", "sales@example.org", "role-person", "ann@example.org", "role", "send"}},
		{kind: "address.removed", page: "/admin/addresses", action: "/admin/addresses/remove"},
		{kind: "ban.added", page: "/admin/bans", action: "/admin/bans/add", pairs: []string{"network", "192.0.2.0/24", "list", "refuse", "days", "1"}},
		{kind: "ban.removed", page: "/admin/bans", action: "/admin/bans/remove"},
		{kind: "factor.removed", page: "/security", action: "/security/app/remove"},
	} {
		s.step(c.action, c.kind, func() {
			v.get(c.page)
			if v.at == "/signin/again" { // a factor is there by now, and its proof not yet
				h.later += time.Minute
				v.send("/signin/again", "code", h.code(seed)).get(c.page)
			}
			v.want(200, c.page)
		}, func() error {
			if c.send != nil {
				c.send()
			} else {
				v.send(c.action, c.pairs...)
			}
			if v.status != http.StatusOK {
				return fmt.Errorf("%d: %s", v.status, v.main())
			}
			return nil
		})
	}
}

// wholes are all that is to be whole, by what does it.
func wholes() map[string]func(t *testing.T, place string, sabotage func() *saboteur) {
	return map[string]func(*testing.T, string, func() *saboteur){
		"commands": commandsAreWhole, "pages": pagesAreWhole, "signins": signInsAreWhole, "programs": programsAreWhole, "gateway": gatewayIsWhole,
	}
}

func TestChangeAndTrailAreOne(t *testing.T) {
	for name, check := range wholes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "db")
			check(t, "sqlite:"+path, func() *saboteur { return sabotageSQLite(t, path) })
		})
	}
}

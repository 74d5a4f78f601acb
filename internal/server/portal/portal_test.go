package portal

import (
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// pages and actions are all there are; TestEveryPath holds the list to Register.
func pages() []string {
	return []string{"/", "/passwords/new", "/passwords/new?for=machine", "/addresses", "/activity"}
}

func adminPages() []string {
	return []string{"/admin", "/admin?q=ann", "/admin/person/p-ann", "/admin/addresses", "/admin/bans", "/admin/audit", "/admin/audit?kind=signin.&person=ann@example.org", "/admin/health"}
}

func actions() []string {
	return []string{"/passwords/new", "/passwords/revoke", "/grants/revoke", "/grants/again", "/sessions/end", "/sessions/end-others"}
}

func adminActions() []string {
	return []string{"/admin/person/add", "/admin/person/disable", "/admin/person/enable", "/admin/person/revoke", "/admin/person/end-sessions",
		"/admin/addresses/alias", "/admin/addresses/role", "/admin/addresses/remove", "/admin/bans/add", "/admin/bans/remove"}
}

func TestPagesAreWhole(t *testing.T) {
	b := newBench(t, nil)
	for _, path := range append(pages(), adminPages()...) {
		w := b.get(root, path)
		body := w.Body.String()
		if w.Code != http.StatusOK || !strings.HasSuffix(body, "</footer></body></html>\n") {
			t.Errorf("%s: %d, not whole: %.200s", path, w.Code, body)
		}
		for _, want := range []string{`<html lang="en">`, "<title>", "<h1>", `name="viewport"`, `<main id="main">`} {
			if !strings.Contains(body, want) {
				t.Errorf("%s has no %s", path, want)
			}
		}
		for _, never := range []string{"<script", "javascript:", "http://", "https://", "onclick", " style=", "ZgotmplZ", "<no value>"} {
			if strings.Contains(body, never) {
				t.Errorf("%s has %s", path, never)
			}
		}
		policy := w.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'sha256-"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %q lacks %s", path, policy, want)
			}
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be kept: %s", path, w.Header().Get("Cache-Control"))
		}
	}
}

// Who is not signed in, or not any more, is sent to sign in; nothing is shown or done.
func TestNobodyGetsIn(t *testing.T) {
	for name, spoil := range map[string]func(*bench) string{
		"no cookie":      func(*bench) string { return "" },
		"unknown cookie": func(*bench) string { return "somebody" },
		"expired":        func(b *bench) string { b.now = b.now.Add(48 * time.Hour); return string(root) },
		"disabled person": func(b *bench) string {
			_ = b.store.DisablePerson(t.Context(), root, b.now, "left")
			return string(root)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			cookie := identity.PersonID(spoil(b))
			for _, path := range append(pages(), adminPages()...) {
				w := b.get(cookie, path)
				if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/signin?again=false") {
					t.Errorf("GET %s: %d %s", path, w.Code, w.Header().Get("Location"))
				}
			}
			for _, path := range append(actions(), adminActions()...) {
				w := b.post(cookie, path, url.Values{"id": {string(ann)}, "token": {"x"}})
				if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/signin?again=false") {
					t.Errorf("POST %s: %d %s", path, w.Code, w.Header().Get("Location"))
				}
			}
			if len(b.store.events) > 0 {
				t.Errorf("something was done: %v", b.kinds())
			}
		})
	}
}

func TestFormsMustBeOurs(t *testing.T) {
	for name, spoil := range map[string]func(b *bench, form url.Values){
		"no token":           func(_ *bench, f url.Values) { f.Del("token") },
		"empty token":        func(_ *bench, f url.Values) { f.Set("token", "") },
		"another's token":    func(b *bench, f url.Values) { f.Set("token", b.token(bob, "/passwords/new", "/passwords/new", "")) },
		"of another purpose": func(b *bench, f url.Values) { f.Set("token", b.token(ann, "/passwords/new", "/passwords/new", "")) },
		"of another thing":   func(_ *bench, f url.Values) { f.Set("id", "c-2") },
		"two tokens":         func(_ *bench, f url.Values) { f.Add("token", f.Get("token")) },
		"two things":         func(_ *bench, f url.Values) { f.Add("id", "c-2") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			b.store.credentials = []identity.Credential{{ID: "c-1", Person: ann, Name: "one"}, {ID: "c-2", Person: ann, Name: "two"}}
			form := url.Values{"id": {"c-1"}, "token": {b.token(ann, "/", "/passwords/revoke", "c-1")}}
			spoil(b, form)
			w := b.post(ann, "/passwords/revoke", form)
			if w.Code != http.StatusForbidden || !b.store.credentials[0].Revoked.IsZero() || !b.store.credentials[1].Revoked.IsZero() {
				t.Errorf("%d, %+v", w.Code, b.store.credentials)
			}
		})
	}
	b := newBench(t, nil)
	for _, path := range slices.DeleteFunc(append(actions(), adminActions()...), func(p string) bool { return p == "/passwords/new" }) {
		if w := b.post(root, path, url.Values{"id": {string(ann)}, "network": {"192.0.2.0/24"}, "address": {"x@example.org"}}); w.Code != http.StatusForbidden {
			t.Errorf("%s without a token: %d", path, w.Code)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/sessions/end-others", strings.NewReader(url.Values{"token": {b.token(ann, "/passwords/new", "/passwords/new", "")}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if w := b.do(string(ann), r); w.Code != http.StatusForbidden {
		t.Errorf("a form of another site: %d", w.Code)
	}
	if len(b.store.events) > 0 {
		t.Errorf("something was done: %v", b.kinds())
	}
}

// Things of other people are not found, even with a form that is otherwise good.
func TestThingsOfOthers(t *testing.T) {
	b := newBench(t, nil)
	b.store.credentials = []identity.Credential{{ID: "c-bob", Person: bob, Name: "bobs"}}
	b.store.grants = []identity.Grant{{ID: "g-bob", Person: bob, Client: "x"}, {ID: "o-bob", Person: bob, Client: identity.OutsideClient("https://op.test", "x"), Revoked: b.now}}
	bobs := identity.DigestOf(string(bob))
	for path, id := range map[string]string{"/passwords/revoke": "c-bob", "/grants/revoke": "g-bob", "/grants/again": "o-bob", "/sessions/end": hex.EncodeToString(bobs[:])} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: "letterlock", Value: string(ann)})
		w := b.post(ann, path, url.Values{"id": {id}, "token": {b.sessions.FormToken(r, "portal "+path, id)}})
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if !b.store.credentials[0].Revoked.IsZero() || !b.store.grants[0].Revoked.IsZero() || len(b.store.grants) != 2 || len(b.store.sessions) != 3 || len(b.store.events) > 0 {
		t.Errorf("something was taken: %+v", b.store)
	}
}

func TestOnlyAdministrators(t *testing.T) {
	for _, c := range []struct {
		name     string
		session  identity.Session
		provider bool
		want     int
		where    string
	}{
		{"not an administrator", identity.Session{Person: ann, Admin: true}, false, 403, ""},
		{"not an administrator, provider is enough", identity.Session{Person: ann, Admin: true}, true, 403, ""},
		{"no second factor", identity.Session{Person: root}, false, 403, ""},
		{"no second factor, provider is enough", identity.Session{Person: root}, true, 200, ""},
		{"stale", identity.Session{Person: root, Admin: true, Proved: time.Unix(1, 0)}, false, 303, "/signin?again=true"},
		{"stale, provider is enough", identity.Session{Person: root, Proved: time.Unix(1, 0)}, true, 303, "/signin?again=true"},
		{"proved in the future", identity.Session{Person: root, Admin: true, Proved: time.Unix(1<<33, 0)}, false, 303, "/signin?again=true"},
		{"all of it", identity.Session{Person: root, Admin: true}, false, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.AdminBySignIn = c.provider })
			if c.session.Proved.IsZero() {
				c.session.Proved = b.now
			}
			b.signIn("this", c.session)
			for _, path := range adminPages() {
				w := b.get("this", path)
				if w.Code != c.want || !strings.HasPrefix(w.Header().Get("Location"), c.where) {
					t.Errorf("GET %s: %d %s, want %d", path, w.Code, w.Header().Get("Location"), c.want)
				}
			}
			if c.want == 200 {
				return
			}
			for _, path := range adminActions() {
				if w := b.post("this", path, url.Values{"id": {string(bob)}}); w.Code != c.want {
					t.Errorf("POST %s: %d, want %d", path, w.Code, c.want)
				}
			}
		})
	}
}

func TestRevoke(t *testing.T) {
	b := newBench(t, nil)
	b.store.credentials = []identity.Credential{{ID: "c-1", Person: ann, Name: "phone", Label: "Phone"}}
	b.store.grants = []identity.Grant{{ID: "g-1", Person: ann, Client: "thunderbird", Scopes: []string{"imap"}}}
	b.signIn("other", identity.Session{Person: ann, Agent: "Safari on iPhone"})
	if w := b.send(ann, "/", "/passwords/revoke", "c-1", nil); w.Header().Get("Location") != "/?done=revoked" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if b.store.credentials[0].Revoked.IsZero() || b.changed != 1 || !slices.Contains(b.push.told, "ann@example.org") {
		t.Errorf("not felt: %+v %d %v", b.store.credentials[0], b.changed, b.push.told)
	}
	body := b.get(ann, "/?done=revoked").Body.String()
	for _, want := range []string{"Not confirmed at mx1", "Revoked. It opens nothing", "No app password is in force"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q on the page", want)
		}
	}
	b.push.told = nil
	if body := b.get(ann, "/").Body.String(); strings.Contains(body, "Not confirmed") {
		t.Error("confirmed, and the page does not know")
	}
	b.send(ann, "/", "/grants/revoke", "g-1", nil)
	if b.store.grants[0].Revoked.IsZero() || len(b.push.told) == 0 {
		t.Errorf("the program goes on: %+v", b.store.grants)
	}
	b.send(ann, "/", "/sessions/end-others", "", nil)
	if n := len(b.store.sessions); n != 3 {
		t.Errorf("%d sessions are left, want ann's own, bob's and root's", n)
	}
	if w := b.get(ann, "/"); w.Code != http.StatusOK {
		t.Errorf("this browser was signed out too: %d", w.Code)
	}
	if got := b.kinds(); !slices.Equal(got, []string{"credential.revoked", "grant.revoked", "session.ended"}) {
		t.Errorf("the trail says %v", got)
	}
	for _, e := range b.store.events {
		if e.Actor != string(ann) || e.From != netip.MustParseAddr("198.51.100.9") {
			t.Errorf("the trail does not say who and where: %+v", e)
		}
	}
}

// A program of another issuer stays out until its person lets it in again, with a fresh proof;
// only what stands on the page as kept out can come back.
func TestAllowAgain(t *testing.T) {
	b := newBench(t, nil)
	webmail := identity.OutsideClient("https://op.test", "webmail")
	b.store.grants = []identity.Grant{{ID: "g-2", Person: ann, Client: webmail, Scopes: []string{"imap"}, Created: b.now}, {ID: "g-1", Person: ann, Client: webmail, Revoked: b.now}, {ID: "g-0", Person: ann, Client: "thunderbird", Revoked: b.now}}
	if body := b.get(ann, "/").Body.String(); strings.Contains(body, "Allow again") {
		t.Error("what is in force can be allowed again")
	}
	b.send(ann, "/", "/grants/revoke", "g-2", nil)
	if body := b.get(ann, "/").Body.String(); strings.Count(body, "Allow again") != 1 {
		t.Errorf("%d programs can be allowed again, want 1", strings.Count(body, "Allow again"))
	}
	form := func(id string) url.Values {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: "letterlock", Value: string(ann)})
		return url.Values{"id": {id}, "token": {b.sessions.FormToken(r, "portal /grants/again", id)}}
	}
	if w := b.post(ann, "/grants/again", form("g-0")); w.Code != http.StatusNotFound {
		t.Errorf("a program of ours: %d", w.Code)
	}
	proved := b.now
	b.now = b.now.Add(time.Hour)
	if w := b.post(ann, "/grants/again", form("g-2")); w.Code != http.StatusSeeOther || !strings.Contains(w.Header().Get("Location"), "again=true") || len(b.store.grants) != 3 {
		t.Errorf("without a fresh proof: %d to %s", w.Code, w.Header().Get("Location"))
	}
	b.now = proved
	if w := b.send(ann, "/", "/grants/again", "g-2", nil); w.Header().Get("Location") != "/?done=allowed" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if g := b.store.grants[0]; len(b.store.grants) != 4 || g.Client != webmail || g.Person != ann || !g.Revoked.IsZero() || !slices.Equal(g.Scopes, []string{"imap"}) {
		t.Errorf("allowed again: %+v", b.store.grants)
	}
	if got := b.kinds(); !slices.Equal(got, []string{"grant.revoked", "grant.given"}) {
		t.Errorf("the trail says %v", got)
	}
}

func TestHostileNames(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Client = func(identity.ClientID) (identity.Client, bool) {
			return identity.Client{Name: `<script>alert("client")</script>`}, true
		}
	})
	evil := `"><img src=x onerror=alert(1)>` + "\u202e\x1b[31m"
	b.store.credentials = []identity.Credential{{ID: "c-1", Person: ann, Name: "x", Label: evil, Senders: []string{evil}, Reason: evil},
		{ID: "c-2", Person: ann, Name: "y", Label: evil, Revoked: b.now, Reason: evil}}
	b.store.grants = []identity.Grant{{ID: "g-1", Person: ann, Scopes: []string{evil}}}
	b.store.sessions[0].Agent = evil
	for i := range b.store.sessions {
		b.store.sessions[i].Agent, b.store.sessions[i].How = evil, evil
	}
	b.store.events = []identity.Event{{Kind: evil, Person: ann, Actor: evil, Detail: evil, At: b.now}}
	b.store.bans = []identity.Ban{{Network: netip.MustParsePrefix("192.0.2.0/24"), Reason: evil}}
	b.store.bindings = []identity.Binding{{Issuer: evil, Shown: evil}}
	p := b.store.people[ann]
	p.Name, p.Reason = evil, evil
	b.store.people[ann] = p
	for _, path := range append(append(pages(), adminPages()...), "/?done="+url.QueryEscape(evil), "/admin?q="+url.QueryEscape(evil), "/admin/audit?person="+url.QueryEscape(evil)) {
		who := ann
		if strings.HasPrefix(path, "/admin") {
			who = root
		}
		body := b.get(who, path).Body.String()
		for _, bad := range []string{"<img", "<script", "\x1b"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s shows %q as it is", path, bad)
			}
		}
		if strings.Contains(body, "\u202e") {
			t.Errorf("%s turns the writing direction", path)
		}
	}
}

func TestLater(t *testing.T) {
	b := newBench(t, nil)
	b.store.credentials = []identity.Credential{{ID: "c-1", Person: ann, Name: "one"}}
	token := b.token(ann, "/", "/passwords/revoke", "c-1")
	b.store.down = true
	for _, path := range []string{"/", "/addresses", "/activity", "/passwords/new"} {
		if w := b.get(ann, path); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := b.post(ann, "/passwords/revoke", url.Values{"id": {"c-1"}, "token": {token}}); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a revocation that was not kept: %d", w.Code)
	}
	if w := b.get(root, "/admin/health"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Does not answer") {
		t.Errorf("health without a database: %d", w.Code)
	}
	b.store.down = false
	b.maker.err = credential.ErrBusy
	if w := b.send(ann, "/passwords/new", "/passwords/new", "", goodForm()); w.Code != http.StatusServiceUnavailable || len(b.store.credentials) != 1 {
		t.Errorf("a full queue: %d", w.Code)
	}
}

func TestAutoconfig(t *testing.T) {
	b := newBench(t, nil)
	for _, path := range []string{"/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=ann%40example.org", "/mail/config-v1.1.xml"} {
		w := b.do("", httptest.NewRequest(http.MethodGet, path, nil))
		for _, want := range []string{`<clientConfig version="1.1">`, `<emailProvider id="example.org">`, "<domain>example.net</domain>", `<incomingServer type="imap">`,
			"<hostname>imap.example.org</hostname>", "<port>993</port>", "<socketType>SSL</socketType>", `<outgoingServer type="smtp">`, "<port>587</port>",
			"<socketType>STARTTLS</socketType>", "<username>%EMAILADDRESS%</username>", "<authentication>password-cleartext</authentication>"} {
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: %d, no %s in\n%s", path, w.Code, want, w.Body)
			}
		}
		if strings.Contains(w.Body.String(), "ann") || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/xml") {
			t.Errorf("%s: %v\n%s", path, w.Header(), w.Body)
		}
	}
	if w := b.do("", httptest.NewRequest(http.MethodGet, "/mail/config-v1.1.xml", nil)); strings.Contains(w.Body.String(), "oAuth2") {
		t.Errorf("an issuer where there is none:\n%s", w.Body)
	}
	b = newBench(t, func(o *Options) { o.Servers.Issuer = "https://id.example.org" })
	if w := b.do("", httptest.NewRequest(http.MethodGet, "/mail/config-v1.1.xml", nil)); !strings.Contains(w.Body.String(), "<issuer>https://id.example.org</issuer>") {
		t.Errorf("no issuer in\n%s", w.Body)
	}
	b = newBench(t, func(o *Options) { o.Servers = Servers{} })
	if w := b.do("", httptest.NewRequest(http.MethodGet, "/mail/config-v1.1.xml", nil)); w.Code != http.StatusNotFound {
		t.Errorf("nothing is set up, and the answer is %d", w.Code)
	}
}

//go:build lab

package portal_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/letterlock-mail/letterlock/internal/lab/browser"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/portal"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A push that waits for one mail server when it is told to.
type push struct {
	mu      sync.Mutex
	waiting bool
}

func (p *push) Revoke(...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = true
}

func (p *push) Unconfirmed(...string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting {
		return []string{"mx2"}
	}
	return nil
}

func (p *push) confirm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = false
}

// A place is the portal on a real database, and a browser in front of it.
type place struct {
	t    *testing.T
	ctx  context.Context
	db   *database.DB
	door *credential.Door
	push *push
	url  string
	tab  *browser.Browser

	mu       sync.Mutex
	complain []string // what the browser's console said
	faulty   bool     // a form with faults is sent: Chromium notes every answer of 400 and more
}

const (
	ann  identity.PersonID = "0198-ann"
	bob  identity.PersonID = "0198-bob"
	carl identity.PersonID = "0198-carl"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, push: &push{}}
	log := slog.New(slog.DiscardHandler)
	db, err := database.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "portal.db"), database.Options{Timeout: time.Minute, Now: time.Now, Log: log})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	p.db = db
	p.fill()
	p.door = credential.New(credential.Options{Store: db, Log: log, Cost: credential.Cost{Memory: 7 << 10, Time: 1, Threads: 1}})
	mux := http.NewServeMux()
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	p.url = server.URL
	sessions, err := web.NewSessions(web.SessionOptions{Store: db, PublicURL: server.URL, FormKey: web.FormKey("the key of the forms of this test"), Now: time.Now, Random: rand.Reader, Log: log})
	must(t, err)
	pages, err := portal.New(portal.Options{
		Store: db, Browser: sessions, Maker: p.door, Push: p.push, Changed: p.door.Changed,
		Nodes: func() []portal.Node {
			return []portal.Node{{Name: "mx1", Tried: time.Now()}, {Name: "mx2", Waiting: 1, Since: time.Now().Add(-time.Minute), Tried: time.Now(), Error: "ask doveadm: connection refused"}}
		},
		Client: func(id identity.ClientID) (identity.Client, bool) {
			return identity.Client{ID: id, Name: "Thunderbird on cellar", Verified: id == "checked"}, true
		},
		SignIn:  func(w http.ResponseWriter, r *http.Request, back string, _ bool) { sessions.Begin(w, r, back) },
		SignOut: "/signout", Domains: []string{"example.org"},
		Servers: portal.Servers{Name: "Example Project", IMAP: portal.Server{Host: "imap.example.org", Port: 993}, SMTP: portal.Server{Host: "smtp.example.org", Port: 465}},
		Now:     time.Now, Random: rand.Reader, Log: log,
	})
	must(t, err)
	pages.Register(mux)
	mux.HandleFunc("GET /test-sign-in", func(w http.ResponseWriter, r *http.Request) {
		if _, err := sessions.Start(w, r, identity.Session{Person: ann, Admin: true, How: "github"}); err != nil {
			t.Error(err)
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	handler = sessions.OwnForms(sessions.Handler(mux))

	p.tab = browser.Run(t, browser.Options{})
	ctx, cancel := context.WithTimeout(p.tab.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	p.ctx = ctx
	must(t, chromedp.Listen(ctx, p.hear))
	p.open("/test-sign-in")
	return p
}

// fill makes a household that looks like one.
func (p *place) fill() {
	ctx, now := p.t.Context(), time.Now()
	both := []identity.Role{identity.RoleLogin, identity.RoleSend}
	for _, one := range []identity.Person{
		{ID: ann, Address: "ann@example.org", Name: "Ann Example", Admin: true, Created: now.Add(-400 * 24 * time.Hour)},
		{ID: bob, Address: "bob@example.org", Name: "Bob Builder", Created: now.Add(-90 * 24 * time.Hour)},
		{ID: carl, Address: "carl-friedrich.von-und-zu-langenfeld@example.org", Name: "Carl Friedrich", Created: now.Add(-30 * 24 * time.Hour)},
	} {
		must(p.t, p.db.AddPerson(ctx, one), p.db.PutAddress(ctx, identity.Address{Address: one.Address, Owners: []identity.Owner{{Person: one.ID, Roles: both}}}))
	}
	must(p.t,
		p.db.PutAddress(ctx, identity.Address{Address: "sales@example.org", Owners: []identity.Owner{{Person: ann, Roles: both}, {Person: bob, Roles: both}}}),
		p.db.PutAddress(ctx, identity.Address{Address: "annie@example.org", Targets: []string{"ann@example.org"}, Owners: []identity.Owner{{Person: ann, Roles: []identity.Role{identity.RoleSend}}}}),
		p.db.DisablePerson(ctx, carl, now.Add(-time.Hour), "left the project"),
		p.db.AddUser(ctx, identity.User{Person: identity.Person{ID: "0198-dora", Address: "dora-maria.von-und-zu-langenfeld@example.org", Created: now}, External: "b1946ac92492d2347c6235b4d2611184", Changed: now, Wish: identity.WishActive}, "scim"),
		p.db.DisablePerson(ctx, "0198-dora", now.Add(-50*time.Hour), "sent mail in the name of others"),
		p.db.RemoveUser(ctx, "0198-dora", now.Add(-49*time.Hour), "scim"),
		p.db.Bind(ctx, identity.Binding{Issuer: "https://github.com", Subject: "4711", Person: ann, Shown: "annex", Bound: now.Add(-300 * 24 * time.Hour)}),
		p.db.AddCredential(ctx, identity.Credential{ID: "c1", Person: ann, Selector: "aaaaaa", Hash: "x", Name: "phone", Label: "Ann’s phone", Protocols: []identity.Protocol{identity.IMAP, identity.SMTP}, Created: now.Add(-80 * 24 * time.Hour)}),
		p.db.AddCredential(ctx, identity.Credential{ID: "c2", Person: ann, Selector: "bbbbbb", Hash: "x", Name: "scanner", Label: "Scanner on the first floor", Protocols: []identity.Protocol{identity.SMTP}, Senders: []string{"sales@example.org"},
			Recipients: []string{"ann@example.org", "@example.org"}, PerHour: 20, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Created: now.Add(-20 * 24 * time.Hour), Expires: now.Add(70 * 24 * time.Hour)}),
		p.db.AddCredential(ctx, identity.Credential{ID: "c3", Person: ann, Selector: "cccccc", Hash: "x", Name: "old", Label: "Old laptop", Created: now.Add(-300 * 24 * time.Hour)}),
		p.db.RevokeCredential(ctx, "c3", now.Add(-5*24*time.Hour), "lost on a train"),
		p.db.Used(ctx, []identity.Use{{Credential: "c1", At: now.Add(-7 * time.Minute), From: netip.MustParseAddr("2001:db8::17"), Protocol: identity.IMAP}}),
		p.db.AddCode(ctx, identity.Grant{ID: "g1", Person: ann, Client: "self", Scopes: []string{"imap", "smtp", "offline_access"}, Created: now.Add(-9 * 24 * time.Hour)},
			identity.Code{Digest: identity.DigestOf("x"), Grant: "g1", Client: "self", Expires: now}),
		p.db.AddSession(ctx, identity.Session{ID: identity.DigestOf("other"), Person: ann, How: "github", Agent: "Safari on iPhone", From: netip.MustParseAddr("203.0.113.9"), Proved: now, Created: now.Add(-30 * time.Hour), Seen: now.Add(-3 * time.Hour), Expires: now.Add(48 * time.Hour)}),
		p.db.PutBan(ctx, identity.Ban{Network: netip.MustParsePrefix("198.51.100.0/24"), Reason: "guessing for a week", Made: now.Add(-26 * time.Hour), Until: now.Add(5 * 24 * time.Hour)}),
		p.db.PutBan(ctx, identity.Ban{Network: netip.MustParsePrefix("2001:db8:5::/48"), Allow: true, Reason: "the web mail", Made: now.Add(-90 * 24 * time.Hour)}),
		p.db.AddEvent(ctx, identity.Event{At: now.Add(-30 * time.Hour), Kind: "signin.ok", Person: ann, Actor: string(ann), From: netip.MustParseAddr("203.0.113.9"), Detail: "annex at https://github.com"}),
		p.db.AddEvent(ctx, identity.Event{At: now.Add(-26 * time.Hour), Kind: "signin.refused", Person: ann, Actor: "nobody", From: netip.MustParseAddr("198.51.100.77"), Detail: "not a member of the organisation"}),
		p.db.AddEvent(ctx, identity.Event{At: now.Add(-5 * 24 * time.Hour), Kind: "credential.revoked", Person: ann, Actor: "shell:0", Detail: "old lost on a train"}),
		p.db.AddEvent(ctx, identity.Event{At: now.Add(-time.Hour), Kind: "person.disabled", Person: carl, Actor: string(ann), From: netip.MustParseAddr("203.0.113.9"), Detail: "left the project"}),
	)
}

// hear keeps what the console says and what the policy stopped.
func (p *place) hear(ev any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch ev := ev.(type) {
	case *cdplog.EventEntryAdded:
		if p.faulty && strings.Contains(ev.Entry.Text, "status of 422") {
			return
		}
		p.complain = append(p.complain, fmt.Sprintf("%s: %s (%s)", ev.Entry.Level, ev.Entry.Text, ev.Entry.URL))
	case *runtime.EventExceptionThrown:
		p.complain = append(p.complain, "exception")
	case *runtime.EventConsoleAPICalled:
		p.complain = append(p.complain, "console")
	}
}

// silent fails when the console said anything since it was asked last.
func (p *place) silent(where string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.complain {
		p.t.Errorf("%s: the console says %s", where, line)
	}
	p.complain = nil
}

func (p *place) open(path string) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.Navigate(p.url+path)); err != nil {
		p.t.Fatalf("open %s: %v", path, err)
	}
}

func ask[T any](p *place, script string) T {
	p.t.Helper()
	answer, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](script))
	if err != nil {
		p.t.Fatalf("ask the page: %v", err)
	}
	return answer
}

func (p *place) size(width, height int64, scheme string) {
	p.t.Helper()
	media := func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return chromedp.Void{}, err
	}
	must(p.t, chromedp.Do(p.ctx, chromedp.EmulateViewport(width, height), media))
}

// picture keeps a screenshot where LETTERLOCK_SCREENSHOTS names a folder (docs/screenshots);
// without it pictures are looked at nowhere and not taken.
func (p *place) picture(name string) {
	p.t.Helper()
	folder := os.Getenv("LETTERLOCK_SCREENSHOTS")
	if folder == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	must(p.t, err)
	must(p.t, os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644))
}

// press sends a key and waits for the page that it leads to.
func (p *place) press(key string) {
	p.t.Helper()
	if _, err := chromedp.RunResponse(p.ctx, chromedp.KeyEvent(key)); err != nil {
		p.t.Fatalf("press a key: %v", err)
	}
}

// tabTo presses Tab until what the script tells of the focused element is true; each
// element on the way must show that it has the focus.
func (p *place) tabTo(what, condition string) {
	p.t.Helper()
	for range 120 {
		must(p.t, chromedp.Do(p.ctx, chromedp.KeyEvent(kb.Tab)))
		seen := ask[string](p, `(()=>{const e=document.activeElement,s=getComputedStyle(e);return e===document.body?"":(s.outlineStyle==="none"||parseFloat(s.outlineWidth)<2)?"no outline: "+e.outerHTML.slice(0,120):""})()`)
		if seen != "" {
			p.t.Fatal(seen)
		}
		if ask[bool](p, `(e=>`+condition+`)(document.activeElement)`) {
			return
		}
	}
	p.t.Fatalf("the keyboard does not reach %s", what)
}

func (p *place) inspect(where string) {
	p.t.Helper()
	for _, fault := range ask[[]string](p, browser.Inspect) {
		p.t.Errorf("%s: %s", where, fault)
	}
	p.silent(where)
}

func TestPortalLooks(t *testing.T) {
	p := newPlace(t)
	for _, screen := range []struct {
		name, scheme  string
		width, height int64
	}{{"phone", "light", 390, 844}, {"desktop", "light", 1280, 800}, {"dark", "dark", 390, 844}} {
		p.size(screen.width, screen.height, screen.scheme)
		for _, page := range [][2]string{{"home", "/"}, {"new-password", "/passwords/new?for=machine"}, {"addresses", "/addresses"}, {"activity", "/activity"},
			{"admin-people", "/admin"}, {"admin-person", "/admin/person/" + string(bob)}, {"admin-disabled", "/admin/person/" + string(carl)}, {"admin-addresses", "/admin/addresses"}, {"admin-bans", "/admin/bans"},
			{"admin-audit", "/admin/audit"}, {"admin-health", "/admin/health"}} {
			p.open(page[1])
			p.inspect(screen.name + " " + page[0])
			if screen.name != "dark" || page[0] == "home" {
				p.picture(page[0] + "-" + screen.name)
			}
		}
	}
	p.push.Revoke()
	p.open("/?done=revoked")
	p.inspect("waiting")
	p.picture("revoked-dark")
}

// TestPortalByKeyboard makes an app password, signs in with it, and revokes it; no mouse.
func TestPortalByKeyboard(t *testing.T) {
	p := newPlace(t)
	p.size(390, 844, "light")
	p.open("/")
	p.tabTo("the link over the menu", `e.className==="skip"`)
	p.tabTo("the button", `e.textContent==="Make an app password"`)
	p.press(kb.Enter)
	p.tabTo("the label", `e.id==="label"`)
	// First without what is needed: the fault stands beside the field.
	p.tabTo("the networks", `e.id==="networks"`)
	must(t, chromedp.Do(p.ctx, chromedp.KeyEvent("10.0.0.1/8")))
	p.tabTo("the button", `e.textContent==="Make the app password"`)
	p.mu.Lock()
	p.faulty = true // for good: the note may come when the page is long there
	p.mu.Unlock()
	p.press(kb.Enter)
	if text := ask[string](p, `document.getElementById("networks-error").textContent+document.getElementById("label-error").textContent+document.getElementById("networks").value`); !strings.Contains(text, "Did you mean 10.0.0.0/8?") ||
		!strings.Contains(text, "Say what it is for") || !strings.HasSuffix(text, "10.0.0.1/8") {
		t.Errorf("the form says %q", text)
	}
	p.inspect("faults")
	p.picture("new-password-faults-phone")
	p.tabTo("the label", `e.id==="label"`)
	must(t, chromedp.Do(p.ctx, chromedp.KeyEvent("Test device")))
	p.tabTo("the networks", `e.id==="networks"`)
	must(t, chromedp.Do(p.ctx, chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)), chromedp.KeyEvent(kb.Backspace)))
	ask[string](p, `document.activeElement.value`)
	must(t, chromedp.Do(p.ctx, chromedp.Evaluate[chromedp.Void](`document.activeElement.select()`), chromedp.KeyEvent("127.0.0.0/8")))
	p.tabTo("the button", `e.textContent==="Make the app password"`)
	p.press(kb.Enter)
	password := ask[string](p, `document.getElementById("password").textContent`)
	p.inspect("made")
	p.picture("made-phone")
	p.size(1280, 800, "light")
	p.picture("made-desktop")
	p.size(390, 844, "light")
	p.signsIn(password, true)

	p.open("/")
	if text := ask[string](p, `document.body.innerText`); !strings.Contains(text, "Test device") || strings.Contains(text, password) {
		t.Errorf("the page says %s", text)
	}
	p.tabTo("its Revoke", `e.getAttribute("aria-label")==="Revoke the app password Test device"`)
	p.press(kb.Enter)
	text := ask[string](p, `document.querySelector("main").innerText`)
	if !strings.Contains(text, "Not confirmed at mx2") || !strings.Contains(text, "Revoked.") {
		t.Errorf("the page says %s", text)
	}
	p.inspect("revoked")
	p.picture("revoked-phone")
	p.signsIn(password, false)
	p.push.confirm()
	p.tabTo("Look again", `e.textContent==="Look again"`)
	p.press(kb.Enter)
	if text := ask[string](p, `document.querySelector("main").innerText`); strings.Contains(text, "Not confirmed") {
		t.Error("it is confirmed, and the page does not say so")
	}

	p.open("/admin")
	p.tabTo("Forget", `e.getAttribute("aria-label")==="Forget what is held against dora-maria.von-und-zu-langenfeld@example.org"`)
	p.press(kb.Enter)
	if text := ask[string](p, `document.querySelector("main").innerText`); !strings.Contains(text, "Forgotten.") || strings.Contains(text, "dora") {
		t.Errorf("the page says %s", text)
	}
	p.silent("end")
}

package main

import (
	"fmt"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/letterlock-mail/letterlock/internal/lab/authenticator"
	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A hall is a desk under a name, where passkeys can be, with a clock of its own, beside a
// GitHub at which ann sits.
type hall struct {
	*desk
	begun time.Time
	looks atomic.Int64
	later time.Duration
}

// now is a clock that goes on by a millisecond each time that somebody looks at it, however
// long the machine takes: wrong codes are counted in spans of ten minutes, and codes change
// each half minute. It begins where a span does.
func (h *hall) now() time.Time {
	return h.begun.Add(h.later + time.Duration(h.looks.Add(1))*time.Millisecond)
}

func newHall(t *testing.T, sections string) *hall { t.Helper(); return newHallOn(t, "", sections) }

func newHallOn(t *testing.T, database, sections string) *hall {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := bareDesk(t, "http")
	if err := d.listener.Close(); err != nil {
		t.Fatal(err)
	}
	d.listener, d.database = listener, database
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	d.public = "http://localhost:" + port
	h := &hall{desk: d, begun: time.Now().Truncate(10 * time.Minute).Add(10 * time.Minute)}
	d.github = fakegithub.New(time.Now, "app", "hush", d.public+"/signin/github/callback")
	at := httptest.NewServer(d.github)
	t.Cleanup(at.Close)
	d.configure("example.org", fmt.Sprintf(`[signin.github]
type = "github"
label = "GitHub"
url = %q
client_id = "app"
client_secret_file = %q
[signin.local]
type = "passkey"
`, at.URL, d.write("secret", "hush\n"))+sections)
	d.p.now = h.now
	d.github.Sit(&fakegithub.Person{ID: 7, Login: "octo-ann"})
	d.must("person", "add", "ann@example.org")
	d.must("person", "bind", "ann@example.org", "--issuer", at.URL, "--subject", "7")
	server := &httptest.Server{Listener: d.listener, Config: &http.Server{Handler: h.handler(), ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(server.Close)
	return h
}

func (h *hall) handler() http.Handler {
	h.t.Helper()
	conf, err := h.p.config()
	if err != nil {
		h.t.Fatal(err)
	}
	db, err := h.p.store(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	h.door = credential.New(credential.Options{Store: db, Tokens: db})
	l := &plan{conf: conf, db: db, log: slog.New(slog.DiscardHandler), now: h.p.now, inner: h.door}
	handler, err := l.pages(h.p)
	if err != nil {
		h.t.Fatal(err)
	}
	return handler
}

// A visitor is a browser, without script: what the script would do, the test does.
type visitor struct {
	h      *hall
	client *http.Client
	status int
	at     string // path where the last answer came from
	page   string
}

func (h *hall) visitor() *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return &visitor{h: h, client: &http.Client{Jar: jar, Timeout: time.Minute}}
}

func (v *visitor) take(res *http.Response, err error) *visitor {
	v.h.t.Helper()
	if err != nil {
		v.h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		v.h.t.Fatal(err)
	}
	v.status, v.at, v.page = res.StatusCode, res.Request.URL.Path, string(body)
	return v
}

func (v *visitor) get(path string) *visitor {
	v.h.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = v.h.public + path
	}
	return v.take(v.client.Get(path))
}

// send fills in the form of the page that posts to action.
func (v *visitor) send(action string, pairs ...string) *visitor {
	v.h.t.Helper()
	form := url.Values{}
	found := ""
	for _, one := range regexp.MustCompile(`(?s)<form method="post" action="`+regexp.QuoteMeta(action)+`".*?</form>`).FindAllString(v.page, -1) {
		if found == "" && (len(pairs) == 0 || strings.Contains(one, `name="`+pairs[0]+`"`)) {
			found = one
		}
	}
	if found == "" {
		v.h.t.Fatalf("no form for %s at %s: %s", action, v.at, v.main())
	}
	for _, field := range regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`).FindAllStringSubmatch(found, -1) {
		form.Set(field[1], html.UnescapeString(field[2]))
	}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return v.take(v.client.PostForm(v.h.public+action, form))
}

// main is what a person reads of the page.
func (v *visitor) main() string {
	_, text, _ := strings.Cut(v.page, "<main")
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString("<"+text, " ")), " ")
}

func (v *visitor) options(action string) string {
	v.h.t.Helper()
	found := regexp.MustCompile(`action="` + regexp.QuoteMeta(action) + `" data-passkey="[a-z]+" data-options="([^"]+)"`).FindStringSubmatch(v.page)
	if found == nil {
		v.h.t.Fatalf("no passkey for %s at %s: %s", action, v.at, v.main())
	}
	return html.UnescapeString(found[1])
}

func (v *visitor) make(d *authenticator.Device, action, name string) *visitor {
	v.h.t.Helper()
	answer, err := d.Create(v.options(action))
	if err != nil {
		v.h.t.Fatal(err)
	}
	return v.send(action, "answer", answer, "name", name)
}

func (v *visitor) use(d *authenticator.Device, action string) *visitor {
	v.h.t.Helper()
	answer, err := d.Get(v.options(action))
	if err != nil {
		v.h.t.Fatal(err)
	}
	return v.send(action, "answer", answer)
}

func (v *visitor) want(status int, at string, words ...string) *visitor {
	v.h.t.Helper()
	if v.status != status || v.at != at {
		v.h.t.Fatalf("%d at %s, want %d at %s: %s", v.status, v.at, status, at, v.main())
	}
	for _, word := range words {
		if !strings.Contains(v.page, word) {
			v.h.t.Fatalf("%q is not on %s: %s", word, at, v.main())
		}
	}
	return v
}

func (v *visitor) github() *visitor { v.h.t.Helper(); return v.get("/signin/github") }

// app sets an authenticator app up in the portal and returns its seed.
func (v *visitor) app() string {
	v.h.t.Helper()
	v.get("/security/app").want(200, "/security/app")
	seed := seedOf(v.page)
	v.send("/security/app", "code", v.h.code(seed)).want(200, "/security", "Added.")
	v.h.later += time.Minute
	return seed
}

// seedOf reads the seed off the page that shows it.
func seedOf(page string) string {
	return strings.ReplaceAll(regexp.MustCompile(`id="key">([A-Z2-7 ]+)<`).FindStringSubmatch(page)[1], " ", "")
}

func (h *hall) code(seed string) string {
	h.t.Helper()
	code, err := totp.GenerateCode(seed, h.p.now())
	if err != nil {
		h.t.Fatal(err)
	}
	return code
}

// wrong is six digits that are no code of the seed now.
func (h *hall) wrong(seed string) string {
	h.t.Helper()
	taken := map[string]bool{}
	for step := -2; step <= 2; step++ {
		code, err := totp.GenerateCode(seed, h.p.now().Add(time.Duration(step)*30*time.Second))
		if err != nil {
			h.t.Fatal(err)
		}
		taken[code] = true
	}
	for n := 0; ; n++ {
		if code := fmt.Sprintf("%06d", n); !taken[code] {
			return code
		}
	}
}

func (h *hall) trail(kind string) string {
	h.t.Helper()
	return h.must("audit", "list", "--kind", kind)
}

func (h *hall) session(address string) identity.Session {
	h.t.Helper()
	_, sessions, _ := h.person(address)
	if len(sessions) == 0 {
		h.t.Fatalf("%s has no session", address)
	}
	return sessions[0]
}

// A local account: an invitation, a passkey, the admin pages by it; lost, a recovery code,
// a new passkey, and the old one removed.
func TestLocalAccount(t *testing.T) {
	h := newHall(t, "")
	link := h.must("person", "invite", "boss@example.org", "--admin")
	device := authenticator.New(h.public)
	v := h.visitor()
	v.get(link).want(200, "/signin/invitation", "boss@example.org", "Go on only if")
	if _, sessions, bindings := h.person("boss@example.org"); len(sessions)+len(bindings) != 0 {
		t.Error("to look at an invitation does something")
	}
	v.send("/signin/invitation/passkey").want(403, "/signin/invitation/passkey", "Passkeys need script")
	v.get("/signin/invitation").make(device, "/signin/invitation/passkey", "Ring").want(200, "/security", "Next time, use the same passkey", "Ring", "You have no recovery codes")
	if s := h.session("boss@example.org"); s.How != "passkey" || s.Factor != identity.ByPasskey || !s.Admin {
		t.Errorf("%+v", s)
	}
	h.visitor().get(link).want(403, "/signin/invitation", "not valid")
	v.send("/security/recovery").want(200, "/security/recovery", "shown once")
	codes := regexp.MustCompile(`[0-9a-z]{5}-[0-9a-z-]{17}`).FindAllString(v.page, -1)
	if len(codes) != 10 {
		t.Fatalf("%d codes", len(codes))
	}
	v.get("/security").send("/security/passkey/remove").want(409, "/security/passkey/remove", "the only one")

	// Another browser, by the passkey alone; admin_at_provider is false.
	v = h.visitor()
	v.get("/signin?back=%2Fadmin").use(device, "/signin/passkey").want(200, "/admin", "boss@example.org")
	// A while later the pages of administrators ask again.
	h.later += time.Hour
	v.get("/admin").want(200, "/signin/again", "fresh proof").use(device, "/signin/again").want(200, "/admin")

	// The device is lost.
	v = h.visitor()
	v.get("/signin/recover").send("/signin/recover", "address", "boss@example.org", "code", "00000-00000-00000-00000").want(403, "/signin/recover", "do not belong together")
	v.send("/signin/recover", "address", "nobody@example.org", "code", codes[0]).want(403, "/signin/recover", "do not belong together")
	v.send("/signin/recover", "address", "ann@example.org", "code", codes[0]).want(403, "/signin/recover", "do not belong together")
	v.send("/signin/recover", "address", "Boss@Example.org", "code", strings.ToUpper(codes[0])).want(200, "/security", "recovery code, which is spent")
	v.get("/admin").want(403, "/admin", "A recovery code does not open them")
	found := authenticator.New(h.public)
	v.get("/security/passkey").make(found, "/security/passkey", "New ring").want(200, "/security", "New ring")
	h.visitor().get("/signin/recover").send("/signin/recover", "address", "boss@example.org", "code", codes[0]).want(403, "/signin/recover")
	v.send("/security/passkey/remove").want(200, "/security", "Removed.") // the first form is the old one's
	// What was proved before the removal counts no more.
	v.get("/security/passkey").want(200, "/signin/again").use(found, "/signin/again").want(200, "/security/passkey")
	h.visitor().get("/signin").use(device, "/signin/passkey").want(403, "/signin/passkey", "not known here")
	v.get("/").want(200, "/", "How you sign in has changed lately", "Second factor removed")

	// Nothing of it works when the person is disabled, and a code of theirs neither.
	h.must("person", "disable", "boss@example.org")
	h.visitor().get("/signin").use(found, "/signin/passkey").want(403, "/signin/passkey")
	h.visitor().get("/signin/recover").send("/signin/recover", "address", "boss@example.org", "code", codes[1]).want(403, "/signin/recover")
	if text := h.trail(""); strings.Contains(text, codes[0]) || strings.Contains(text, codes[1]) {
		t.Error("a recovery code is in the trail")
	}
}

// Two devices with one key, answers from elsewhere, and answers that come twice.
func TestPasskeyAttacks(t *testing.T) {
	h := newHall(t, "")
	device := authenticator.New(h.public)
	h.visitor().get(h.must("person", "invite", "boss@example.org", "--admin")).make(device, "/signin/invitation/passkey", "Ring").want(200, "/security")
	clone := device.Clone()
	h.visitor().get("/signin").use(device, "/signin/passkey").want(200, "/")
	h.visitor().get("/signin").use(device, "/signin/passkey").want(200, "/")
	h.visitor().get("/signin").use(clone, "/signin/passkey").want(403, "/signin/passkey", "exists twice")
	if text := h.trail("factor.cloned"); !strings.Contains(text, "boss@example.org") {
		t.Errorf("the trail says %s", text)
	}
	evil := device.Clone()
	evil.Origin = "http://localhost.evil.test"
	h.visitor().get("/signin").use(evil, "/signin/passkey").want(403, "/signin/passkey", "not known here")
	evil.Origin = "https://" + strings.TrimPrefix(h.public, "http://")
	h.visitor().get("/signin").use(evil, "/signin/passkey").want(403, "/signin/passkey", "not known here")

	v := h.visitor()
	v.get("/signin")
	answer, err := device.Get(v.options("/signin/passkey"))
	if err != nil {
		t.Fatal(err)
	}
	page := v.page
	other := h.visitor()
	other.get("/signin").send("/signin/passkey", "answer", answer).want(403, "/signin/passkey", "open for too long")
	v.send("/signin/passkey", "answer", answer).want(200, "/")
	v.page = page
	v.send("/signin/passkey", "answer", answer).want(403, "/signin/passkey")
	// Another site's form.
	req, err := http.NewRequest(http.MethodPost, h.public+"/signin/passkey", strings.NewReader("answer=x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://evil.test")
	v.take(v.client.Do(req)).want(403, "/signin/passkey", "another site")

	// A passkey of somebody who comes by GitHub is a second step, and opens nothing alone.
	ann := h.visitor()
	ann.github().want(200, "/")
	second := authenticator.New(h.public)
	ann.get("/security/passkey").make(second, "/security/passkey", "Second").want(200, "/security")
	h.visitor().get("/signin").use(second, "/signin/passkey").want(403, "/signin/passkey", "second step")
	ann = h.visitor()
	if _, err := device.Get(ann.github().want(200, "/signin/factor").options("/signin/factor")); err == nil {
		t.Error("boss's device is asked about ann")
	}
	ann.use(second, "/signin/factor").want(200, "/")
}

// After GitHub, who has a second factor is asked for it: a code is good once, wrong ones are
// counted, a recovery code stands in.
func TestSecondFactor(t *testing.T) {
	h := newHall(t, "[portal]\nfresh = \"5m\"\n")
	v := h.visitor()
	v.github().want(200, "/")
	seed := v.app()
	v.get("/security").send("/security/recovery").want(200, "/signin/again") // adding it is no proof of it
	v.send("/signin/again", "code", h.code(seed)).want(200, "/security").send("/security/recovery")
	recovery := regexp.MustCompile(`[0-9a-z]{5}-[0-9a-z-]{17}`).FindString(v.page)

	h.later += time.Minute
	v = h.visitor()
	v.github().want(200, "/signin/factor", "One step more", "Code of your authenticator app")
	if _, sessions, _ := h.person("ann@example.org"); len(sessions) != 1 {
		t.Errorf("%d sessions: one began before its second factor", len(sessions))
	}
	v.get("/").want(200, "/signin") // signed in nowhere
	v.get("/signin/factor").send("/signin/factor", "code", "000000").want(403, "/signin/factor", "That was not right")
	code := h.code(seed)
	v.send("/signin/factor", "code", code[:3]+" "+code[3:]).want(200, "/")
	if s := h.session("ann@example.org"); s.How != "github" || s.Factor != identity.ByTOTP || !s.Admin {
		t.Errorf("%+v", s)
	}
	v.get("/").want(200, "/", "by GitHub, and a code of an app")
	// The same code in another browser, in the same half minute.
	w := h.visitor()
	w.github().send("/signin/factor", "code", code).want(403, "/signin/factor", "used already")
	w.send("/signin/factor", "code", recovery).want(200, "/")
	w = h.visitor()
	w.github().send("/signin/factor", "code", recovery).want(403, "/signin/factor", "not right")
	// The question of one browser is not another's.
	h.visitor().get("/signin/factor").want(403, "/signin/factor")

	// App passwords want the second factor freshly.
	v.get("/passwords/new").want(200, "/passwords/new")
	h.later += 10 * time.Minute
	v.send("/passwords/new", "label", "Phone", "protocol", "imap", "expires", "0").want(403, "/passwords/new", "wants a fresh proof", "nothing was made")
	v.get("/passwords/new").want(200, "/signin/again").send("/signin/again", "code", h.code(seed)).want(200, "/passwords/new")
	// Ann is no administrator whatever she proves.
	v.get("/admin").want(403, "/admin", "for administrators")
	h.must("person", "invite", "ann@example.org", "--admin")
	v.get("/admin").want(200, "/admin")

	// Too many wrong codes end the tries for a while.
	w = h.visitor()
	w.github()
	for range 12 {
		w.send("/signin/factor", "code", h.wrong(seed))
	}
	w.want(429, "/signin/factor", "too many wrong codes").send("/signin/factor", "code", h.code(seed)).want(429, "/signin/factor")
	h.later += 10 * time.Minute
	w.send("/signin/factor", "code", h.code(seed)).want(200, "/")

	if text := h.trail(""); strings.Contains(text, code) || strings.Contains(text, seed) || !strings.Contains(text, "factor.refused") || !strings.Contains(text, "recovery.used") {
		t.Errorf("the trail says\n%s", text)
	}
	if list := h.must("otp", "list", "ann@example.org"); !strings.Contains(list, "authenticator app") || !strings.Contains(list, "9 left") || strings.Contains(list, seed) {
		t.Errorf("otp list says\n%s", list)
	}
	if list := h.must("session", "list", "ann@example.org"); !strings.Contains(list, "github and totp") {
		t.Errorf("session list says\n%s", list)
	}
	h.must("otp", "remove", "ann@example.org", "app")
	h.visitor().github().want(200, "/")
}

// The policies, and what a trusted network may skip.
func TestFactorPolicies(t *testing.T) {
	t.Run("required", func(t *testing.T) {
		h := newHall(t, "[factors]\nsecond_factor = \"required\"\n")
		v := h.visitor()
		v.github().want(200, "/signin/enrol", "Everybody here has a second factor")
		seed := strings.ReplaceAll(regexp.MustCompile(`class="secret">([A-Z2-7 ]+)<`).FindStringSubmatch(v.page)[1], " ", "")
		v.send("/signin/enrol", "code", h.wrong(seed)).want(403, "/signin/enrol")
		if _, sessions, _ := h.person("ann@example.org"); len(sessions) != 0 || !strings.Contains(strings.ReplaceAll(v.page, " ", ""), seed) {
			t.Error("a session, or another key, after a wrong code")
		}
		v.send("/signin/enrol", "code", h.code(seed)).want(200, "/")
		if s := h.session("ann@example.org"); s.Factor != identity.ByTOTP {
			t.Errorf("%+v", s)
		}
		w := h.visitor()
		w.github().want(200, "/signin/factor")
		w.get("/signin/enrol").want(200, "/signin/factor") // no second one beside the first
	})
	// Who never set one up would make app passwords without, from that network.
	t.Run("required, in a trusted network", func(t *testing.T) {
		h := newHall(t, "[factors]\nsecond_factor = \"required\"\ntrusted_networks = [\"127.0.0.0/8\", \"::1\"]\n")
		device := authenticator.New(h.public)
		h.visitor().github().make(device, "/signin/enrol", "Ring").want(200, "/")
		v := h.visitor()
		v.github().want(200, "/").get("/passwords/new").want(200, "/signin/again")
	})
	t.Run("required, a passkey", func(t *testing.T) {
		h := newHall(t, "[factors]\nsecond_factor = \"required\"\n")
		device := authenticator.New(h.public)
		h.visitor().github().make(device, "/signin/enrol", "Ring").want(200, "/")
		h.visitor().github().use(device, "/signin/factor").want(200, "/")
	})
	for name, sections := range map[string]string{"admin": "[factors]\nsecond_factor = \"admin\"\n", "trusted": "[factors]\ntrusted_networks = [\"127.0.0.0/8\", \"::1\"]\n"} {
		t.Run(name, func(t *testing.T) {
			h := newHall(t, sections)
			h.must("person", "invite", "ann@example.org", "--admin")
			v := h.visitor()
			v.github().want(200, "/").get("/admin").want(403, "/admin", "want a second factor")
			seed := v.app()
			v = h.visitor()
			v.github().want(200, "/")
			v.get("/passwords/new").want(200, "/signin/again")
			v.get("/security/passkey").want(200, "/signin/again")
			v.get("/admin").want(200, "/signin/again").send("/signin/again", "code", h.code(seed)).want(200, "/admin")
			v.get("/passwords/new").want(200, "/passwords/new")
		})
	}
}

// A browser in which nobody signed in themselves, which the web mail or a mail program
// opened, changes nothing about how the person signs in.
func TestForeignSessionsChangeNoFactors(t *testing.T) {
	h := newHall(t, "")
	for _, how := range []string{"", "webmail", "gateway:https://mail.example.org", "token", "passkeys"} {
		p, _, _ := h.person("ann@example.org")
		now := h.p.now()
		if err := h.p.db.AddSession(t.Context(), identity.Session{ID: identity.DigestOf("cookie " + how), Person: p.ID, How: how, Proved: now, Created: now, Seen: now, Expires: now.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		v := h.visitor()
		u, err := url.Parse(h.public)
		if err != nil {
			t.Fatal(err)
		}
		v.client.Jar.SetCookies(u, []*http.Cookie{{Name: "letterlock", Value: "cookie " + how, Path: "/"}})
		v.get("/security").want(200, "/security")
		v.send("/security/recovery").want(403, "/security/recovery", "cannot change how you sign in")
		v.get("/security/passkey").want(403, "/security/passkey")
		v.get("/security/app").want(403, "/security/app")
		if f, err := h.p.db.Factors(t.Context(), p.ID); err != nil || !f.RecoveryMade.IsZero() {
			t.Errorf("%q: %+v, %v", how, f, err)
		}
	}
}

// The first administrator, by the link that serve prints.
func TestFirstAdmin(t *testing.T) {
	h := newHall(t, "")
	var out, errs strings.Builder
	h.p.term.Err, h.p.term.ErrTTY, h.p.term.Interactive = &errs, true, true
	l := &plan{conf: h.p.conf, db: h.p.db, now: h.p.now, log: slog.New(slog.NewTextHandler(&out, nil))}
	if err := l.firstAdmin(t.Context(), h.p); err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`http://\S+`).FindString(errs.String())
	if !strings.HasPrefix(link, h.public+"/signin/first?code=") || out.Len() != 0 {
		t.Fatalf("terminal %q, log %q", errs.String(), out.String())
	}
	// Without a terminal nobody gets it.
	h.p.term.ErrTTY, h.p.term.Err = false, &strings.Builder{}
	if err := l.firstAdmin(t.Context(), h.p); err != nil || strings.Contains(out.String(), "code=") || !strings.Contains(out.String(), "person invite ADDRESS --admin") {
		t.Errorf("log %q, %v", out.String(), err)
	}
	h.visitor().get("/signin/first").want(403, "/signin/first", "not valid")
	v := h.visitor()
	v.get(link).want(200, "/signin/first", "In example.org.")
	v.send("/signin/first", "address", "boss@elsewhere.org").want(422, "/signin/first", "none of the domains")
	v.send("/signin/first", "address", "ann@example.org").want(409, "/signin/first", "has this address already")
	v.send("/signin/first", "address", "Boss@example.org", "name", "The Boss").want(200, "/signin/invitation", "boss@example.org")
	device := authenticator.New(h.public)
	v.make(device, "/signin/invitation/passkey", "").want(200, "/security", "Passkey")
	v.get("/admin").want(200, "/admin", "The Boss")
	h.visitor().get(link).want(403, "/signin/first", "not valid")
	if err := l.firstAdmin(t.Context(), h.p); err != nil || strings.Count(out.String(), "no administrator") != 1 {
		t.Errorf("with an administrator: %q, %v", out.String(), err)
	}
}

// A second link is worth nothing once there is an administrator.
func TestFirstAdminOnce(t *testing.T) {
	h := newHall(t, "")
	var errs strings.Builder
	h.p.term.Err, h.p.term.ErrTTY, h.p.term.Interactive = &errs, true, true
	l := &plan{conf: h.p.conf, db: h.p.db, now: h.p.now, log: slog.New(slog.DiscardHandler)}
	if err := l.firstAdmin(t.Context(), h.p); err != nil {
		t.Fatal(err)
	}
	v := h.visitor()
	v.get(regexp.MustCompile(`http://\S+`).FindString(errs.String())).want(200, "/signin/first")
	h.must("person", "invite", "other@example.org", "--admin")
	v.send("/signin/first", "address", "boss@example.org").want(403, "/signin/first", "administrator already")
}

package authserver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/memory"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const (
	callback = "http://127.0.0.1/cb"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

// clock is set by tests; it does not run.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// cookieSignIn signs in whoever has a cookie named who.
type cookieSignIn struct{}

func (cookieSignIn) SignedIn(r *http.Request) (authserver.Session, bool) {
	cookie, err := r.Cookie("who")
	if err != nil {
		return authserver.Session{}, false
	}
	return authserver.Session{ID: "session of " + cookie.Value, Person: identity.PersonID(cookie.Value), At: signedInAt()}, true
}

// signedInAt is when everybody proved who they are.
func signedInAt() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func (cookieSignIn) Begin(w http.ResponseWriter, r *http.Request, back string) {
	http.Redirect(w, r, "/signin?back="+url.QueryEscape(back), http.StatusSeeOther)
}

// A bench is a running server with its surroundings.
type bench struct {
	t     *testing.T
	url   string
	clock *clock
	store *memory.Store
	log   *bytes.Buffer
}

func newBench(t *testing.T, change ...func(*authserver.Options)) *bench {
	t.Helper()
	ts := httptest.NewUnstartedServer(nil)
	b := &bench{
		t: t, url: "http://" + ts.Listener.Addr().String(), store: memory.New(), log: &bytes.Buffer{},
		clock: &clock{now: time.Now().Truncate(time.Second)},
	}
	idKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all := []identity.GrantType{identity.AuthorizationCode, identity.RefreshGrant, identity.DeviceCode}
	options := authserver.Options{
		Issuer: b.url,
		Clients: []identity.Client{
			{ID: "mutt", Name: "Mutt", RedirectURIs: []string{callback, "https://app.example/cb?x=1"}, Grants: all, Verified: true},
			{ID: "other", Name: "Other", RedirectURIs: []string{callback}, Grants: all, Verified: true},
			{ID: "poor", Name: "Poor", RedirectURIs: []string{callback}},
		},
		ResourceServers: []identity.ResourceServer{
			{ID: "dovecot", Secret: identity.DigestOf("rs-secret")},
			{ID: "imaponly", Secret: identity.DigestOf("rs-secret"), Accepts: []string{"imap"}},
		},
		Codes: b.store, Devices: b.store, Tokens: b.store, Grants: b.store, People: b.store, SignIn: cookieSignIn{},
		Key: bytes.Repeat([]byte{7}, 32), IDKey: idKey, Registration: true, Now: b.clock.Now, Random: rand.Reader,
		Log: slog.New(slog.NewTextHandler(&lockedWriter{w: b.log}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&options)
	}
	server, err := authserver.New(options)
	if err != nil {
		t.Fatal(err)
	}
	b.store.PutPerson(identity.Person{ID: "p1", Address: "You@try.test"})
	b.store.PutPerson(identity.Person{ID: "p2", Address: "other@try.test"})
	ts.Config.Handler = server.Handler()
	ts.Start()
	t.Cleanup(ts.Close)
	return b
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// browser returns a client that is signed in as who and follows no redirect.
func (b *bench) browser(who string) *http.Client {
	jar, _ := cookiejar.New(nil)
	base, _ := url.Parse(b.url)
	if who != "" {
		jar.SetCookies(base, []*http.Cookie{{Name: "who", Value: who}})
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// An answer is a response read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal([]byte(a.body), &value); err != nil {
		t.Fatalf("status %d, not JSON: %v: %s", a.status, err, a.body)
	}
	return value
}

func (a answer) text(t *testing.T, member string) string {
	t.Helper()
	text, _ := a.json(t)[member].(string)
	return text
}

// location is the query of the redirect.
func (a answer) location(t *testing.T) url.Values {
	t.Helper()
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != http.StatusSeeOther {
		t.Fatalf("want 303 with Location, got %d %q: %s", a.status, a.header.Get("Location"), a.body)
	}
	return u.Query()
}

func (b *bench) do(client *http.Client, req *http.Request) answer {
	b.t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (b *bench) get(client *http.Client, path string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.url+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(client, req)
}

// postRaw posts a body; headers come in pairs.
func (b *bench) postRaw(client *http.Client, path, body string, headers ...string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return b.do(client, req)
}

func (b *bench) post(path string, form url.Values) answer {
	b.t.Helper()
	return b.postRaw(http.DefaultClient, path, form.Encode())
}

func (b *bench) introspect(token string) answer {
	b.t.Helper()
	return b.introspectAs("dovecot", token)
}

func (b *bench) introspectAs(server, token string) answer {
	b.t.Helper()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(server+":rs-secret"))
	return b.postRaw(http.DefaultClient, "/introspect", url.Values{"token": {token}}.Encode(), "Authorization", basic)
}

func (b *bench) active(token string) bool {
	b.t.Helper()
	return b.introspect(token).json(b.t)["active"] == true
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authQuery is a good authorization request; changes come in pairs, empty removes.
func authQuery(changes ...string) url.Values {
	q := url.Values{
		"response_type": {"code"}, "client_id": {"mutt"}, "redirect_uri": {"http://127.0.0.1:4711/cb"}, "state": {"st a&te"},
		"scope": {"imap smtp offline_access"}, "code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"},
	}
	return changed(q, changes)
}

func changed(q url.Values, changes []string) url.Values {
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == "" {
			q.Del(changes[i])
		} else {
			q.Set(changes[i], changes[i+1])
		}
	}
	return q
}

// fields reads the hidden fields and the action of the one form of a page.
func fields(t *testing.T, page string) (action string, form url.Values) {
	t.Helper()
	found := regexp.MustCompile(`<form method="post" action="([^"]*)"`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("no form in: %s", page)
	}
	form = url.Values{}
	for _, m := range regexp.MustCompile(`<input type="(?:hidden|text)" name="([^"]*)" value="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	return html.UnescapeString(found[1]), form
}

// allow goes through the consent page and returns the code.
func (b *bench) allow(query url.Values, formChanges ...string) string {
	b.t.Helper()
	browser := b.browser("p1")
	page := b.get(browser, "/authorize?"+query.Encode())
	if page.status != http.StatusOK {
		b.t.Fatalf("consent page: %d %s", page.status, page.body)
	}
	action, form := fields(b.t, page.body)
	form.Set("decision", "allow")
	back := b.postRaw(browser, action, changed(form, formChanges).Encode(), "Origin", b.url).location(b.t)
	if back.Get("code") == "" {
		b.t.Fatalf("no code: %v", back)
	}
	return back.Get("code")
}

func codeForm(code string, changes ...string) url.Values {
	return changed(url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"mutt"}, "code": {code},
		"redirect_uri": {"http://127.0.0.1:4711/cb"}, "code_verifier": {verifier},
	}, changes)
}

func refreshForm(token string, changes ...string) url.Values {
	return changed(url.Values{"grant_type": {"refresh_token"}, "client_id": {"mutt"}, "refresh_token": {token}}, changes)
}

// tokens signs in and returns access and refresh token.
func (b *bench) tokens(changes ...string) (access, refresh string) {
	b.t.Helper()
	got := b.post("/token", codeForm(b.allow(authQuery(changes...))))
	if got.status != http.StatusOK {
		b.t.Fatalf("token: %d %s", got.status, got.body)
	}
	return got.text(b.t, "access_token"), got.text(b.t, "refresh_token")
}

func (b *bench) wantError(a answer, status int, code string) {
	b.t.Helper()
	if a.status != status || a.text(b.t, "error") != code {
		b.t.Errorf("got %d %s, want %d %s", a.status, strings.TrimSpace(a.body), status, code)
	}
	if strings.Contains(a.body, "llat_") || strings.Contains(a.body, "llrt_") {
		b.t.Errorf("a token in an error: %s", a.body)
	}
}

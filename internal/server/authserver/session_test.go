package authserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/letterlock-mail/letterlock/internal/lab/memory"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// leavers counts who was signed out, and keeps the audit trail of it.
type leavers struct {
	mu    sync.Mutex
	count int
	trail []identity.Event
	fail  error
}

func (l *leavers) out(w http.ResponseWriter, _ *http.Request, line identity.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	l.count++
	http.SetCookie(w, &http.Cookie{Name: "who", MaxAge: -1})
	if line.Person != "" && line.Kind == "signout" && !line.At.IsZero() {
		l.trail = append(l.trail, line)
	}
	return nil
}

// TestEndSession: a program that proves by its ID token that the person is its own signs
// them out; anybody else has to ask them; nobody is sent where the program has not said.
func TestEndSession(t *testing.T) {
	l := &leavers{}
	c := newChecksWith(t, func(o *authserver.Options) { o.SignOut = l.out })
	hint := c.tokens().text(t, "id_token")
	other := newChecks(t).tokens().text(t, "id_token")
	forged := hint[:len(hint)-6] + "AAAAAA"
	bye := "https://rp.test/bye"
	for what, one := range map[string]struct {
		query  url.Values
		who    string
		status int
		gone   bool
		target string
	}{
		"by the hint":                     {url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {bye}, "state": {"s&1"}}, "p1", 303, true, bye + "?state=s%261"},
		"by the hint, nowhere to go":      {url.Values{"id_token_hint": {hint}}, "p1", 200, true, ""},
		"the hint of somebody else":       {url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {bye}}, "p2", 200, false, ""},
		"the hint of another server":      {url.Values{"id_token_hint": {other}, "post_logout_redirect_uri": {bye}}, "p1", 400, false, ""},
		"a forged hint":                   {url.Values{"id_token_hint": {forged}}, "p1", 400, false, ""},
		"without a hint":                  {url.Values{"client_id": {"rp"}, "post_logout_redirect_uri": {bye}}, "p1", 200, false, ""},
		"nothing at all":                  {url.Values{}, "p1", 200, false, ""},
		"to a place not registered":       {url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://evil.test/"}}, "p1", 400, false, ""},
		"to where answers go":             {url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://rp.test/cb"}}, "p1", 400, false, ""},
		"to a place, by nobody":           {url.Values{"post_logout_redirect_uri": {bye}}, "p1", 400, false, ""},
		"the id of another with the hint": {url.Values{"id_token_hint": {hint}, "client_id": {"old"}}, "p1", 400, false, ""},
		"twice the same":                  {url.Values{"state": {"a", "b"}}, "p1", 400, false, ""},
		"nobody signed in":                {url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {bye}}, "", 303, true, bye}, // a sign-in may be half done
		"nobody, by nobody":               {url.Values{}, "", 200, false, ""},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			l.count, l.trail = 0, nil
			browser := c.browser(one.who)
			got := c.get(browser, "/end_session?"+one.query.Encode())
			if method == http.MethodPost {
				l.count, l.trail = 0, nil
				browser = c.browser(one.who)
				got = c.postRaw(browser, "/end_session", one.query.Encode())
			}
			if got.status != one.status || got.header.Get("Location") != one.target || (l.count == 1) != one.gone {
				t.Errorf("%s by %s: %d to %q, signed out %d times", what, method, got.status, got.header.Get("Location"), l.count)
			}
			noted := len(l.trail) == 1 && l.trail[0].Person == "p1" && l.trail[0].Actor == "p1" && l.trail[0].Detail == "asked for by Relying party"
			if want := one.gone && one.who != ""; noted != want || !want && len(l.trail) > 0 {
				t.Errorf("%s by %s: the trail says %+v", what, method, l.trail)
			}
		}
	}
	// A form of the program's own site comes without our cookie (SameSite=Lax): the browser is
	// sent round by GET, which has it.
	l.count = 0
	query := url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {bye}}
	round := c.postRaw(c.browser(""), "/end_session", query.Encode(), "Origin", "https://rp.test", "Sec-Fetch-Site", "cross-site")
	if want := "/end_session?" + query.Encode(); round.status != http.StatusSeeOther || round.header.Get("Location") != want {
		t.Fatalf("another site's form: %d to %q", round.status, round.header.Get("Location"))
	}
	if got := c.get(c.browser("p1"), round.header.Get("Location")); got.status != http.StatusSeeOther || got.header.Get("Location") != bye || l.count != 1 {
		t.Errorf("by GET: %d to %q, signed out %d times", got.status, got.header.Get("Location"), l.count)
	}
	if got := c.postRaw(c.browser(""), "/end_session", "post_logout_redirect_uri=https%3A%2F%2Fevil.test%2F", "Origin", "https://evil.test"); got.status != http.StatusBadRequest {
		t.Errorf("a bad one is not sent round: %d", got.status)
	}
	// Asked, the person says yes; a form of another session says nothing.
	browser := c.browser("p1")
	page := c.get(browser, "/end_session?"+url.Values{"client_id": {"rp"}, "post_logout_redirect_uri": {bye}}.Encode())
	if !strings.Contains(page.body, "Relying party") || !strings.Contains(page.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("the page: %s", page.body)
	}
	action, form := fields(t, page.body)
	l.count = 0
	if got := c.postRaw(c.browser("p2"), action, form.Encode(), "Origin", c.url); got.status != http.StatusForbidden || l.count != 0 {
		t.Errorf("another session's form: %d", got.status)
	}
	if got := c.postRaw(browser, action, form.Encode(), "Origin", "https://evil.test"); got.status != http.StatusForbidden || l.count != 0 {
		t.Errorf("another site's form: %d", got.status)
	}
	if got := c.postRaw(browser, action, form.Encode(), "Origin", c.url); got.status != http.StatusSeeOther || got.header.Get("Location") != bye || l.count != 1 {
		t.Errorf("the person's yes: %d %s", got.status, got.header.Get("Location"))
	}
	l.fail, l.trail = errors.New("connection refused"), nil
	if got := c.get(c.browser("p1"), "/end_session?"+url.Values{"id_token_hint": {hint}}.Encode()); got.status != http.StatusServiceUnavailable || len(l.trail) > 0 {
		t.Errorf("a store that is away: %d, trail %v", got.status, l.trail)
	}
}

// onces keeps pushed requests, and assertions for good.
type onces struct {
	mu   sync.Mutex
	away bool
	kept map[identity.Digest][]byte
	till map[identity.Digest]time.Time
}

func (o *onces) PutOnce(_ context.Context, d identity.Digest, _ string, data []byte, expires time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away {
		return errors.New("connection refused")
	}
	if _, there := o.kept[d]; there {
		return identity.ErrExists
	}
	o.kept[d], o.till[d] = bytes.Clone(data), expires
	return nil
}

func (o *onces) TakeOnce(_ context.Context, d identity.Digest, _ string, now time.Time) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	data, ok := o.kept[d]
	if !ok || !now.Before(o.till[d]) {
		return nil, identity.ErrNotFound
	}
	delete(o.kept, d)
	return data, nil
}

// TestPushedRequests (RFC 9126): taken once, by the client that left it, for a minute; and
// what would be refused on the page is refused at once, without a word of the secret kept.
func TestPushedRequests(t *testing.T) {
	kept := &onces{kept: map[identity.Digest][]byte{}, till: map[identity.Digest]time.Time{}}
	c := newChecksWith(t, func(o *authserver.Options) { o.Once = kept })
	push := func(client string, changes ...string) answer {
		t.Helper()
		return c.postRaw(http.DefaultClient, "/par", c.query(append([]string{"client_id", ""}, changes...)...), "Authorization", rpBasic(client))
	}
	got := push("rp")
	reference := got.text(t, "request_uri")
	if got.status != http.StatusCreated || !strings.HasPrefix(reference, "urn:ietf:params:oauth:request_uri:") || got.json(t)["expires_in"] != 60.0 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, data := range kept.kept {
		if strings.Contains(string(data), rpSecret) {
			t.Error("the secret was kept")
		}
	}
	for what, bad := range map[string]answer{
		"another redirect":  push("rp", "redirect_uri", "https://evil.test/"),
		"no PKCE":           push("rp", "code_challenge", ""),
		"a reference in it": push("rp", "request_uri", reference),
		"another client's":  push("rp", "client_id", "old"),
		"a wrong secret":    c.postRaw(http.DefaultClient, "/par", c.query(), "Authorization", "Basic cnA6eA=="),
	} {
		if bad.status != http.StatusBadRequest && bad.status != http.StatusUnauthorized || bad.text(t, "request_uri") != "" {
			t.Errorf("%s: %d %s", what, bad.status, bad.body)
		}
	}
	visit := func(client, reference string) answer {
		return c.get(c.person, "/authorize?"+url.Values{"client_id": {client}, "request_uri": {reference}}.Encode())
	}
	if page := visit("old", push("rp").text(t, "request_uri")); page.status != http.StatusBadRequest {
		t.Errorf("by another client: %d", page.status)
	}
	if page := visit("rp", reference); page.status != http.StatusOK {
		t.Fatalf("the page: %d %s", page.status, page.body)
	}
	if page := visit("rp", reference); page.status != http.StatusBadRequest {
		t.Errorf("a second time: %d", page.status)
	}
	late := push("rp").text(t, "request_uri")
	c.clock.forward(2 * time.Minute)
	if page := visit("rp", late); page.status != http.StatusBadRequest {
		t.Errorf("too late: %d", page.status)
	}
}

// TestKeyLife: a new key is published before it signs; the old one signs until then, and
// stays until what it signed has expired. Tokens of both are good the whole time.
func TestKeyLife(t *testing.T) {
	keys := memory.New()
	c := newChecksWith(t, func(o *authserver.Options) { o.IDKey, o.Keys = nil, keys })
	published := func() []string {
		t.Helper()
		var set struct {
			Keys []struct{ Kid, D string }
		}
		if err := json.Unmarshal([]byte(c.get(http.DefaultClient, "/jwks").body), &set); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, key := range set.Keys {
			if key.D != "" {
				t.Error("a private key is published")
			}
			ids = append(ids, key.Kid)
		}
		return ids
	}
	// The keys that a client fetched at one time, as it keeps them.
	fetched := func() *oidc.IDTokenVerifier {
		provider, err := oidc.NewProvider(t.Context(), c.url)
		if err != nil {
			t.Fatal(err)
		}
		return provider.Verifier(&oidc.Config{ClientID: "rp", Now: c.clock.Now})
	}
	good := func(what string, by *oidc.IDTokenVerifier, token string) {
		t.Helper()
		if _, err := by.Verify(t.Context(), token); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	first := c.tokens().text(t, "id_token")
	good("the first", fetched(), first)
	old := published()
	if len(old) != 1 {
		t.Fatalf("published %v", old)
	}
	made, err := authserver.NewSigningKey(bytes.Repeat([]byte{7}, 32), strings.NewReader(strings.Repeat("r", 64)), c.clock.Now(), c.clock.Now().Add(authserver.KeyLead))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.AddSigningKey(t.Context(), made, false); err != nil {
		t.Fatal(err)
	}
	c.clock.forward(time.Minute)
	if now := published(); len(now) != 2 || now[0] != old[0] || now[1] != made.ID {
		t.Errorf("published ahead of its time: %v", now)
	}
	early := fetched()
	c.clock.forward(authserver.KeyLead - 2*time.Minute)
	last := c.tokens().text(t, "id_token")
	if head := last[:strings.Index(last, ".")]; head != first[:strings.Index(first, ".")] {
		t.Error("the new key signs too early")
	}
	c.clock.forward(2 * time.Minute)
	fresh := c.tokens().text(t, "id_token")
	if fresh[:strings.Index(fresh, ".")] == last[:strings.Index(last, ".")] {
		t.Error("the new key does not sign")
	}
	good("the old key's last", fetched(), last)
	good("the new key's, by keys of before", early, fresh)
	if now := published(); len(now) != 2 {
		t.Errorf("published %v while tokens of the old live", now)
	}
	c.clock.forward(20 * time.Minute)
	if now := published(); len(now) != 1 || now[0] != made.ID {
		t.Errorf("published %v when all is over", now)
	}
	if strings.Contains(keys.Dump(), "PRIVATE") {
		t.Error("a private key in the clear")
	}
}

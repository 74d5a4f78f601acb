package authserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestRedirectAttacks reads the list of redirect URIs that attackers send, and sends each
// to a client that has them exact, to a registered one with a loopback address, and as the
// client id "open": none may take the browser anywhere.
func TestRedirectAttacks(t *testing.T) {
	b := newBench(t, func(o *authserver.Options) { o.Open = true })
	file, err := os.Open("testdata/redirect-attacks.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	clients, tried := []string{"mutt", authserver.OpenClient, b.registered()}, 0
	browser := b.browser("p1")
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		tried++
		for _, client := range clients {
			page := b.get(browser, "/authorize?"+authQuery("client_id", client, "redirect_uri", lines.Text()).Encode())
			if page.status != http.StatusBadRequest || page.header.Get("Location") != "" || strings.Contains(page.body, "<form") {
				t.Errorf("client %.10s: %q: %d, to %q", client, lines.Text(), page.status, page.header.Get("Location"))
			}
		}
	}
	if tried < 30 {
		t.Errorf("%d attacks", tried)
	}
	// And what the client id "open" is for.
	for _, good := range []string{"http://127.0.0.1:4711/cb", "http://[::1]:1/", "org.example.mail:/cb"} {
		if page := b.get(browser, "/authorize?"+authQuery("client_id", authserver.OpenClient, "redirect_uri", good).Encode()); page.status != http.StatusOK || !strings.Contains(page.body, "Nobody here has checked") {
			t.Errorf("%s: %d %s", good, page.status, page.body)
		}
	}
	if page := newBench(t).get(browser, "/authorize?"+authQuery("client_id", authserver.OpenClient).Encode()); page.status != http.StatusBadRequest {
		t.Errorf("the client id open where it is not allowed: %d", page.status)
	}
}

func (b *bench) registered() string {
	b.t.Helper()
	got := b.postRaw(http.DefaultClient, "/register", `{"redirect_uris":["http://127.0.0.1/cb"],"grant_types":["authorization_code","refresh_token"]}`, "Content-Type", "application/json")
	return got.text(b.t, "client_id")
}

// TestPKCEDowngrade: what may go without PKCE and what may not, by client and request.
func TestPKCEDowngrade(t *testing.T) {
	c := newChecks(t)
	for what, one := range map[string]struct {
		client          string
		challenge       bool
		verifier        string
		page, exchanged bool
	}{
		"a client that must, without":          {"rp", false, "", false, false},
		"a client that must, with":             {"rp", true, verifier, true, true},
		"a client that must, forgets verifier": {"rp", true, "", true, false},
		"a client that cannot":                 {"old", false, "", true, true},
		"a client that cannot, and does":       {"old", true, verifier, true, true},
		"challenge, but no verifier":           {"old", true, "", true, false},
		"challenge, and a wrong verifier":      {"old", true, strings.Repeat("x", 43), true, false},
		"no challenge, but a verifier":         {"old", false, verifier, true, false},
	} {
		changes := []string{"client_id", one.client, "prompt", "consent"}
		if !one.challenge {
			changes = append(changes, "code_challenge", "", "code_challenge_method", "")
		}
		code := c.back(changes...).Get("code")
		if (code != "") != one.page {
			t.Errorf("%s: code %v", what, code != "")
		}
		if code == "" {
			continue
		}
		form := changed(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {"https://rp.test/cb"}, "code_verifier": {"x"}}, []string{"code_verifier", one.verifier})
		got := c.postRaw(http.DefaultClient, "/token", form.Encode(), "Authorization", rpBasic(one.client))
		if (got.status == http.StatusOK) != one.exchanged {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	// A public client never goes without, whatever it is marked.
	if back := c.get(c.person, "/authorize?"+authQuery("code_challenge", "", "code_challenge_method", "").Encode()).location(t); back.Get("error") != "invalid_request" {
		t.Errorf("a public client: %v", back)
	}
}

// TestClientAuthentication: each way to be somebody else.
func TestClientAuthentication(t *testing.T) {
	c := newChecks(t)
	refresh := c.tokens("scope", "openid imap offline_access").text(t, "refresh_token")
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	with := func(pairs ...string) string {
		return changed(url.Values{"grant_type": form["grant_type"], "refresh_token": {refresh}}, pairs).Encode()
	}
	for what, one := range map[string]struct{ body, header string }{
		"no secret":                     {with("client_id", "rp"), ""},
		"a wrong secret":                {with("client_id", "rp", "client_secret", "x"), ""},
		"a wrong secret in the header":  {with(), "Basic cnA6eA=="},
		"secret in both places":         {with("client_id", "rp", "client_secret", rpSecret), rpBasic("rp")},
		"another id in the body":        {with("client_id", "old"), rpBasic("rp")},
		"a bearer":                      {with("client_id", "rp"), "Bearer " + rpSecret},
		"an assertion":                  {with("client_id", "rp", "client_assertion", "x", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), ""},
		"an assertion beside a secret":  {with("client_assertion", "x"), rpBasic("rp")},
		"a public client with a secret": {with("client_id", "mutt", "client_secret", rpSecret), ""},
		"a public client by header":     {with(), rpBasic("mutt")},
		"nobody":                        {with(), ""},
		"a client that is not known":    {with("client_id", "nobody"), ""},
		"a broken escape":               {with(), "Basic JXp6OiV6eg=="},
	} {
		headers := []string{}
		if one.header != "" {
			headers = append(headers, "Authorization", one.header)
		}
		got := c.postRaw(http.DefaultClient, "/token", one.body, headers...)
		if got.text(t, "error") != "invalid_client" {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	// None of that has spent it.
	if got := c.postRaw(http.DefaultClient, "/token", with("client_id", "rp", "client_secret", rpSecret)); got.status != http.StatusOK {
		t.Errorf("the secret in the body: %d %s", got.status, got.body)
	}
}

// A store of clients that can be away.
type awayClients struct{ authserver.ClientStore }

func (awayClients) Client(context.Context, identity.ClientID) (identity.Client, error) {
	return identity.Client{}, errors.New("connection refused")
}

func (awayClients) RegistrationEnded(context.Context, identity.ClientID) (bool, error) {
	return false, errors.New("connection refused")
}

// A database that is away is "later": on invalid_client programs throw their grant away.
func TestClientStoreAway(t *testing.T) {
	b := newBench(t, func(o *authserver.Options) { o.ClientStore = awayClients{} })
	for _, id := range []string{"entered", b.registered()} {
		b.wantError(b.post("/token", refreshForm("llrt_"+strings.Repeat("A", 43), "client_id", id)), http.StatusServiceUnavailable, "temporarily_unavailable")
		if page := b.get(b.browser("p1"), "/authorize?"+authQuery("client_id", id).Encode()); page.status != http.StatusServiceUnavailable {
			t.Errorf("the page: %d", page.status)
		}
	}
}

// floods counts like the daemon's throttle, with small numbers.
type floods struct {
	mu   sync.Mutex
	seen map[string]int
}

func (f *floods) Refuse(_ context.Context, what string, from netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[what+from.String()] >= 3
}

func (f *floods) Count(_ context.Context, what string, from netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[what+from.String()]++
}

// TestFloods: each kind is counted apart and by the address of who asks; what is good is
// not counted at all where a whole house may ask from one address.
func TestFloods(t *testing.T) {
	f := &floods{seen: map[string]int{}}
	b := newBench(t, func(o *authserver.Options) {
		o.Throttle = f
		o.Remote = func(r *http.Request) netip.Addr { return netip.MustParseAddr(r.Header.Get("X-Test-From")) }
	})
	from := func(address, path, body, kind string) answer {
		return b.postRaw(http.DefaultClient, path, body, "X-Test-From", address, "Content-Type", kind)
	}
	const form, json = "application/x-www-form-urlencoded", "application/json"
	const flood, other = "203.0.113.1", "203.0.113.2"
	refused := func(what string, a answer, want bool) {
		t.Helper()
		if got := a.status == http.StatusTooManyRequests; got != want || got && a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s, refused %v", what, a.status, a.body, want)
		}
	}
	for n := range 5 {
		refused(fmt.Sprint("registration ", n), from(flood, "/register", `{"redirect_uris":["http://127.0.0.1/cb"]}`, json), n >= 3)
		refused(fmt.Sprint("device ", n), from(flood, "/device_authorization", "client_id=mutt", form), n >= 3)
	}
	// Tokens still come to the flooded network, and registrations to others.
	access, refresh := b.tokensFrom(flood)
	refused("another network", from(other, "/register", `{"redirect_uris":["http://127.0.0.1/cb"]}`, json), false)
	for range 10 {
		got := from(flood, "/token", refreshForm(refresh).Encode(), form)
		refused("a good renewal", got, false)
		refresh = got.text(t, "refresh_token")
	}
	for n := range 5 {
		refused(fmt.Sprint("guess ", n), from(flood, "/token", refreshForm("llrt_"+strings.Repeat("A", 43)).Encode(), form), n >= 3)
	}
	refused("guesses elsewhere", from(other, "/token", refreshForm(refresh).Encode(), form), false)
	if access == "" {
		t.Error("no token")
	}
}

// tokensFrom is tokens with the address that TestFloods reads.
func (b *bench) tokensFrom(address string) (access, refresh string) {
	b.t.Helper()
	browser := b.browser("p1")
	browser.Transport = fromAddress(address)
	page := b.get(browser, "/authorize?"+authQuery().Encode())
	action, form := fields(b.t, page.body)
	form.Set("decision", "allow")
	code := b.postRaw(browser, action, form.Encode(), "Origin", b.url).location(b.t).Get("code")
	got := b.postRaw(browser, "/token", codeForm(code).Encode())
	return got.text(b.t, "access_token"), got.text(b.t, "refresh_token")
}

type fromAddress string

func (f fromAddress) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Test-From", string(f))
	return http.DefaultTransport.RoundTrip(r)
}

// counted shares counts as the database does.
type counted struct {
	mu   sync.Mutex
	sums map[string]int
	away bool
}

func (c *counted) Count(_ context.Context, key string, window time.Time, add int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return 0, errors.New("connection refused")
	}
	if strings.Contains(key, "p1") || strings.Contains(key, "127.0.0.1") {
		return 0, errors.New("the key names somebody")
	}
	c.sums[key+window.String()] += add
	return c.sums[key+window.String()], nil
}

// TestGuessesAtTwoInstances: wrong user codes are counted over all instances, and by each
// alone while the database is away.
func TestGuessesAtTwoInstances(t *testing.T) {
	shared := &counted{sums: map[string]int{}}
	use := func(o *authserver.Options) { o.Counter = shared }
	one, two := newBench(t, use), newBench(t, use)
	two.clock = one.clock
	guess := func(b *bench) int {
		return b.postRaw(b.browser("p1"), "/device", "user_code=BBBB-BBBB", "Origin", b.url).status
	}
	for n := range 6 {
		b := one
		if n%2 == 1 {
			b = two
		}
		want := http.StatusBadRequest
		if n >= 5 {
			want = http.StatusTooManyRequests
		}
		if got := guess(b); got != want {
			t.Errorf("guess %d: %d, want %d", n, got, want)
		}
	}
	shared.away = true
	for n := range 6 {
		if got, limited := guess(one), n >= 5; (got == http.StatusTooManyRequests) != limited {
			t.Errorf("alone, guess %d: %d", n, got)
		}
	}
}

// hungUp is a store of codes that answers once whoever asked has hung up, and a store of
// grants that does nothing for those.
type hungUp struct {
	authserver.CodeStore
	leave func()
}

func (h *hungUp) TakeCode(ctx context.Context, digest identity.Digest, at time.Time) (identity.Code, error) {
	code, err := h.CodeStore.TakeCode(ctx, digest, at)
	if h.leave != nil {
		h.leave()
		<-ctx.Done()
	}
	return code, err
}

type patientGrants struct{ authserver.GrantStore }

func (p patientGrants) Grant(ctx context.Context, id identity.GrantID) (identity.Grant, error) {
	if ctx.Err() != nil {
		return identity.Grant{}, ctx.Err()
	}
	return p.GrantStore.Grant(ctx, id)
}

func (p patientGrants) RevokeGrant(ctx context.Context, id identity.GrantID, at time.Time, reason string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.GrantStore.RevokeGrant(ctx, id, at, reason)
}

// ends tells of the ends of grants.
type ends chan string

func (e ends) AddEvent(_ context.Context, event identity.Event) error {
	if event.Kind == "grant.revoked" {
		e <- event.Detail
	}
	return nil
}

func (e ends) Together(ctx context.Context, do func(context.Context) error) error { return do(ctx) }

// TestReplayAndHangUp: a replay ends the family, and the mail servers are told, also when
// whoever sent it does not wait for the answer.
func TestReplayAndHangUp(t *testing.T) {
	codes, told := &hungUp{}, make(ends, 1)
	b := newBench(t, func(o *authserver.Options) {
		codes.CodeStore = o.Codes
		o.Codes, o.Grants, o.Trail = codes, patientGrants{o.Grants}, told
	})
	code := b.allow(authQuery())
	access := b.post("/token", codeForm(code)).text(t, "access_token")
	if !b.active(access) {
		t.Fatal("no token")
	}
	ctx, leave := context.WithCancel(t.Context())
	codes.leave = leave
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/token", strings.NewReader(codeForm(code).Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
		t.Fatalf("an answer: %d", resp.StatusCode)
	}
	select {
	case why := <-told:
		if !strings.Contains(why, "used twice") || b.active(access) {
			t.Errorf("%s; active: %v", why, b.active(access))
		}
	case <-time.After(2 * time.Minute):
		t.Errorf("nobody is told; active: %v", b.active(access))
	}
}

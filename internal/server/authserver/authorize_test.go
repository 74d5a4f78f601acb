package authserver_test

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func TestRedirectList(t *testing.T) {
	list, err := os.ReadFile("testdata/redirects.txt")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	browser := b.browser("p1")
	for line := range strings.Lines(string(list)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		uri, good := strings.CutPrefix(line, "ok ")
		query := authQuery()
		query.Set("redirect_uri", uri)
		got := b.get(browser, "/authorize?"+query.Encode())
		switch {
		case good && got.status != http.StatusOK:
			t.Errorf("%q: refused with %d", uri, got.status)
		case !good && (got.status != http.StatusBadRequest || got.header.Get("Location") != ""):
			t.Errorf("%q: got %d Location %q, want an error page", uri, got.status, got.header.Get("Location"))
		}
	}
}

// TestAuthorizePageFaults are faults that must never be sent anywhere.
func TestAuthorizePageFaults(t *testing.T) {
	b := newBench(t)
	good := authQuery().Encode()
	for name, query := range map[string]string{
		"no client":               authQuery("client_id", "").Encode(),
		"unknown client":          authQuery("client_id", "nobody").Encode(),
		"forged registered id":    authQuery("client_id", "llc_eyJuIjoieCJ9.AAAA").Encode(),
		"no redirect":             authQuery("redirect_uri", "").Encode(),
		"client twice":            good + "&client_id=mutt",
		"client twice, one empty": good + "&client_id=",
		"redirect twice":          good + "&redirect_uri=https%3A%2F%2Fevil.test",
		"semicolon":               good + "&a=1;b=2",
		"bad escape":              good + "&a=%zz",
		"control character":       good + "&nonce=%0a",
		"not UTF-8":               good + "&nonce=%ff",
		"too many":                good + strings.Repeat("&a", 1) + manyParams(60),
		"too long":                good + "&nonce=" + strings.Repeat("n", 20<<10),
		"value too long":          good + "&nonce=" + strings.Repeat("n", 5<<10),
	} {
		for _, who := range []string{"", "p1"} {
			got := b.get(b.browser(who), "/authorize?"+query)
			if got.status != http.StatusBadRequest || got.header.Get("Location") != "" {
				t.Errorf("%s: got %d Location %q", name, got.status, got.header.Get("Location"))
			}
		}
	}
}

func manyParams(n int) string {
	var all strings.Builder
	for i := range n {
		all.WriteString("&p" + string(rune('A'+i/26)) + string(rune('a'+i%26)) + "=1")
	}
	return all.String()
}

// TestAuthorizeRedirectFaults are faults that the client learns, with state and iss.
func TestAuthorizeRedirectFaults(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct {
		query string
		want  string
	}{
		"no response type":       {authQuery("response_type", "").Encode(), "invalid_request"},
		"implicit":               {authQuery("response_type", "token").Encode(), "unsupported_response_type"},
		"hybrid":                 {authQuery("response_type", "code id_token").Encode(), "unsupported_response_type"},
		"fragment":               {authQuery("response_mode", "fragment").Encode(), "invalid_request"},
		"form post":              {authQuery("response_mode", "form_post").Encode(), "invalid_request"},
		"no PKCE":                {authQuery("code_challenge", "").Encode(), "invalid_request"},
		"PKCE plain":             {authQuery("code_challenge_method", "plain").Encode(), "invalid_request"},
		"PKCE plain by default":  {authQuery("code_challenge_method", "").Encode(), "invalid_request"},
		"PKCE method case":       {authQuery("code_challenge_method", "s256").Encode(), "invalid_request"},
		"PKCE challenge short":   {authQuery("code_challenge", "abc").Encode(), "invalid_request"},
		"PKCE challenge padded":  {authQuery("code_challenge", challenge(verifier)+"=").Encode(), "invalid_request"},
		"PKCE challenge not b64": {authQuery("code_challenge", strings.Repeat("!", 43)).Encode(), "invalid_request"},
		"unknown scopes only":    {authQuery("scope", "calendar").Encode(), "invalid_scope"},
		"no mail scope":          {authQuery("scope", "offline_access").Encode(), "invalid_scope"},
		"request object":         {authQuery("request", "eyJ").Encode(), "request_not_supported"},
		"request uri":            {authQuery("request_uri", "https://evil.test").Encode(), "request_uri_not_supported"},
		"scope twice":            {authQuery().Encode() + "&scope=imap", "invalid_request"},
		"challenge twice":        {authQuery().Encode() + "&code_challenge=" + challenge("x"), "invalid_request"},
		"client without grants":  {authQuery("client_id", "poor").Encode(), "unauthorized_client"},
		"no page wanted":         {authQuery("prompt", "none").Encode(), "consent_required"},
	} {
		back := b.get(b.browser("p1"), "/authorize?"+c.query).location(t)
		if back.Get("error") != c.want || back.Get("state") != "st a&te" || back.Get("iss") != b.url || back.Get("code") != "" {
			t.Errorf("%s: got %v, want %s with state and iss", name, back, c.want)
		}
	}
	back := b.get(b.browser("p1"), "/authorize?"+authQuery().Encode()+"&state=other").location(t)
	if back.Get("error") != "invalid_request" || back.Has("state") {
		t.Errorf("state twice: got %v, want invalid_request and no state", back)
	}
	if back := b.get(b.browser(""), "/authorize?"+authQuery("prompt", "none").Encode()).location(t); back.Get("error") != "login_required" {
		t.Errorf("prompt=none, nobody there: %v", back)
	}
}

func TestAuthorizeSignsInFirst(t *testing.T) {
	b := newBench(t)
	back := b.get(b.browser(""), "/authorize?"+authQuery().Encode()).location(t)
	if back.Get("back") != "/authorize?"+authQuery().Encode() {
		t.Errorf("sign-in was told to come back to %q", back.Get("back"))
	}
}

func TestConsentPage(t *testing.T) {
	b := newBench(t)
	page := b.get(b.browser("p1"), "/authorize?"+authQuery().Encode())
	for _, want := range []string{"Mutt", "You@try.test", "read, change and delete all your mail", "send mail as you", "a program on this computer", "only let it send"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	policy := page.header.Get("Content-Security-Policy")
	// Without the target in form-action browsers stop the redirect to the program.
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self' http://127.0.0.1:4711;"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
		if got := page.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestConsentAnswers(t *testing.T) {
	b := newBench(t)
	ask := func(query url.Values, changes ...string) url.Values {
		browser := b.browser("p1")
		action, form := fields(t, b.get(browser, "/authorize?"+query.Encode()).body)
		return b.postRaw(browser, action, changed(form, changes).Encode(), "Origin", b.url).location(t)
	}
	if back := ask(authQuery(), "decision", "deny"); back.Get("error") != "access_denied" || back.Get("iss") != b.url || back.Get("state") != "st a&te" {
		t.Errorf("refusal: %v", back)
	}
	if back := ask(authQuery(), "limit", "send-only"); back.Get("error") != "access_denied" {
		t.Errorf("no decision at all: %v", back)
	}
	back := ask(authQuery("redirect_uri", "https://app.example/cb?x=1"), "decision", "allow")
	if back.Get("x") != "1" || !strings.HasPrefix(back.Get("code"), "llac_") || back.Get("iss") != b.url {
		t.Errorf("redirect with a query: %v", back)
	}
}

// TestConsentForgery: nobody but the person, on our page, in this session, decides.
func TestConsentForgery(t *testing.T) {
	b := newBench(t)
	browser := b.browser("p1")
	action, form := fields(t, b.get(browser, "/authorize?"+authQuery().Encode()).body)
	form.Set("decision", "allow")
	other := authQuery("scope", "urn:ietf:params:oauth:scope:mail").Encode()
	for name, c := range map[string]struct {
		client  *http.Client
		form    url.Values
		headers []string
	}{
		"another site":       {browser, form, []string{"Origin", "https://evil.test"}},
		"another site, meta": {browser, form, []string{"Sec-Fetch-Site", "cross-site"}},
		"a sandboxed frame":  {browser, form, []string{"Origin", "null"}},
		"same site":          {browser, form, []string{"Sec-Fetch-Site", "same-site"}},
		"another session":    {b.browser("p2"), form, nil},
		"nobody":             {b.browser(""), form, nil},
		"no token":           {browser, changed(clone(form), []string{"token", ""}), nil},
		"another request":    {browser, changed(clone(form), []string{"request", other}), nil},
	} {
		got := b.postRaw(c.client, action, c.form.Encode(), c.headers...)
		if got.status != http.StatusForbidden || got.header.Get("Location") != "" {
			t.Errorf("%s: got %d %q, want 403", name, got.status, got.header.Get("Location"))
		}
	}
	if got := b.get(browser, action+"?"+form.Encode()); got.status != http.StatusMethodNotAllowed {
		t.Errorf("consent by GET: %d", got.status)
	}
	if got := b.postRaw(browser, action, form.Encode()+"&decision=allow"); got.status != http.StatusBadRequest {
		t.Errorf("a field twice: %d", got.status)
	}
}

func clone(v url.Values) url.Values {
	w := url.Values{}
	for k, list := range v {
		w[k] = append([]string(nil), list...)
	}
	return w
}

func TestDisabledPersonCannotConsent(t *testing.T) {
	b := newBench(t)
	b.store.PutPerson(identity.Person{ID: "p1", Address: "you@try.test", Disabled: b.clock.Now()})
	if got := b.get(b.browser("p1"), "/authorize?"+authQuery().Encode()); got.status != http.StatusBadRequest {
		t.Errorf("got %d, want an error page", got.status)
	}
}

// TestNamesAreText: a program names itself, and its name is shown to people.
func TestNamesAreText(t *testing.T) {
	b := newBench(t)
	got := b.postRaw(http.DefaultClient, "/register", `{"client_name":"<script>alert(1)</script>","redirect_uris":["http://127.0.0.1/cb"]}`, "Content-Type", "application/json")
	page := b.get(b.browser("p1"), "/authorize?"+authQuery("client_id", got.text(t, "client_id")).Encode())
	if strings.Contains(page.body, "<script") || !strings.Contains(page.body, "&lt;script&gt;") || !strings.Contains(page.body, "Nobody here has checked this program") {
		t.Errorf("the page: %s", page.body)
	}
}

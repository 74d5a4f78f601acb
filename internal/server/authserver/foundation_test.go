package authserver_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A bank of checks is a server with a confidential client "rp", as the OpenID Foundation's
// tests register one, and somebody signed in.
type checks struct {
	*bench
	person *http.Client
}

const rpSecret = "llcs_test"

func newChecks(t *testing.T) *checks {
	t.Helper()
	return newChecksWith(t, func(*authserver.Options) {})
}

func newChecksWith(t *testing.T, change func(*authserver.Options)) *checks {
	t.Helper()
	b := newBench(t, change, func(o *authserver.Options) {
		o.Clients = append(o.Clients, identity.Client{ID: "rp", Name: "Relying party", Verified: true, Secret: identity.DigestOf(rpSecret),
			RedirectURIs: []string{"https://rp.test/cb"}, LogoutURIs: []string{"https://rp.test/bye"},
			Grants: []identity.GrantType{identity.AuthorizationCode, identity.RefreshGrant}})
		o.Clients = append(o.Clients, identity.Client{ID: "old", Name: "Old", Verified: true, Secret: identity.DigestOf(rpSecret), WithoutPKCE: true,
			RedirectURIs: []string{"https://rp.test/cb"}, Grants: []identity.GrantType{identity.AuthorizationCode, identity.RefreshGrant}})
	})
	b.store.PutPerson(identity.Person{ID: "p1", Address: "You@try.test", Name: "You Yourself"})
	return &checks{b, b.browser("p1")}
}

func (c *checks) query(changes ...string) string {
	return changed(url.Values{"response_type": {"code"}, "client_id": {"rp"}, "redirect_uri": {"https://rp.test/cb"}, "state": {"st"}, "scope": {"openid"},
		"nonce": {"n1"}, "code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"}}, changes).Encode()
}

// back is where the browser ends, through the consent page when there is one.
func (c *checks) back(changes ...string) url.Values {
	c.t.Helper()
	page := c.get(c.person, "/authorize?"+c.query(changes...))
	if page.status == http.StatusOK {
		action, form := fields(c.t, page.body)
		form.Set("decision", "allow")
		page = c.postRaw(c.person, action, form.Encode(), "Origin", c.url)
	}
	return page.location(c.t)
}

func (c *checks) redeem(code string, changes ...string) answer {
	c.t.Helper()
	form := changed(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {"https://rp.test/cb"}, "code_verifier": {verifier}}, changes)
	return c.postRaw(http.DefaultClient, "/token", form.Encode(), "Authorization", rpBasic("rp"))
}

func rpBasic(id string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+rpSecret))
}

func (c *checks) tokens(changes ...string) answer {
	c.t.Helper()
	got := c.redeem(c.back(changes...).Get("code"))
	if got.status != http.StatusOK {
		c.t.Fatalf("token: %d %s", got.status, got.body)
	}
	return got
}

func (c *checks) claims(changes ...string) map[string]any {
	c.t.Helper()
	token, err := c.checkID("rp", c.tokens(changes...).text(c.t, "id_token"))
	if err != nil {
		c.t.Fatal(err)
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		c.t.Fatal(err)
	}
	return claims
}

// modules do what those of the OpenID Foundation's basic plan do, by their names.
func modules() map[string]func(*checks) {
	return map[string]func(*checks){
		"oidcc-server": func(c *checks) {
			if claims := c.claims(); claims["sub"] != "p1" || claims["aud"] != "rp" || claims["nonce"] != "n1" || claims["iss"] != c.url {
				c.t.Errorf("claims %v", claims)
			}
		},
		"oidcc-response-type-missing": func(c *checks) {
			if back := c.get(c.person, "/authorize?"+c.query("response_type", "")).location(c.t); back.Get("error") != "invalid_request" || back.Get("state") != "st" || back.Get("iss") != c.url {
				c.t.Errorf("answer %v", back)
			}
		},
		"oidcc-userinfo-get":         func(c *checks) { c.info("GET", "header") },
		"oidcc-userinfo-post-header": func(c *checks) { c.info("POST", "header") },
		"oidcc-userinfo-post-body":   func(c *checks) { c.info("POST", "body") },
		"oidcc-ensure-request-without-nonce-succeeds-for-code-flow": func(c *checks) {
			if claims := c.claims("nonce", ""); claims["nonce"] != nil {
				c.t.Errorf("claims %v", claims)
			}
		},
		"oidcc-scope-profile": func(c *checks) {
			if claims := c.claims("scope", "openid profile"); claims["name"] != "You Yourself" || claims["preferred_username"] != "you@try.test" {
				c.t.Errorf("claims %v", claims)
			}
		},
		"oidcc-scope-email": func(c *checks) {
			if claims := c.claims("scope", "openid email"); claims["email"] != "you@try.test" || claims["email_verified"] != true {
				c.t.Errorf("claims %v", claims)
			}
		},
		// What is not known here is left out, and the answer says so.
		"oidcc-scope-address":                     func(c *checks) { c.granted("openid address", "openid") },
		"oidcc-scope-phone":                       func(c *checks) { c.granted("openid phone", "openid") },
		"oidcc-scope-all":                         func(c *checks) { c.granted("openid email profile address phone", "openid email profile") },
		"oidcc-ensure-other-scope-order-succeeds": func(c *checks) { c.granted("email openid", "openid email") },
		"oidcc-display-page":                      func(c *checks) { c.claims("display", "page") },
		"oidcc-display-popup":                     func(c *checks) { c.claims("display", "popup") },
		"oidcc-prompt-login":                      func(c *checks) { c.again("prompt", "login") },
		"oidcc-max-age-1":                         func(c *checks) { c.again("max_age", "1") },
		"oidcc-max-age-10000": func(c *checks) {
			c.tokens()
			age := c.clock.Now().Sub(signedInAt()) + time.Hour
			back := c.get(c.person, "/authorize?"+c.query("prompt", "none", "max_age", seconds(age))).location(c.t)
			token, err := c.checkID("rp", c.redeem(back.Get("code")).text(c.t, "id_token"))
			if err != nil {
				c.t.Fatal(err)
			}
			var claims struct {
				Time int64 `json:"auth_time"`
			}
			if err := token.Claims(&claims); err != nil || claims.Time != signedInAt().Unix() {
				c.t.Errorf("auth_time %d, %v", claims.Time, err)
			}
		},
		"oidcc-prompt-none-not-logged-in": func(c *checks) {
			if back := c.get(c.browser(""), "/authorize?"+c.query("prompt", "none")).location(c.t); back.Get("error") != "login_required" {
				c.t.Errorf("answer %v", back)
			}
		},
		"oidcc-prompt-none-logged-in": func(c *checks) {
			if back := c.get(c.person, "/authorize?"+c.query("prompt", "none")).location(c.t); back.Get("error") != "consent_required" {
				c.t.Errorf("before consent: %v", back)
			}
			first := c.claims()
			back := c.get(c.person, "/authorize?"+c.query("prompt", "none", "nonce", "n2")).location(c.t)
			token, err := c.checkID("rp", c.redeem(back.Get("code")).text(c.t, "id_token"))
			if err != nil || token.Subject != first["sub"] || token.Nonce != "n2" {
				c.t.Errorf("%v, %v, %v", back, token, err)
			}
		},
		"oidcc-id-token-hint": func(c *checks) {
			hint := c.tokens().text(c.t, "id_token")
			if back := c.get(c.person, "/authorize?"+c.query("prompt", "none", "id_token_hint", hint)).location(c.t); back.Get("code") == "" {
				c.t.Errorf("the person of the hint: %v", back)
			}
			if back := c.get(c.browser("p2"), "/authorize?"+c.query("prompt", "none", "id_token_hint", hint)).location(c.t); back.Get("error") != "login_required" {
				c.t.Errorf("somebody else: %v", back)
			}
		},
		"oidcc-ensure-request-with-unknown-parameter-succeeds": func(c *checks) { c.claims("extra", "foobar") },
		"oidcc-login-hint":                              func(c *checks) { c.claims("login_hint", "buffy@example.com") },
		"oidcc-ui-locales":                              func(c *checks) { c.claims("ui_locales", "se") },
		"oidcc-claims-locales":                          func(c *checks) { c.claims("claims_locales", "se") },
		"oidcc-ensure-request-with-acr-values-succeeds": func(c *checks) { c.claims("acr_values", "1 2") },
		"oidcc-claims-essential":                        func(c *checks) { c.claims("claims", `{"userinfo":{"name":{"essential":true}}}`) },
		"oidcc-codereuse":                               func(c *checks) { c.reuse(0) },
		"oidcc-codereuse-30seconds":                     func(c *checks) { c.reuse(30 * time.Second) },
		"oidcc-ensure-registered-redirect-uri": func(c *checks) {
			for _, uri := range []string{"https://rp.test/cb/", "https://rp.test/cb?x", "https://evil.test/cb"} {
				if page := c.get(c.person, "/authorize?"+c.query("redirect_uri", uri)); page.status != http.StatusBadRequest || page.header.Get("Location") != "" {
					c.t.Errorf("%s: %d %s", uri, page.status, page.header.Get("Location"))
				}
			}
		},
		"oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported": func(c *checks) { c.requestObject() },
		"oidcc-ensure-request-object-with-redirect-uri":                                func(c *checks) { c.requestObject() },
		"oidcc-refresh-token": func(c *checks) {
			got := c.tokens("scope", "openid imap offline_access")
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.text(c.t, "refresh_token")}}
			if next := c.postRaw(http.DefaultClient, "/token", form.Encode(), "Authorization", rpBasic("rp")); next.status != http.StatusOK || !c.active(next.text(c.t, "access_token")) {
				c.t.Errorf("refreshed: %d %s", next.status, next.body)
			}
			// Another client's hands.
			c.wantError(c.postRaw(http.DefaultClient, "/token", form.Encode(), "Authorization", rpBasic("old")), http.StatusBadRequest, "invalid_grant")
		},
		"oidcc-ensure-request-with-valid-pkce-succeeds": func(c *checks) { c.tokens() },
	}
}

// TestFoundationChecks runs them; docs/oidf.md is the table.
func TestFoundationChecks(t *testing.T) {
	all := modules()
	page, err := os.ReadFile("../../../docs/oidf.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := regexp.MustCompile(`(?m)^\| (oidcc-[a-z0-9-]+) \|`).FindAllStringSubmatch(string(page), -1)
	if len(listed) != len(all) {
		t.Errorf("docs/oidf.md lists %d modules, here are %d", len(listed), len(all))
	}
	for _, row := range listed {
		check := all[row[1]]
		if check == nil {
			t.Errorf("docs/oidf.md lists %s, which is not checked", row[1])
			continue
		}
		t.Run(row[1], func(t *testing.T) { check(newChecks(t)) })
	}
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

func (c *checks) info(method, where string) {
	c.t.Helper()
	token := c.tokens("scope", "openid email").text(c.t, "access_token")
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+"/userinfo", nil)
	if where == "body" {
		req, err = http.NewRequestWithContext(c.t.Context(), method, c.url+"/userinfo", strings.NewReader("access_token="+token))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if where == "header" {
		req.Header.Set("Authorization", "Bearer "+token)
	} else {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	got := c.do(http.DefaultClient, req)
	if claims := got.json(c.t); got.status != http.StatusOK || claims["sub"] != "p1" || claims["email"] != "you@try.test" {
		c.t.Errorf("%d %s", got.status, got.body)
	}
}

func (c *checks) granted(asked, want string) {
	c.t.Helper()
	if got := c.tokens("scope", asked); got.text(c.t, "scope") != want || got.text(c.t, "id_token") == "" {
		c.t.Errorf("%q gave %s", asked, got.body)
	}
}

// again: the person must prove it once more, and once is enough.
func (c *checks) again(name, value string) {
	c.t.Helper()
	c.tokens()
	page := c.get(c.person, "/authorize?"+c.query(name, value))
	target, err := url.Parse(page.header.Get("Location"))
	if err != nil || page.status != http.StatusSeeOther || target.Path != "/signin" {
		c.t.Fatalf("%d %s", page.status, page.header.Get("Location"))
	}
	if name == "prompt" && strings.Contains(target.Query().Get("back"), "prompt=login") {
		c.t.Errorf("a loop: %s", target)
	}
	if back := c.get(c.person, "/authorize?"+c.query(name, strings.ReplaceAll(value, "login", "none"), "max_age", "1")).location(c.t); name == "prompt" && back.Get("error") != "login_required" {
		c.t.Errorf("silently: %v", back)
	}
}

// reuse: the second use is refused and ends what the first gave.
func (c *checks) reuse(later time.Duration) {
	c.t.Helper()
	code := c.back("scope", "openid imap").Get("code")
	got := c.redeem(code)
	access := got.text(c.t, "access_token")
	if !c.active(access) {
		c.t.Fatalf("%d %s", got.status, got.body)
	}
	c.clock.forward(later)
	c.wantError(c.redeem(code), http.StatusBadRequest, "invalid_grant")
	if c.active(access) {
		c.t.Error("the first token lives on")
	}
}

func (c *checks) requestObject() {
	c.t.Helper()
	object := "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(`{"client_id":"rp","redirect_uri":"https://rp.test/cb"}`)) + "."
	if back := c.get(c.person, "/authorize?"+c.query("request", object)).location(c.t); back.Get("error") != "request_not_supported" {
		c.t.Errorf("answer %v", back)
	}
}

// TestAllowedBefore: a further code without a question only for a program with a secret that
// was entered, for just what was allowed, by the same person, while that stands; and it adds
// no second grant.
func TestAllowedBefore(t *testing.T) {
	c := newChecksWith(t, func(o *authserver.Options) {
		o.Clients = append(o.Clients, identity.Client{ID: "chatty", Name: "Not checked", Secret: identity.DigestOf(rpSecret),
			RedirectURIs: []string{"https://rp.test/cb"}, Grants: []identity.GrantType{identity.AuthorizationCode}})
	})
	asked := func(who string, changes ...string) bool {
		t.Helper()
		page := c.get(c.browser(who), "/authorize?"+c.query(changes...))
		if page.status != http.StatusOK && page.location(t).Get("code") == "" {
			t.Fatalf("%v: %d %s", changes, page.status, page.body)
		}
		return page.status == http.StatusOK
	}
	refresh := c.tokens("scope", "openid imap").text(t, "refresh_token")
	c.back("client_id", "chatty", "scope", "openid imap")
	c.back("client_id", "mutt", "scope", "openid imap", "redirect_uri", callback)
	for what, one := range map[string]struct {
		who     string
		changes []string
		asked   bool
	}{
		"the same again":              {"p1", []string{"scope", "openid imap"}, false},
		"in another order":            {"p1", []string{"scope", "imap openid"}, false},
		"more":                        {"p1", []string{"scope", "openid imap smtp"}, true},
		"less":                        {"p1", []string{"scope", "openid"}, true},
		"somebody else":               {"p2", []string{"scope", "openid imap"}, true},
		"prompt=consent":              {"p1", []string{"scope", "openid imap", "prompt", "consent"}, true},
		"a program that is unchecked": {"p1", []string{"scope", "openid imap", "client_id", "chatty"}, true},
		"a public program":            {"p1", []string{"scope", "openid imap", "client_id", "mutt", "redirect_uri", callback}, true},
	} {
		if got := asked(one.who, one.changes...); got != one.asked {
			t.Errorf("%s: asked %v", what, got)
		}
	}
	if grants, err := c.store.GrantsOf(t.Context(), "p1"); err != nil || len(grants) != 3 {
		t.Errorf("%d grants, %v", len(grants), err)
	}
	if got := c.postRaw(http.DefaultClient, "/revoke", url.Values{"token": {refresh}}.Encode(), "Authorization", rpBasic("rp")); got.status != http.StatusOK {
		t.Fatalf("revoke: %d %s", got.status, got.body)
	}
	if !asked("p1", "scope", "openid imap") {
		t.Error("what was revoked is given again without a question")
	}
}

// somebody is signed in since a time that tests set.
type somebody struct{ at *time.Time }

func (s somebody) SignedIn(*http.Request) (authserver.Session, bool) {
	return authserver.Session{ID: "s", Person: "p1", At: *s.at}, true
}

func (somebody) Begin(w http.ResponseWriter, r *http.Request, back string) {
	http.Redirect(w, r, "/signin?back="+url.QueryEscape(back), http.StatusSeeOther)
}

// A demand for a fresh sign-in is obeyed once: who comes back from it sees the page, however
// long the sign-in took and however often they try.
func TestFreshSignInEnds(t *testing.T) {
	for _, demand := range [][]string{{"max_age", "0"}, {"max_age", "10"}, {"prompt", "login"}, {"prompt", "consent login"}} {
		var at time.Time
		c := newChecksWith(t, func(o *authserver.Options) { o.SignIn = somebody{&at} })
		at = c.clock.Now().Add(-time.Minute)
		page := c.get(c.person, "/authorize?"+c.query(demand...))
		target, err := url.Parse(page.header.Get("Location"))
		if err != nil || target.Path != "/signin" {
			t.Fatalf("%v: %d %s", demand, page.status, page.header.Get("Location"))
		}
		back := target.Query().Get("back")
		if again := c.get(c.person, back); again.status != http.StatusSeeOther {
			t.Errorf("%v: without a sign-in: %d", demand, again.status)
		}
		c.clock.forward(20 * time.Second)
		at = c.clock.Now()
		c.clock.forward(20 * time.Second)
		if page := c.get(c.person, back); page.status != http.StatusOK {
			t.Errorf("%v: after the sign-in: %d to %s", demand, page.status, page.header.Get("Location"))
		}
	}
	c := newChecks(t)
	if page := c.get(c.person, "/authorize?"+c.query("since", "99999999999")); page.status != http.StatusOK {
		t.Errorf("a time to come: %d", page.status)
	}
}

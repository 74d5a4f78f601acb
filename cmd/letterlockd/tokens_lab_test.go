//go:build lab

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// A chain is a site with pages, a person at a browser there, and a mail program that has
// registered itself.
type chain struct {
	*site
	op      *lab.OP // another issuer, whose tokens for mail are let in
	home    string  // of the pages
	browser *seat
	program string // client id
}

const chainCallback = "http://127.0.0.1:4711/cb"

func startChain(t *testing.T) *chain {
	t.Helper()
	port := freePorts(t, 1)[0]
	home := fmt.Sprintf("http://127.0.0.1:%d", port)
	op := lab.RunOP(t, lab.OPOptions{Audience: "https://mail.try.test"})
	s := newSite(t)
	s.more = fmt.Sprintf("[issuer.op]\nurl = %q\naudiences = [\"https://mail.try.test\"]\nclients = [%q]\nneed_scope = \"mail\"\n", op.Issuer, lab.PublicClient) + fmt.Sprintf("[web]\npublic_url = %q\nlisten = \"127.0.0.1:%d\"\nmaster_key_file = \"@folder@/master.key\"\n[oauth]\nregistration = true\n", home, port)
	// What is printed is all there is about tokens and passwords.
	s.change = func(o *lab.DovecotOptions) { o.Introspection, o.Sieve = "-", true }
	c := &chain{op: op, home: home, site: s.start()}
	c.onlyPrinted()
	c.run("person", "add", "ann@try.test")
	c.run("person", "add", "bob@try.test")
	c.browser = &seat{t, home, c.signInAs("ann@try.test")}
	c.serve()
	c.switchPostfix()
	c.program = c.post("/register", "", `{"client_name":"Chain","redirect_uris":["http://127.0.0.1/cb"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none"}`)["client_id"].(string)
	return c
}

// onlyPrinted looks whether Dovecot asks by nothing but what config dovecot has written, and
// by the logins that were there before.
func (c *chain) onlyPrinted() {
	c.t.Helper()
	out, err := exec.Command("doveconf", "-c", filepath.Join(c.dovecot.Dir, "dovecot.conf"), "-h", "passdb").Output()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, args := range regexp.MustCompile(`(?m)^ *args = (.*)$`).FindAllStringSubmatch(string(out), -1) {
		if !strings.HasPrefix(args[1], filepath.Join(c.folder, "dovecot")+"/") && args[1] != "password=#hidden_use-P_to_show#" {
			c.t.Errorf("Dovecot asks by %s", args[1])
		}
	}
	if printed := strings.Count(string(out), "driver = oauth2"); printed != 2 {
		c.t.Errorf("%d passdbs of ours in\n%s", printed, out)
	}
}

// post sends a form, or JSON when form is empty, and reads the JSON answer.
func (c *chain) post(path, form, json string) map[string]any {
	c.t.Helper()
	kind, body := "application/x-www-form-urlencoded", form
	if form == "" {
		kind, body = "application/json", json
	}
	res, err := http.Post(c.home+path, kind, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	return decodeMap(c.t, res)
}

func decodeMap(t *testing.T, res *http.Response) map[string]any {
	t.Helper()
	var value map[string]any
	if err := json.NewDecoder(res.Body).Decode(&value); err != nil {
		t.Fatalf("%s: %v", res.Status, err)
	}
	return value
}

// token goes through the pages for a token with these scopes; set fills the consent form.
func (c *chain) token(scope string, set ...string) string {
	c.t.Helper()
	const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	query := url.Values{"response_type": {"code"}, "client_id": {c.program}, "redirect_uri": {chainCallback}, "scope": {scope},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}
	code := c.browser.allow("/authorize?"+query.Encode(), set...).Get("code")
	got := c.post("/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {c.program}, "code": {code}, "redirect_uri": {chainCallback}, "code_verifier": {verifier}}.Encode(), "")
	text, _ := got["access_token"].(string)
	if text == "" {
		c.t.Fatalf("no token: %v", got)
	}
	return text
}

func bearer(mechanism, user, token string) string {
	first := "user=" + user + "\x01auth=Bearer " + token + "\x01\x01"
	if mechanism == "OAUTHBEARER" {
		first = "n,a=" + user + ",\x01host=mail.try.test\x01auth=Bearer " + token + "\x01\x01"
	}
	return base64.StdEncoding.EncodeToString([]byte(first))
}

// atIMAP presents a token and returns the challenge of a refusal, and the reply.
func (c *chain) atIMAP(mechanism, user, token string) (*talk, string, string) {
	c.t.Helper()
	conn := c.dial(c.dovecot.IMAPS)
	if _, err := conn.r.ReadString('\n'); err != nil {
		c.t.Fatal(err)
	}
	return c.authenticate(conn, "a AUTHENTICATE "+mechanism+" "+bearer(mechanism, user, token), "+ ", "")
}

// atSMTP does the same at Postfix.
func (c *chain) atSMTP(mechanism, user, token string) (*talk, string, string) {
	c.t.Helper()
	conn := c.dial(c.postfix.Subs)
	conn.reply()
	conn.say("EHLO client.try.test")
	return c.authenticate(conn, "AUTH "+mechanism+" "+bearer(mechanism, user, token), "334 ", "AQ==")
}

func (c *chain) authenticate(conn *talk, line, more, dummy string) (*talk, string, string) {
	c.t.Helper()
	reply := conn.say(line)
	challenge, refused := strings.CutPrefix(reply, more)
	if !refused {
		return conn, "", reply
	}
	text, err := base64.StdEncoding.DecodeString(challenge)
	if err != nil {
		c.t.Fatalf("challenge %q: %v", reply, err)
	}
	return conn, string(text), conn.say(dummy)
}

// together runs all at once: the mail servers make each refusal wait for seconds. What ends
// one by Fatal fails the test and lets the others go on.
func together(tries ...func()) {
	var all sync.WaitGroup
	for _, try := range tries {
		all.Go(try)
	}
	all.Wait()
}

// TestTokensThroughTheChain: tokens of our server at a real Dovecot by introspection, with
// nothing but the configuration that is printed, ManageSieve included, and at a real Postfix
// through mailauth: each mechanism, each scope, the refusals that name our discovery, and a
// revocation on the person's page that ends an open session.
func TestTokensThroughTheChain(t *testing.T) {
	c := startChain(t)
	const ann = "ann@try.test"
	all := c.token("urn:ietf:params:oauth:scope:mail")
	reads, sends := c.token("imap offline_access"), c.token("imap smtp", "limit", "send-only")
	forged := "llat_" + strings.Repeat("A", 43)
	var tries []func()
	for _, one := range []struct{ what, user, token, imap, smtp string }{
		{"everything", ann, all, "a OK", "235"},
		{"reading only", ann, reads, "a OK", "535"},
		{"sending only, as the person chose", ann, sends, "a NO", "235"},
		{"nobody's token", ann, forged, "a NO", "535"},
		{"somebody else's", "bob@try.test", all, "a NO", "535"},
		{"a JSON Web Token", ann, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.", "a NO", "535"},
	} {
		for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
			tries = append(tries, func() {
				_, challenge, got := c.atIMAP(mechanism, one.user, one.token)
				c.want(mechanism+" at IMAP: "+one.what, got, one.imap)
				c.challenge(mechanism+" at IMAP: "+one.what, challenge, one.imap == "a NO")
			}, func() {
				_, challenge, got := c.atSMTP(mechanism, one.user, one.token)
				c.want(mechanism+" at SMTP: "+one.what, got, one.smtp)
				c.challenge(mechanism+" at SMTP: "+one.what, challenge, one.smtp == "535")
			})
		}
	}
	together(tries...)
	conn, _, _ := c.atSMTP("OAUTHBEARER", ann, sends)
	for _, step := range [][2]string{{"MAIL FROM:<" + ann + ">", "250"}, {"RCPT TO:<bob@try.test>", "250"}, {"DATA", "354"},
		{"From: " + ann + "\r\nTo: bob@try.test\r\nSubject: token\r\n\r\nhello\r\n.", "250"}} {
		c.want(step[0], conn.say(step[0]), step[1])
	}
	c.introspected(all)

	idle, _, got := c.atIMAP("XOAUTH2", ann, all)
	c.want("sign-in", got, "a OK")
	c.want("select", idle.say("b SELECT INBOX"), "b OK")
	c.want("idle", idle.say("c IDLE"), "+")
	_, page := c.browser.do(http.MethodGet, "/", nil)
	card := regexp.MustCompile(`(?s)<h3>Chain(.{0,400}?)Read, change, delete and send all.*?</form>`).FindString(page)
	begun := time.Now()
	if res, text := c.browser.press(card, "/grants/revoke"); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("revocation: %s %s", res.Status, text)
	}
	if got := idle.reply(); got != "closed" && !strings.HasPrefix(got, "* BYE") {
		t.Errorf("the session of the revoked token heard %q", got)
	}
	t.Logf("the session ended %v after the revocation", time.Since(begun).Round(time.Millisecond))
	_, _, got = c.atIMAP("XOAUTH2", ann, all)
	c.want("IMAP once revoked", got, "a NO")
	_, _, got = c.atSMTP("XOAUTH2", ann, all)
	c.want("SMTP once revoked", got, "535")
	_, _, got = c.atIMAP("XOAUTH2", ann, reads)
	c.want("the other grant", got, "a OK")
	for _, token := range []string{all, reads, sends} {
		if strings.Contains(strings.Join(c.process.Log(), "\n"), token) {
			t.Error("a token stands in the log")
		}
	}
	c.sieve()
	c.tokensOfTheProvider()
	c.letterlock()
}

// tokensOfTheProvider presents what the certified oidc-provider issued: JSON Web Tokens for
// this audience, whose person is bound here.
func (c *chain) tokensOfTheProvider() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testPatience)
	defer cancel()
	alice := lab.Alice()
	c.run("person", "add", alice.Email)
	issued := func(client string, scopes ...string) string {
		c.t.Helper()
		conf, verifier := c.op.OAuth(client, "http://127.0.0.1:1/", scopes...), oauth2.GenerateVerifier()
		back, err := c.op.SignIn(ctx, conf.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)), alice)
		if err != nil {
			c.t.Fatal(err)
		}
		token, err := conf.Exchange(c.op.Context(ctx), back.Query().Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			c.t.Fatal(err)
		}
		return token.AccessToken
	}
	good := issued(lab.PublicClient, "openid", "mail")
	try := func(what, user, token, imap, smtp string) {
		c.t.Helper()
		_, _, got := c.atIMAP("XOAUTH2", user, token)
		c.want("IMAP: "+what, got, imap)
		_, _, got = c.atSMTP("OAUTHBEARER", user, token)
		c.want("SMTP: "+what, got, smtp)
	}
	try("an account that is nobody's", alice.Email, good, "a NO", "535")
	c.run("person", "bind", alice.Email, "--issuer", c.op.Issuer, "--subject", alice.Subject)
	try("the provider's token", alice.Email, good, "a OK", "235")
	try("with somebody else's name", "ann@try.test", good, "a NO", "535")
	try("issued to another client", alice.Email, issued(lab.DesktopClient, "openid", "mail"), "a NO", "535")
	try("without the scope", alice.Email, issued(lab.PublicClient, "openid", "email"), "a NO", "535")
	c.run("person", "disable", alice.Email)
	try("of a person who left", alice.Email, good, "a NO", "535")
}

// challenge looks whether a refusal says where tokens come from, and nothing else.
func (c *chain) challenge(what, text string, wanted bool) {
	c.t.Helper()
	if !wanted {
		return
	}
	var said struct {
		Discovery string `json:"openid-configuration"`
	}
	if err := json.Unmarshal([]byte(text), &said); err != nil || said.Discovery != c.home+"/.well-known/openid-configuration" {
		c.t.Errorf("%s: the challenge is %q", what, text)
	}
}

// introspected asks as Dovecot does, with its secret: an active answer has the times.
func (c *chain) introspected(token string) {
	c.t.Helper()
	conf, err := os.ReadFile(filepath.Join(c.folder, "dovecot", "letterlock-token.conf.ext"))
	if err != nil {
		c.t.Fatal(err)
	}
	place := regexp.MustCompile(`introspection_url = (\S+)`).FindStringSubmatch(string(conf))[1]
	ctx, cancel := context.WithTimeout(c.t.Context(), testPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, place, strings.NewReader("token="+token+"&client_id=dovecot&client_secret=dove-secret"))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Dovecot-Auth-Service", "imap")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	told := decodeMap(c.t, res)
	issued, _ := told["iat"].(float64)
	expires, _ := told["exp"].(float64)
	if told["active"] != true || told["iss"] != c.home || told["aud"] != "mail" || told["token_type"] != "Bearer" || expires-issued != 3600 || time.Since(time.Unix(int64(issued), 0)) > testPatience {
		c.t.Errorf("introspection: %v", told)
	}
}

//go:build lab

package mailauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/household"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/mailauth"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
)

// A dovecot is a real Dovecot that asks our endpoints.
type dovecot struct {
	t         *testing.T
	home      *household.Household
	door      *credential.Door
	ca        *lab.CA
	server    *lab.Dovecot
	passwords map[string]string
	api       string // doveadm's HTTP API
	asked     *scale
}

// A scale is a Throttle that refuses one account and counts.
type scale struct {
	mu   sync.Mutex
	told []string
}

func (s *scale) Ask(_ context.Context, a throttle.Attempt) throttle.Decision {
	return throttle.Decision{Refuse: a.Account == "banned@try.test"}
}

func (s *scale) Release(throttle.Attempt) {}

func (s *scale) Tell(_ context.Context, a throttle.Attempt, success bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, fmt.Sprintf("%s %s %t %t", a.Account, a.Protocol, success, a.Fingerprint != "" && a.Remote == netip.MustParseAddr("127.0.0.1")))
}

// The passdbs for passwords. The first is the guard of Debian 12's Dovecot: before
// 2.3.21 an empty password ends its auth process.
const passwordConf = `
passdb {
  driver = static
  args = password={PLAIN}
  mechanisms = plain login
  result_success = return-fail
  result_failure = continue
}
passdb {
  driver = oauth2
  mechanisms = plain login
  args = @dir@/grant.ext
}
auth_username_chars = abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@+
doveadm_api_key = api-key
service doveadm {
  inet_listener http {
    address = 127.0.0.1
    port = @api@
  }
}
`

// @2.3 asks the active attribute by default; it is said aloud for 2.4.
const grantConf = `grant_url = @url@/dovecot/password
use_grant_password = yes
client_id = dovecot
client_secret = dove-secret
username_attribute = username
@active@
pass_attrs = user=%{oauth2:mailbox}
timeout_msecs = 9000
max_parallel_connections = 100
send_auth_headers = yes
`

const activeConf = "active_attribute = active\nactive_value = true"

func startDovecot(t *testing.T, active, more string) *dovecot {
	t.Helper()
	d := &dovecot{t: t, home: household.New(), ca: lab.RunCA(t), asked: &scale{}}
	log := testLog(t)
	d.passwords = people(t, d.home)
	d.door = newDoor(t, d.home, log)
	servers := []identity.ResourceServer{{ID: "dovecot", Secret: identity.DigestOf("dove-secret")}}
	mux := http.NewServeMux()
	mailauth.NewHTTP(mailauth.HTTPOptions{Door: d.door, Servers: servers, Audience: "mail", Log: log}).Register(mux, "/dovecot")
	mux.Handle("/policy", mailauth.NewPolicy(mailauth.PolicyOptions{Throttle: d.asked, Servers: servers, Log: log}))
	endpoints := httptest.NewServer(mux)
	t.Cleanup(endpoints.Close)

	// Dovecot reads the passdb's file when its auth process starts, which is after this.
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	grant := strings.NewReplacer("@url@", endpoints.URL, "@active@", active).Replace(grantConf)
	if err := os.WriteFile(filepath.Join(dir, "grant.ext"), []byte(grant), 0o644); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	d.api = fmt.Sprintf("http://127.0.0.1:%d/doveadm/v1", port)
	d.server = lab.RunDovecot(t, lab.DovecotOptions{
		CA: d.ca, Introspection: endpoints.URL + "/dovecot/introspect", ClientID: "dovecot", ClientSecret: "dove-secret",
		NameClaim: "username", Scope: "imap pop3", Mechanisms: "plain login xoauth2 oauthbearer",
		OpenIDConfiguration: "https://id.try.test/.well-known/openid-configuration",
		Extra:               strings.NewReplacer("@dir@", dir, "@api@", strconv.Itoa(port), "@url@", endpoints.URL).Replace(passwordConf + more),
	})
	return d
}

func freePort(t *testing.T) int {
	t.Helper()
	ports, err := lab.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

const pythonIMAP = `
import sys, ssl, imaplib
port, ca, mech, user, secret = sys.argv[1:6]
c = imaplib.IMAP4_SSL("127.0.0.1", int(port), ssl_context=ssl.create_default_context(cafile=ca), timeout=100)
forms = {"PLAIN": "\0%s\0%s" % (user, secret), "XOAUTH2": "user=%s\x01auth=Bearer %s\x01\x01" % (user, secret),
  "OAUTHBEARER": "n,a=%s,\x01auth=Bearer %s\x01\x01" % (user, secret)}
def step(challenge):
    if challenge: print("challenge", challenge.decode())
    return b"" if challenge else forms[mech].encode()
try:
    if mech == "LOGIN": c.login(user, secret)
    else: c.authenticate(mech, step)
    print("OK", c.select("INBOX"), c.getquotaroot("INBOX") if False else "")
except imaplib.IMAP4.error as e:
    print("NO", e)
`

func (d *dovecot) login(mechanism, user, password string) string {
	d.t.Helper()
	out, _ := runProgram(d.t, "", "python3", "-c", pythonIMAP, strconv.Itoa(d.server.IMAPS), d.ca.File, mechanism, user, password)
	return out
}

// TestDovecotAsks: IMAP by password and token, through both HTTP endpoints.
func TestDovecotAsks(t *testing.T) {
	d := startDovecot(t, activeConf, "")
	token := d.home.NewToken("ann", time.Now().Add(time.Hour), credential.ScopeMail)
	smtpToken := d.home.NewToken("ann", time.Now().Add(time.Hour), credential.ScopeSMTP)
	oldToken := d.home.NewToken("ann", time.Now().Add(-time.Hour), credential.ScopeMail)
	const no, later = "[AUTHENTICATIONFAILED]", "[UNAVAILABLE]"
	table := []struct{ name, mechanism, user, secret, want string }{
		{"password", "PLAIN", "ann@try.test", d.passwords["all"], "OK"},
		{"password by LOGIN", "LOGIN", "ann@try.test", d.passwords["all"], "OK"},
		{"password, name in capitals", "PLAIN", "Ann@Try.Test", d.passwords["all"], "OK"},
		{"password, by an alias", "PLAIN", "team@try.test", d.passwords["all"], "OK"},
		{"password, by its own name", "PLAIN", "ann+laptop@try.test", d.passwords["all"], "OK"},
		{"right protocol", "PLAIN", "ann@try.test", d.passwords["imap"], "OK"},
		{"limited for sending, not for reading", "PLAIN", "ann@try.test", d.passwords["scanner"], "OK"},
		{"wrong protocol", "PLAIN", "ann@try.test", d.passwords["smtp"], no},
		{"wrong password", "PLAIN", "ann@try.test", "nope", no},
		{"empty password", "PLAIN", "ann@try.test", "", no},
		{"bob's", "PLAIN", "ann@try.test", d.passwords["bob"], no},
		{"wrong network", "PLAIN", "ann@try.test", d.passwords["net"], no},
		{"expired", "PLAIN", "ann@try.test", d.passwords["old"], no},
		{"revoked", "PLAIN", "ann@try.test", d.passwords["revoked"], no},
		{"person left", "PLAIN", "gone@try.test", d.passwords["gone"], no},
		{"token", "XOAUTH2", "ann@try.test", token, "OK"},
		{"token", "OAUTHBEARER", "ann@try.test", token, "OK"},
		{"token for SMTP only", "XOAUTH2", "ann@try.test", smtpToken, no},
		{"token, expired", "OAUTHBEARER", "ann@try.test", oldToken, no},
		{"token of somebody else", "XOAUTH2", "bob@try.test", token, no},
		{"token, made up", "XOAUTH2", "ann@try.test", "llat_" + strings.Repeat("A", 43), no},
		{"password as a token", "XOAUTH2", "ann@try.test", d.passwords["all"], no},
		{"token as a password", "PLAIN", "ann@try.test", token, no},
	}
	for _, c := range table {
		if out := d.login(c.mechanism, c.user, c.secret); !strings.Contains(out, c.want) {
			t.Errorf("%s %s: want %q:\n%s", c.name, c.mechanism, c.want, out)
		}
	}
	if _, err := os.Stat(d.server.Maildir("team@try.test")); err == nil {
		t.Error("signing in by an alias opened a mailbox of its own")
	}
	d.home.SetAway(true)
	d.door.Changed()
	for _, c := range table[:1] {
		if out := d.login(c.mechanism, c.user, c.secret); !strings.Contains(out, later) {
			t.Errorf("away, %s: want %q:\n%s", c.name, later, out)
		}
	}
	if out := d.login("XOAUTH2", "ann@try.test", token); !strings.Contains(out, later) {
		t.Errorf("away, token: want %q:\n%s", later, out)
	}
	d.home.SetAway(false)
	if out := d.login("PLAIN", "ann@try.test", d.passwords["all"]); !strings.Contains(out, "OK") {
		t.Errorf("back:\n%s", out)
	}
	for _, args := range [][]string{
		{"curl", "-sS", "--cacert", d.ca.File, fmt.Sprintf("imaps://127.0.0.1:%d/INBOX", d.server.IMAPS), "--user", "ann@try.test:" + d.passwords["all"], "--login-options", "AUTH=PLAIN", "-X", "NOOP"},
		{"curl", "-sS", "--cacert", d.ca.File, fmt.Sprintf("pop3s://127.0.0.1:%d/", d.server.POP3S), "--user", "ann@try.test:" + d.passwords["all"]},
	} {
		if out, err := runProgram(t, "", args[0], args[1:]...); err != nil {
			t.Errorf("%s: %v %s", args[4], err, out)
		}
	}
}

// TestNoWithoutActive: a no stays one where active_attribute is not set, which Dovecot
// 2.4 has no default for.
func TestNoWithoutActive(t *testing.T) {
	d := startDovecot(t, "active_attribute =\nactive_value =", "")
	if out := d.login("PLAIN", "ann@try.test", d.passwords["all"]); !strings.Contains(out, "OK") {
		t.Errorf("right:\n%s", out)
	}
	for _, user := range []string{"ann@try.test", "Ann@try.test", "nobody@try.test"} {
		if out := d.login("PLAIN", user, "nope"); !strings.Contains(out, "[AUTHENTICATIONFAILED]") {
			t.Errorf("%s, wrong:\n%s", user, out)
		}
	}
}

// TestRevocationArrives: an open IDLE session ends within ten seconds, and Dovecot's
// cache does not let the password in again.
func TestRevocationArrives(t *testing.T) {
	d := startDovecot(t, activeConf, "auth_cache_size = 1M\nauth_cache_ttl = 1 hours\n")
	push := mailauth.NewPush(mailauth.PushOptions{
		Nodes: []mailauth.Node{{Name: "here", URL: d.api, Key: secret.New("api-key")}, {Name: "away", URL: "http://127.0.0.1:1/doveadm/v1", Key: secret.New("x")}},
		Log:   testLog(t), Now: time.Now,
	})
	serve(t, push.Run)
	idle := dial(t, d.ca.File, d.server.IMAPS)
	for _, step := range [][2]string{
		{"a LOGIN ann@try.test " + d.passwords["all"], "a OK"}, {"b SELECT INBOX", "b OK"}, {"c IDLE", "+ idling"},
	} {
		fmt.Fprintf(idle.conn, "%s\r\n", step[0])
		if line, err := idle.until(step[1]); err != nil {
			t.Fatalf("%s: %v %s", step[1], err, line)
		}
	}
	bobs := dial(t, d.ca.File, d.server.IMAPS)
	fmt.Fprintf(bobs.conn, "a LOGIN bob@try.test %s\r\n", d.passwords["bob"])
	if _, err := bobs.until("a OK"); err != nil {
		t.Fatal(err)
	}

	// A token in Dovecot's cache outlives its revocation, until the push.
	token := d.home.NewToken("bob", time.Now().Add(time.Hour), credential.ScopeMail)
	asked := time.Now()
	if out := d.login("XOAUTH2", "bob@try.test", token); !strings.Contains(out, "OK") {
		t.Fatalf("token:\n%s", out)
	}
	pace := time.Since(asked) // of this machine at this moment: a fraction of a second
	d.home.RevokeToken(token, time.Now())
	d.door.Changed()
	if out := d.login("XOAUTH2", "bob@try.test", token); !strings.Contains(out, "OK") {
		t.Fatalf("the cache that is to be flushed is not there:\n%s", out)
	}

	begun := time.Now()
	d.home.Revoke("all", begun)
	d.door.EndCredential("all")
	push.Revoke("ann@try.test")
	line, err := idle.until("BYE")
	felt := time.Since(begun)
	if err != nil && !strings.Contains(line, "BYE") && !strings.Contains(err.Error(), "EOF") {
		t.Errorf("the session did not end: %q %v", line, err)
	}
	t.Logf("the IDLE session ended after %v: %q", felt, line)
	if felt > max(10*time.Second, 10*pace) {
		t.Errorf("revocation felt after %v, where one login takes %v", felt, pace)
	}
	if out := d.login("PLAIN", "ann@try.test", d.passwords["all"]); !strings.Contains(out, "[AUTHENTICATIONFAILED]") {
		t.Errorf("the password came in again:\n%s", out)
	}
	if out := d.login("XOAUTH2", "bob@try.test", token); !strings.Contains(out, "[AUTHENTICATIONFAILED]") {
		t.Errorf("a token stayed in the cache:\n%s", out)
	}
	// Only now: the second order would throw this device out too.
	for end := time.Now().Add(patience); !push.State()[0].Confirmed(); {
		if time.Now().After(end) {
			t.Fatalf("not confirmed: %+v", push.State())
		}
		<-time.After(10 * time.Millisecond)
	}
	if out := d.login("PLAIN", "ann@try.test", d.passwords["imap"]); !strings.Contains(out, "OK") {
		t.Errorf("another device of the same person:\n%s", out)
	}
	fmt.Fprintf(bobs.conn, "b NOOP\r\n")
	if _, err := bobs.until("b OK"); err != nil {
		t.Errorf("bob was thrown out with her: %v", err)
	}
	if got := push.Unconfirmed("ann@try.test"); len(got) != 1 || got[0] != "away" {
		t.Errorf("unconfirmed at %v", got)
	}
	if s := push.State()[1]; s.Error == "" || s.Confirmed() {
		t.Errorf("the node that is away: %+v", s)
	}
}

// TestWrongKey: a node that takes no orders never counts as told.
func TestWrongKey(t *testing.T) {
	d := startDovecot(t, activeConf, "")
	push := mailauth.NewPush(mailauth.PushOptions{
		Nodes: []mailauth.Node{{Name: "here", URL: d.api, Key: secret.New("wrong")}}, Log: testLog(t), Now: time.Now,
	})
	serve(t, push.Run)
	push.Revoke("ann@try.test")
	for end := time.Now().Add(patience); push.State()[0].Error == ""; {
		if time.Now().After(end) {
			t.Fatal("no error")
		}
		<-time.After(10 * time.Millisecond)
	}
	if s := push.State()[0]; s.Confirmed() || !strings.Contains(s.Error, "key was refused") {
		t.Errorf("%+v", s)
	}
}

// TestPolicyOfDovecot: real policy requests, before and after.
func TestPolicyOfDovecot(t *testing.T) {
	d := startDovecot(t, activeConf, `
auth_policy_server_url = @url@/policy
auth_policy_hash_nonce = some-nonce
auth_policy_server_api_header = Authorization: Basic ZG92ZWNvdDpkb3ZlLXNlY3JldA==
auth_policy_reject_on_fail = yes
`)
	for _, c := range []struct{ user, password, want string }{
		{"ann@try.test", d.passwords["all"], "OK"}, {"ann@try.test", "nope", "[AUTHENTICATIONFAILED]"},
		{"banned@try.test", "anything", "too many attempts"},
	} {
		if out := d.login("PLAIN", c.user, c.password); !strings.Contains(out, c.want) {
			t.Errorf("%s: want %q\n%s", c.user, c.want, out)
		}
	}
	want := []string{"ann@try.test imap true true", "ann@try.test imap false true"}
	for end := time.Now().Add(patience); ; {
		d.asked.mu.Lock()
		told := fmt.Sprint(d.asked.told)
		d.asked.mu.Unlock()
		if told == fmt.Sprint(want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("told %s\nwant %s", told, want)
		}
		<-time.After(10 * time.Millisecond)
	}
}

//go:build lab

package main

import (
	"context"
	"crypto/cipher"
	"crypto/des"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// startPlainMail is letterlockd, Dovecot, Postfix and an identity provider on loopback,
// with pages at http, and nothing in front of the web mail.
func startPlainMail(t *testing.T, op *lab.OP, pages int, more string) *webmail {
	t.Helper()
	w := &webmail{site: &site{t: t, folder: t.TempDir(), ca: lab.RunCA(t)}, op: op}
	if err := errors.Join(os.Chmod(filepath.Dir(w.folder), 0o755), os.Chmod(w.folder, 0o755)); err != nil {
		t.Fatal(err)
	}
	w.binary = filepath.Join(w.folder, "letterlockd")
	if out, err := exec.Command("go", "build", "-o", w.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ports := freePorts(t, 2)
	w.pages = fmt.Sprintf("http://127.0.0.1:%d", pages)
	w.dovecot = lab.RunDovecot(t, lab.DovecotOptions{
		CA: w.ca, Introspection: fmt.Sprintf("http://127.0.0.1:%d/dovecot/introspect", ports[0]), ClientID: "dovecot", ClientSecret: "dove-secret",
		NameClaim: "username", Scope: "imap",
	})
	w.postfix = lab.RunPostfix(t, lab.PostfixOptions{CA: w.ca, Dovecot: w.dovecot, SASLPath: fmt.Sprintf("inet:127.0.0.1:%d", ports[1])})
	w.write("dovecot.secret", "dove-secret\n", 0o600)
	w.write("op.secret", lab.ClientSecret+"\n", 0o600)
	w.conf = filepath.Join(w.folder, "letterlockd.toml")
	w.write("letterlockd.toml", fmt.Sprintf(`domains = ["try.test"]
[database]
url = "sqlite:%[1]s/letterlockd.db"
[web]
public_url = %[2]q
listen = "127.0.0.1:%[3]d"
master_key_file = "%[1]s/master.key"
[signin.campus]
type = "oidc"
issuer = %[4]q
client_id = %[5]q
client_secret_file = "%[1]s/op.secret"
bind_verified = true
provision = true
[dovecot]
listen = "127.0.0.1:%[6]d"
secret_file = "%[1]s/dovecot.secret"
[postfix]
sasl = "127.0.0.1:%[7]d"
`, w.folder, w.pages, pages, op.Issuer, lab.DesktopClient, ports[0], ports[1])+more, 0o644)
	return w
}

// accessLife has Roundcube renew every three seconds, for it does so ten seconds before the
// end; those ten are what a busy machine has for a request.
const accessLife = 12 * time.Second

// startRoundcubeOAuth is way (b), Roundcube's own OAuth at our authorization server, with
// what config prints, and a lab's hook by which a request can be slow.
func startRoundcubeOAuth(t *testing.T) *webmail {
	t.Helper()
	pages := freePorts(t, 1)[0]
	op := lab.RunOP(t, lab.OPOptions{RedirectURIs: []string{fmt.Sprintf("http://127.0.0.1:%d/signin/campus/callback", pages)}})
	w := startPlainMail(t, op, pages, fmt.Sprintf("[oauth]\naccess_lifetime = %q\n", accessLife))
	// Roundcube's own address is known when it runs, and it reads the file at each request.
	w.rc = lab.RunRoundcube(t, lab.RoundcubeOptions{CA: w.ca, Dovecot: w.dovecot, Postfix: w.postfix, Config: fmt.Sprintf(`include('%[1]s/letterlock.inc.php');
rcube_plugin_api::get_instance()->register_hook('storage_connected', function () {
	if (!isset($_GET['_slow'])) return;
	error_log('slow ' . (int) $_GET['_slow'] . ' began');
	for ($n = 0; $n < 1500 && !file_exists('%[1]s/go' . (int) $_GET['_slow']); $n++) { usleep(100000); clearstatcache(); }
});
`, w.folder)})
	secret := w.run("client", "add", "webmail", "--name", "Try Webmail", "--redirect", w.rc.URL+"/index.php/login/oauth", "--without-pkce")
	w.write("webmail.secret", secret, 0o600)
	w.write("letterlock.inc.php", w.run("config", "roundcube", "--way", "oauth", "--url", w.rc.URL, "--client", "webmail", "--client-secret-file", filepath.Join(w.folder, "webmail.secret")), 0o644)
	w.write("probe.secret", w.run("client", "add", "probe", "--name", "Probe", "--introspect"), 0o600)
	w.serve()
	w.harvest()
	t.Cleanup(func() {
		if t.Failed() {
			log := w.process.Log()
			t.Logf("letterlockd: %s", strings.Join(log[max(0, len(log)-30):], "\n"))
			lines := w.rc.Log()
			t.Logf("roundcube: %s", strings.Join(lines[max(0, len(lines)-30):], "\n"))
		}
	})
	return w
}

// TestRoundcubeOAuth is way (b) with everything real: from an empty browser to the inbox with
// one sign-in and one consent, reading, sending, six requests at once while tokens are
// renewed under them, the log-out, and a revocation on the person's page while reading.
func TestRoundcubeOAuth(t *testing.T) {
	w := startRoundcubeOAuth(t)
	ctx := patiently(t) // from here: a busy machine takes its time to build and to start
	b := w.browser()
	w.enterRoundcube(ctx, b)
	w.picture(ctx, b, "webmail-oauth-inbox")
	w.readAndSend(ctx, b, w.rc.URL)
	w.sentByToken(ctx)
	w.inFlight(ctx, b, 2, 0)
	w.loggedOutOfRoundcube(ctx, b)
	w.enterRoundcube(ctx, b)
	w.revokedWhileReading(ctx, b)
	w.noPassword()
}

// enterRoundcube goes from an empty browser to the inbox: one sign-in, one consent, no form
// of Roundcube's own.
func (w *webmail) enterRoundcube(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	do(ctx, t, b, func() error { return b.Open(ctx, w.rc.URL+"/") })
	do(ctx, t, b, w.signInAtOP(ctx, b, lab.Alice())...)
	do(ctx, t, b, func() error { return b.WaitFor(ctx, `button[value="allow"]`) })
	w.picture(ctx, b, "webmail-oauth-consent")
	press(ctx, t, b, `button[value="allow"]`)
	do(ctx, t, b, func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
	if n := evaluate[int](ctx, t, b, `document.querySelectorAll('input[type=password]').length`); n != 0 {
		t.Error("there is a form for a password")
	}
}

// press clicks what a selector finds.
func press(ctx context.Context, t *testing.T, b *browser.Browser, selector string) {
	t.Helper()
	do(ctx, t, b, func() error { return b.Click(ctx, selector) })
}

// six has six requests under way at once, and each must have its answer.
func (w *webmail) six(ctx context.Context, b *browser.Browser) {
	w.t.Helper()
	begun := time.Now()
	if answers := evaluate[[]string](ctx, w.t, b, sixAtOnce); !allWell(answers) {
		w.t.Fatalf("six requests in %v: %.3000q", time.Since(begun), answers)
	}
}

// renewed counts the refresh tokens that were spent.
func (w *webmail) renewed() int { return w.count(`SELECT count(*) FROM refresh_token WHERE spent > 0`) }

// oneBranch: under however many requests one refresh token is good, and Roundcube has it.
func (w *webmail) oneBranch() {
	w.t.Helper()
	_, refresh := w.held()
	if n := w.count(`SELECT count(*) FROM refresh_token WHERE spent = 0`); n != 1 {
		w.t.Errorf("%d refresh tokens are good, want one", n)
	}
	digest := identity.DigestOf(refresh)
	if n := w.count(fmt.Sprintf(`SELECT count(*) FROM refresh_token WHERE spent = 0 AND digest = X'%x'`, digest[:])); n != 1 {
		w.t.Error("Roundcube keeps a refresh token that was spent")
	}
}

// inFlight stays for so many renewals, and for so long, six requests at a time. One more
// began before and ends after all: it must not write the tokens of its time back.
func (w *webmail) inFlight(ctx context.Context, b *browser.Browser, renewals int, stay time.Duration) {
	t := w.t
	t.Helper()
	do(ctx, t, b, func() error { return b.Open(ctx, w.rc.URL+"/?_task=mail&_mbox=INBOX") },
		func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
	before, begun, rounds := w.renewed(), time.Now(), 0
	evaluate[bool](ctx, t, b, `(window.slow = fetch('./?_task=mail&_action=list&_mbox=INBOX&_remote=1&_slow=1',
		{headers: {'X-Requested-With': 'XMLHttpRequest', 'X-Roundcube-Request': rcmail.env.request_token}}).then(r => r.text()), true)`)
	for w.renewed() < before+renewals || time.Since(begun) < stay {
		w.six(ctx, b)
		rounds++
	}
	w.write("go1", "", 0o644)
	if answer := evaluate[string](ctx, t, b, `window.slow`); !strings.Contains(answer, `"action":"list"`) {
		t.Errorf("the slow request: %.300s", answer)
	}
	t.Logf("%d rounds of six requests over %v, %d renewals", rounds, time.Since(begun).Round(time.Millisecond), w.renewed()-before)
	w.oneBranch()
}

// held are the tokens in Roundcube's session, which it seals under a key in its own
// configuration; empty when no session has any.
func (w *webmail) held() (access, refresh string) {
	t := w.t
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.rc.Dir, "db/roundcube.db")+"?mode=ro&_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT vars FROM session`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var vars string
		if err := rows.Scan(&vars); err != nil {
			t.Fatal(err)
		}
		data, err := base64.StdEncoding.DecodeString(vars)
		if err != nil {
			t.Fatal(err)
		}
		word := func(name string) string {
			found := regexp.MustCompile(`"` + name + `";s:[0-9]+:"([^"]*)"`).FindSubmatch(data)
			if found == nil {
				t.Fatalf("no %s in Roundcube's session", name)
			}
			return string(found[1])
		}
		if !strings.Contains(string(data), "oauth_token|") {
			continue
		}
		if refresh != "" {
			t.Fatal("two sessions of Roundcube have tokens")
		}
		access, refresh = word("access_token"), w.unseal(word("refresh_token"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return access, refresh
}

// unseal is rcube::decrypt.
func (w *webmail) unseal(text string) string {
	w.t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(data) < 16 || len(data)%8 != 0 {
		w.t.Fatalf("not sealed by Roundcube: %v", err)
	}
	block, err := des.NewTripleDESCipher([]byte("lab-only-24-characters-k"))
	if err != nil {
		w.t.Fatal(err)
	}
	cipher.NewCBCDecrypter(block, data[:8]).CryptBlocks(data[8:], data[8:])
	return string(data[8 : len(data)-int(data[len(data)-1])])
}

// good asks whether a token is good, as a mail server does.
func (w *webmail) good(token string) bool {
	t := w.t
	t.Helper()
	secret, err := os.ReadFile(filepath.Join(w.folder, "probe.secret"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.pages+"/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("probe", strings.TrimSpace(string(secret)))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct{ Active *bool }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Active == nil {
		t.Fatalf("introspection answered %s: %v", res.Status, err)
	}
	return *answer.Active
}

// loggedOutOfRoundcube: its button ends its session, the tokens and the sign-in; neither Back
// nor a new visit show the mail, and a new visit begins with a sign-in.
func (w *webmail) loggedOutOfRoundcube(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	message := w.rc.URL + "/?_task=mail&_mbox=INBOX&_uid=1&_action=show"
	var access, refresh string
	until(ctx, t, "a token that is good before the log-out", func() bool { // a page can take longer than it lives
		do(ctx, t, b, func() error { return b.Open(ctx, message) }, func() error { return b.WaitFor(ctx, "#messagebody") })
		access, refresh = w.held()
		return w.good(access)
	})
	// A request that is under way meanwhile, and outlives the page that made it.
	evaluate[bool](ctx, t, b, `(fetch('./?_task=mail&_action=list&_mbox=INBOX&_remote=1&_slow=2', {keepalive: true,
		headers: {'X-Requested-With': 'XMLHttpRequest', 'X-Roundcube-Request': rcmail.env.request_token}}), true)`)
	until(ctx, t, "the slow request", func() bool { return strings.Contains(strings.Join(w.rc.Log(), "\n"), "slow 2 began") })
	until(ctx, t, "the log-out", func() bool {
		return evaluate[bool](ctx, t, b, `!rcmail.busy && rcmail.command('switch-task', 'logout') !== false`)
	})
	until(ctx, t, "the page that says so", func() bool {
		text, err := b.Text(ctx)
		return err == nil && strings.Contains(text, "You are signed out here")
	})
	if at, _ := b.Location(ctx); !strings.HasPrefix(at, w.pages+"/end_session") {
		t.Errorf("after the log-out the browser is at %s", at)
	}
	w.picture(ctx, b, "webmail-oauth-signed-out")
	if w.good(access) {
		t.Error("the token is good after the log-out")
	}
	if n := w.count(`SELECT count(*) FROM session`); n != 0 {
		t.Errorf("%d browsers are signed in after the log-out", n)
	}
	w.write("go2", "", 0o644)
	until(ctx, t, "the end of the slow request", func() bool { return strings.Contains(strings.Join(w.rc.Access(), "\n"), "_slow=2 ") })
	if left, _ := w.held(); left != "" {
		t.Error("a session of Roundcube still has tokens: the slow request wrote them back")
	}
	secret, err := os.ReadFile(filepath.Join(w.folder, "webmail.secret"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.PostForm(w.pages+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {"webmail"}, "client_secret": {strings.TrimSpace(string(secret))}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("the refresh token after the log-out: %s", res.Status)
	}
	for _, way := range []struct {
		what string
		act  func() error
	}{
		{"back", func() error { evaluate[bool](ctx, t, b, `(history.back(), true)`); return nil }},
		{"reloading", func() error {
			evaluate[bool](ctx, t, b, `(document.labLeft = true, location.reload(), true)`)
			return nil
		}},
		{"the message's address", func() error { return b.Open(ctx, message) }},
	} {
		// Roundcube says that the session is over, and shows a button that leads to the sign-in.
		do(ctx, t, b, way.act, func() error { return b.WaitFor(ctx, "#rcmloginoauth") })
		if text, _ := b.Text(ctx); strings.Contains(text, "Nineteen baskets") || strings.Contains(text, "The harvest") {
			t.Errorf("%s shows the mail", way.what)
		}
	}
	// Its way leads through a new sign-in, although the provider knows the browser still.
	press(ctx, t, b, "#rcmloginoauth")
	do(ctx, t, b, func() error { return b.WaitFor(ctx, "#signin") })
	if at, _ := b.Location(ctx); !strings.HasPrefix(at, w.op.Issuer) {
		t.Errorf("a new visit leads to %s", at)
	}
	if trail := w.run("audit", "list"); !strings.Contains(trail, "asked for by Try Webmail") || !strings.Contains(trail, "revoked by the program itself") {
		t.Errorf("the trail says\n%s", trail)
	}
}

// revokedWhileReading: the person revokes it on their page, in another browser, while a
// message is open in this one. It is felt within ten seconds, and nothing goes on unasked.
func (w *webmail) revokedWhileReading(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	do(ctx, t, b, func() error { return b.Open(ctx, w.rc.URL+"/?_task=mail&_mbox=INBOX&_uid=1&_action=show") },
		func() error { return b.WaitFor(ctx, "#messagebody") })
	other := w.browser()
	do(ctx, t, other, func() error { return other.Open(ctx, w.pages+"/") })
	do(ctx, t, other, w.signInAtOP(ctx, other, lab.Alice())...)
	revoke := `button[aria-label="Revoke the program Try Webmail"]`
	do(ctx, t, other, func() error { return other.WaitFor(ctx, revoke) })
	w.picture(ctx, other, "webmail-oauth-grant")
	access, _ := w.held()
	press(ctx, t, other, revoke)
	do(ctx, t, other, func() error { return other.WaitFor(ctx, "details") })
	if w.good(access) {
		t.Error("the token is good after the revocation")
	}
	p := takePace(t)
	until(ctx, t, "the end of the right", func() bool {
		return strings.Contains(evaluate[[]string](ctx, t, b, sixAtOnce)[5], "session_error")
	})
	p.within(10*time.Second, "Roundcube ended")
	do(ctx, t, b, func() error { return b.Open(ctx, w.rc.URL+"/?_task=mail&_mbox=INBOX&_uid=1&_action=show") },
		func() error { return b.WaitFor(ctx, "#rcmloginoauth") })
	if text, _ := b.Text(ctx); strings.Contains(text, "Nineteen baskets") {
		t.Error("the message is still to be read")
	}
	w.picture(ctx, b, "webmail-oauth-revoked")
	// The browser is signed in here still, but what was allowed is gone: the person decides anew.
	press(ctx, t, b, "#rcmloginoauth")
	do(ctx, t, b, func() error { return b.WaitFor(ctx, `button[value="allow"]`) })
}

//go:build lab

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
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

// TestRoundcubeOAuth is way (b): Roundcube's own OAuth at our authorization server, with what
// config prints. One sign-in and one consent; six requests at once after the token's end; a
// revocation on the person's page while reading.
func TestRoundcubeOAuth(t *testing.T) {
	ctx := patiently(t)
	pages := freePorts(t, 1)[0]
	op := lab.RunOP(t, lab.OPOptions{RedirectURIs: []string{fmt.Sprintf("http://127.0.0.1:%d/signin/campus/callback", pages)}})
	w := startPlainMail(t, op, pages, "[oauth]\naccess_lifetime = \"1m\"\n")
	// Roundcube's own address is known when it runs, and it reads the file at each request.
	w.rc = lab.RunRoundcube(t, lab.RoundcubeOptions{CA: w.ca, Dovecot: w.dovecot, Postfix: w.postfix, Config: fmt.Sprintf("include('%s/letterlock.inc.php');\n", w.folder)})
	secret := w.run("client", "add", "webmail", "--name", "Try Webmail", "--redirect", w.rc.URL+"/index.php/login/oauth", "--without-pkce")
	w.write("webmail.secret", secret, 0o600)
	w.write("letterlock.inc.php", w.run("config", "roundcube", "--way", "oauth", "--url", w.rc.URL, "--client", "webmail", "--client-secret-file", filepath.Join(w.folder, "webmail.secret")), 0o644)
	w.serve()
	w.harvest()
	t.Cleanup(func() {
		if t.Failed() {
			log := w.process.Log()
			t.Logf("letterlockd: %s", strings.Join(log[max(0, len(log)-20):], "\n"))
		}
	})
	b := w.browser()
	do(ctx, t, b, func() error { return b.Open(ctx, w.rc.URL+"/") })
	do(ctx, t, b, w.signInAtOP(ctx, b, lab.Alice())...)
	do(ctx, t, b,
		func() error { return b.WaitFor(ctx, `button[value="allow"]`) },
		func() error { w.picture(ctx, b, "webmail-oauth-consent"); return b.Click(ctx, `button[value="allow"]`) },
		func() error { return b.WaitFor(ctx, "#messagelist tr.message") },
	)
	w.readAndSend(ctx, b, w.rc.URL)

	// Past the token's end, six at once: one refresh token rotates under six requests.
	do(ctx, t, b, func() error { return b.Open(ctx, w.rc.URL+"/?_task=mail&_mbox=INBOX") },
		func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
	took := until(ctx, t, "the renewal of the token", func() bool {
		for _, answer := range evaluate[[]string](ctx, t, b, sixAtOnce) {
			if !strings.HasPrefix(answer, "200 ") || !strings.Contains(answer, `"action":"list"`) || strings.Contains(answer, "session_error") {
				t.Fatalf("a request failed: %.300s", answer)
			}
		}
		return w.count(`SELECT count(*) FROM access_token`) >= 2
	})
	t.Logf("renewed after %v with six requests under way, %d refresh tokens", took, w.count(`SELECT count(*) FROM refresh_token`))

	// Revoked in the portal of the same browser while reading.
	revoke := `button[aria-label="Revoke the program Try Webmail"]`
	do(ctx, t, b,
		func() error { return b.Open(ctx, w.pages+"/") },
		func() error { return b.WaitFor(ctx, revoke) },
		func() error { return b.Click(ctx, revoke) },
		func() error { return b.WaitFor(ctx, "details") },
	)
	ended := until(ctx, t, "the end of the right", func() bool {
		if err := b.Open(ctx, w.rc.URL+"/?_task=mail&_mbox=INBOX&_uid=1&_action=show"); err != nil {
			return false
		}
		text, err := b.Text(ctx)
		return err == nil && !strings.Contains(text, "Nineteen baskets")
	})
	t.Logf("nothing is read %v after the revocation", ended)
}

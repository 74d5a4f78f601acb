//go:build lab && long

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// TestRoundcubeApache is way (c): Apache's mod_auth_openidc signs people in at the provider, and
// the provider's own token goes through Roundcube to Dovecot and Postfix. letterlockd only
// looks at issuer, audience and client: with another audience on its list nobody gets in.
func TestRoundcubeApache(t *testing.T) {
	ctx := patiently(t)
	ports := freePorts(t, 2)
	address := fmt.Sprintf("http://localhost:%d", ports[1])
	op := lab.RunOP(t, lab.OPOptions{Audience: "mail", RedirectURIs: []string{address + "/__oidc", fmt.Sprintf("http://127.0.0.1:%d/signin/campus/callback", ports[0])}})
	w := startPlainMail(t, op, ports[0], fmt.Sprintf("[issuer.campus]\nurl = %q\naudiences = [\"mail\"]\nclients = [%q]\n", op.Issuer, lab.DesktopClient))
	// Who the provider's subject is, an administrator says; nobody has to open our pages.
	w.run("person", "add", lab.Alice().Email)
	w.run("person", "bind", lab.Alice().Email, "--issuer", op.Issuer, "--subject", lab.Alice().Subject)
	w.write("letterlock.inc.php", w.run("config", "roundcube", "--way", "apache"), 0o644)
	cache := filepath.Join(w.folder, "oidc-cache")
	if err := os.Mkdir(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	w.write("webmail.conf", "OIDCClientSecret "+lab.ClientSecret+"\n", 0o600)
	site := w.run("config", "apache", "--issuer", op.Issuer, "--url", address, "--client", lab.DesktopClient, "--client-secret-file", filepath.Join(w.folder, "webmail.conf"),
		"--cache", cache, "--fpm", "@fpm@", "--scope", "openid email offline_access mail")
	site = strings.Replace(site, fmt.Sprintf("<VirtualHost *:%d>", ports[1]), "<VirtualHost 127.0.0.1:@port@>", 1)
	w.rc = lab.RunRoundcube(t, lab.RoundcubeOptions{CA: w.ca, Dovecot: w.dovecot, Postfix: w.postfix, Apache: true, Port: ports[1], Site: site,
		Config: fmt.Sprintf("include('%s/letterlock.inc.php');\n", w.folder)})
	w.serve()
	w.harvest()
	b := w.browser()
	do(ctx, t, b, func() error { return b.Open(ctx, address+"/?_task=mail&_mbox=INBOX") })
	do(ctx, t, b, w.signInAtOP(ctx, b, lab.Alice())...)
	do(ctx, t, b, func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
	w.picture(ctx, b, "webmail-apache-inbox")
	w.readAndSend(ctx, b, address)

	conf, err := os.ReadFile(w.conf)
	if err != nil {
		t.Fatal(err)
	}
	w.process.Stop()
	w.write("letterlockd.toml", strings.Replace(string(conf), `audiences = ["mail"]`, `audiences = ["calendar"]`, 1), 0o644)
	w.serve()
	// Roundcube itself goes back to the list once it has sent, which can end our own way there.
	until(ctx, t, "the page", func() bool { return b.Open(ctx, address+"/?_task=mail&_mbox=INBOX&_uid=1&_action=show") == nil })
	if text, _ := b.Text(ctx); strings.Contains(text, "Nineteen baskets") {
		t.Error("a token for another audience opens the mailbox")
	}
	if _, err := w.dovecot.WaitLog(ctx, func(line string) bool { return strings.Contains(line, "auth failed") }); err != nil {
		t.Error(err)
	}
}

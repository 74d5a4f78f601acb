//go:build lab

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
)

// An askingWebmail is Roundcube by PHP-FPM behind a real nginx that asks letterlockd before
// each request: the site is the one that config nginx --ask prints. letterlockd itself knows
// no way to the web mail.
type askingWebmail struct {
	*webmail
	nginx     *lab.Process
	socketApp *socketApp
}

// startAsking takes the web mail of startWebmail away from the gateway.
func startAsking(t *testing.T) *askingWebmail {
	t.Helper()
	w := &askingWebmail{webmail: startWebmail(t)}
	w.pictures = "-nginx"
	w.process.Stop()
	certificate, key := w.gatewayWithoutUpstream()
	printed := w.run("config", "nginx", "--ask", "--listen", fmt.Sprintf("127.0.0.1:%d", w.gatePort), "--fpm", w.rc.FPM(), "--root", w.rc.Root())
	// The certificate is the test's own; nothing else is another than printed.
	site := strings.NewReplacer(
		"/etc/letsencrypt/live/webmail.try.test/fullchain.pem", certificate, "/etc/letsencrypt/live/webmail.try.test/privkey.pem", key,
	).Replace(printed)
	if site == printed {
		t.Fatalf("no certificate in\n%s", printed)
	}
	// The dump is the test's own: what PHP was told.
	w.write("letterlock.inc.php", w.run("config", "roundcube")+"if (isset($_GET['dump'])) { header('Content-Type: application/json'); echo json_encode($_SERVER); exit; }\n", 0o644)
	w.serve()
	w.socketApp = startSocketApp(t)
	w.startNginx(strings.Replace(site, "  location / {\n", socketLocation(w.socketApp)+"  location / {\n", 1))
	return w
}

// gatewayWithoutUpstream rewrites the configuration and returns the certificate's files.
func (w *askingWebmail) gatewayWithoutUpstream() (certificate, key string) {
	t := w.t
	t.Helper()
	conf, err := os.ReadFile(w.conf)
	if err != nil {
		t.Fatal(err)
	}
	before, section, _ := strings.Cut(string(conf), "[gateway.webmail]\n")
	section, after, found := strings.Cut(section, "[dovecot]\n")
	if !found {
		t.Fatalf("not the configuration that was expected:\n%s", conf)
	}
	var kept []string
	for line := range strings.Lines(section) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		plain, _ := strconv.Unquote(value)
		switch name {
		case "certificate":
			certificate = plain
		case "key":
			key = plain
		case "listen":
			line = fmt.Sprintf("listen = \"127.0.0.1:%d\"\nask_listen = \"127.0.0.1:%d\"\n", freePorts(t, 1)[0], w.askPort)
			kept = append(kept, line)
		case "upstream":
		default:
			kept = append(kept, line)
		}
	}
	before = strings.Replace(before, "[web]\n", "[web]\ntrusted_proxies = [\"127.0.0.1/32\"]\n", 1)
	w.write("letterlockd.toml", before+"[gateway.webmail]\n"+strings.Join(kept, "")+"[dovecot]\n"+after, 0o644)
	return certificate, key
}

// startNginx runs Debian's nginx with the printed site as its only one.
func (w *askingWebmail) startNginx(site string) {
	t := w.t
	t.Helper()
	folder := filepath.Join(w.folder, "nginx")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	owner := ""
	if os.Geteuid() == 0 {
		www, err := user.Lookup("www-data")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(www.Uid)
		if err := os.Chown(folder, uid, -1); err != nil {
			t.Fatal(err)
		}
		owner = "user www-data;\n"
	}
	w.write("nginx.conf", fmt.Sprintf(`%sworker_processes 2;
pid %[2]s/pid;
error_log stderr;
events { worker_connections 256; }
http {
  include /etc/nginx/mime.types;
  access_log %[2]s/access.log;
  client_body_temp_path %[2]s/body;
  fastcgi_temp_path %[2]s/fastcgi;
  proxy_temp_path %[2]s/proxy;
  scgi_temp_path %[2]s/scgi;
  uwsgi_temp_path %[2]s/uwsgi;
%[3]s}
`, owner, folder, site), 0o644)
	path, err := exec.LookPath("nginx")
	if err != nil {
		t.Fatal(err)
	}
	w.nginx, err = lab.StartProcess(lab.ProcessOptions{
		Name: "nginx", Path: path, Args: []string{"-c", filepath.Join(w.folder, "nginx.conf"), "-p", folder, "-e", "stderr", "-g", "daemon off;"}, Env: os.Environ(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.nginx.Stop)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("nginx:\n%s", strings.Join(w.nginx.Log(), "\n"))
		}
	})
	until(patiently(t), t, "nginx", func() bool {
		select {
		case <-w.nginx.Done():
			t.Fatalf("nginx ended:\n%s\nwith\n%s", strings.Join(w.nginx.Log(), "\n"), site)
		default:
		}
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.gatePort))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// TestRoundcubeNginx is way (a) with nginx in front, which asks letterlockd by auth_request and
// serves Roundcube itself: from an empty browser to the inbox, reading, sending, what nobody
// gets through, and the log-out. The site is the printed one.
func TestRoundcubeNginx(t *testing.T) {
	ctx := patiently(t)
	w := startAsking(t)
	b := w.browser()
	w.toInbox(ctx, b)
	w.readAndSend(ctx, b, w.gate)
	w.sentByToken(ctx)
	w.nginxRefuses(ctx, b)
	w.forged(ctx, b)
	w.loggedOut(ctx, b)
	w.noPassword()
}

// nginxRefuses: what takes a password, and what stands beside the front door. letterlockd sees
// the address of a request and not its body, so that a form is Roundcube's own to refuse.
func (w *askingWebmail) nginxRefuses(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX") },
		func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
	before := len(w.dovecot.Log())
	w.asked(ctx, b, []attempt{
		{"GET", "/?_task=login", "", "404"},
		{"POST", "/?_task=login&_action=login", "_user=bob%40try.test&_pass=x", "404"},
		{"POST", "/?%5ftask=LOGIN", "_user=bob%40try.test&_pass=x", "404"},
		{"POST", "/", "_task=login&_action=login&_user=bob%40try.test&_pass=x", "403"},
		{"POST", "/index.php", "%5ftask=login&.action=login&_user=bob%40try.test&.pass=x", "403"},
		{"POST", "/index.php/x", "_task=login&_action=login&_user=bob%40try.test&_pass[]=x", "403"},
		{"GET", "/installer/", "", "404"},
		{"GET", "/%69nstaller/", "", "404"},
		{"POST", "/xmlrpc.php", "<methodCall/>", "404"},
		{"GET", "/.htaccess", "", "404"},
		{"GET", "/plugins/http_authentication/http_authentication.php", "", "404"},
		{"GET", "/__letterlock_ask", "", "404"},
	})
	for _, line := range w.dovecot.Log()[before:] {
		if strings.Contains(line, "bob@try.test") {
			t.Errorf("Dovecot was asked: %s", line)
		}
	}
	// A person who follows an old link is led to the start page, which signs in by itself.
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=login") }, func() error { return b.WaitFor(ctx, "#messagelist") })
	// An upload that PHP takes comes through whole.
	const upload = `(async () => {
		const page = await fetch('./?_task=mail&_action=compose', {redirect: 'follow'});
		const id = new URL(page.url).searchParams.get('_id'), form = new FormData();
		form.append('_attachments[]', new Blob([new Uint8Array(20 << 20)]), 'large.bin');
		const r = await fetch('./?_task=mail&_action=upload&_remote=1&_from=compose&_id=' + id + '&_uploadid=1', {method: 'POST', body: form, headers: {'X-Roundcube-Request': rcmail.env.request_token, 'X-Requested-With': 'XMLHttpRequest'}});
		return r.status + ' ' + await r.text();
	})()`
	if got := evaluate[string](ctx, t, b, upload); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, "add2attachment_list") || !strings.Contains(got, "20 MB") {
		t.Errorf("a large upload: %.600s", got)
	}
}

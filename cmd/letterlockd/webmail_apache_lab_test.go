//go:build lab

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
)

// apacheSecret is the client's at the provider, as the recipe has it.
const apacheSecret = "OIDCClientSecret " + lab.ClientSecret + "\n"

// behindApache is a webmail with Apache in front.
type behindApache struct {
	*webmail
	renew string // where Apache renews tokens
}

// startApache is way (c): Apache's mod_auth_openidc signs people in at the provider, and the
// provider's own token goes through Roundcube to Dovecot and Postfix, with what config prints.
// A token lives for life, and is renewed when before is left of it. Alice's mail is there.
func startApache(t *testing.T, life, before time.Duration) *behindApache {
	t.Helper()
	ports := freePorts(t, 3)
	address := fmt.Sprintf("http://localhost:%d", ports[1])
	op := lab.RunOP(t, lab.OPOptions{
		Audience: "mail", AccessTTL: life, Backchannel: address + "/__oidc?logout=backchannel", AfterLogout: address + "/__oidc/out",
		RedirectURIs: []string{address + "/__oidc", fmt.Sprintf("http://127.0.0.1:%d/signin/campus/callback", ports[0])},
	})
	w := &behindApache{webmail: startPlainMail(t, op, ports[0], fmt.Sprintf("[issuer.campus]\nurl = %q\naudiences = [\"mail\"]\nclients = [%q]\n", op.Issuer, lab.DesktopClient))}
	w.gate, w.renew = address, fmt.Sprintf("http://127.0.0.1:%d", ports[2])
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
	w.write("webmail.conf", apacheSecret, 0o600)
	site := w.run("config", "apache", "--issuer", op.Issuer, "--url", address, "--client", lab.DesktopClient, "--client-secret-file", filepath.Join(w.folder, "webmail.conf"),
		"--cache", cache, "--fpm", "@fpm@", "--scope", "openid email offline_access mail",
		"--renew-listen", fmt.Sprintf("127.0.0.1:%d", ports[2]), "--renew-before", fmt.Sprint(int(before.Seconds())))
	site = strings.Replace(site, fmt.Sprintf("<VirtualHost *:%d>", ports[1]), "<VirtualHost 127.0.0.1:@port@>", 1)
	w.rc = lab.RunRoundcube(t, lab.RoundcubeOptions{CA: w.ca, Dovecot: w.dovecot, Postfix: w.postfix, Apache: true, Port: ports[1], Site: site,
		Config: fmt.Sprintf("include('%s/letterlock.inc.php');\n", w.folder)})
	w.serve()
	w.harvest()
	t.Cleanup(func() {
		if t.Failed() {
			for _, log := range [][]string{w.process.Log(), w.rc.Log()} {
				t.Log(strings.Join(log[max(0, len(log)-30):], "\n"))
			}
		}
	})
	return w
}

// enter signs alice in from an empty browser.
func (w *behindApache) enter(ctx context.Context) *browser.Browser {
	t := w.t
	t.Helper()
	b := w.browser()
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX&_page=1") })
	do(ctx, t, b, w.signInAtOP(ctx, b, lab.Alice())...)
	do(ctx, t, b, func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
	if n := evaluate[int](ctx, t, b, `document.querySelectorAll('input[type=password]').length`); n != 0 {
		t.Error("there is a form for a password")
	}
	return b
}

// allWell says whether each of six answers is a list of mail.
func allWell(answers []string) bool {
	for _, answer := range answers {
		if !strings.HasPrefix(answer, "200 ") || !strings.Contains(answer, `"action":"list"`) || strings.Contains(answer, "session_error") ||
			strings.Contains(answer, "failed") {
			return false
		}
	}
	return true
}

// stay keeps six requests under way until so; every one of them is answered.
func (w *behindApache) stay(ctx context.Context, b *browser.Browser, so func() bool) {
	t := w.t
	t.Helper()
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX&_page=1") },
		func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
	begun, rounds := time.Now(), 0
	for !so() {
		w.six(ctx, b)
		rounds++
	}
	refused, err := w.op.Count(ctx, func(e lab.Event) bool { return e.Kind == "grant" && e.Type == "refresh_token" && !e.OK })
	if err != nil || refused > 0 {
		t.Errorf("%d renewals were refused: one refresh token was used twice (%v)", refused, err)
	}
	t.Logf("%d rounds of six requests over %v, token renewed %d times", rounds, time.Since(begun).Round(time.Millisecond), w.renewals(ctx))
}

func (w *behindApache) renewals(ctx context.Context) int {
	w.t.Helper()
	n, err := w.op.Refreshes(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestRoundcubeApache is way (c) with everything real: from an empty browser to the inbox with
// one sign-in, reading, sending, renewal with six requests under way, and the log-out.
func TestRoundcubeApache(t *testing.T) {
	ctx := patiently(t)
	// Renewed from the fifth second on, and never less than a minute is left for a request.
	w := startApache(t, 65*time.Second, time.Minute)
	b := w.enter(ctx)
	w.picture(ctx, b, "webmail-apache-inbox")
	w.readAndSend(ctx, b, w.gate)
	w.sentByToken(ctx)
	before := w.renewals(ctx)
	w.stay(ctx, b, func() bool { return w.renewals(ctx) > before })
	w.apacheClosed()
	w.apacheStays(ctx, b)
	w.apacheLogOut(ctx, b)
	w.noPassword()
}

// apacheClosed: without a sign-in nothing of Roundcube is reached, whatever a request says of
// itself, and nobody gets a token from Apache.
func (w *behindApache) apacheClosed() {
	t := w.t
	t.Helper()
	forged := map[string]string{
		"X-Requested-With": "XMLHttpRequest", "Authorization": "Basic YWxpY2VAdHJ5LnRlc3Q6eA==", "Remote-User": "alice@try.test", "REMOTE_USER": "alice@try.test",
		"OIDC_access_token": "x", "OIDC-access-token": "x", "Letterlock_Renew": "127.0.0.1:1", "Cookie": "mod_auth_openidc_session=0123456789abcdef",
	}
	client := &http.Client{Timeout: testPatience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, c := range []struct {
		method, address, body string
		status                int
		says                  string
	}{
		{"GET", w.gate + "/?_task=mail&_action=list&_remote=1", "", 200, "session_error"},
		{"POST", w.gate + "/?_task=mail&_action=list&_remote=1", "", 200, "session_error"},
		{"POST", w.gate + "/", "_task=login&_action=login&_user=alice%40try.test&_pass=x", 200, "session_error"},
		{"GET", w.gate + "/?_task=login", "", 302, ""},
		{"GET", w.gate + "/index.php/x", "", 401, ""},
		{"GET", w.gate + "/plugins/http_authentication/http_authentication.php", "", 401, ""},
		{"GET", w.gate + "/config/config.inc.php", "", 403, ""},
		{"GET", w.renew + "/__oidc/token", "", 401, ""},
		{"GET", w.renew + "/__oidc?info=json", "", 401, ""},
		{"GET", w.renew + "/?_task=mail", "", 403, ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, c.address, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range forged {
			r.Header[name] = []string{value} // as it is written
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
		answer.Body.Close()
		if err != nil || answer.StatusCode != c.status || !strings.Contains(string(text), c.says) || strings.Contains(string(text), "rcmloginuser") || answer.Header.Get("Letterlock-Token") != "" {
			t.Errorf("%s %s: %s, %.300q, %v; want %d and %q", c.method, c.address, answer.Status, text, err, c.status, c.says)
		}
	}
}

// apacheStays: a picture in a mail and a page of another site sign nobody out. The browser is
// where stay left it.
func (w *behindApache) apacheStays(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	if ended := evaluate[bool](ctx, t, b, `new Promise(done => {
		const picture = new Image(); picture.onload = picture.onerror = () => done(true); picture.src = '/__oidc?logout=get'})`); !ended {
		t.Error("there was no picture")
	}
	if answers := evaluate[[]string](ctx, t, b, sixAtOnce); !allWell(answers) {
		t.Errorf("a picture signs out: %.600q", answers)
	}
	for _, c := range []struct {
		query, dest, site string
		status            int
	}{
		{"?logout=", "image", "same-origin", 403},
		{"?x=1&logout=get", "iframe", "cross-site", 403},
		{"?logout=", "document", "cross-site", 403},
		{"?logout=", "document", "same-site", 403},
		{"?logout=", "document", "same-origin", 302}, // Roundcube's own button
		{"?logout=", "document", "none", 302},
		{"?logout=", "", "", 302}, // an old browser
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", w.gate+"/__oidc"+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Sec-Fetch-Dest", c.dest)
		r.Header.Set("Sec-Fetch-Site", c.site)
		client := &http.Client{Timeout: testPatience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != c.status {
			t.Errorf("%s as a %s of %s: %s, want %d", c.query, c.dest, c.site, answer.Status, c.status)
		}
	}
}

// apacheLogOut: Roundcube's own button ends its session, Apache's and the provider's.
func (w *behindApache) apacheLogOut(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX&_uid=1&_action=show") },
		func() error { return b.WaitFor(ctx, "#messagebody") })
	until(ctx, t, "the log-out", func() bool {
		return evaluate[bool](ctx, t, b, `!rcmail.busy && rcmail.command('switch-task', 'logout') !== false`)
	})
	do(ctx, t, b,
		func() error { return b.WaitFor(ctx, `button[name="logout"]`) }, // the provider asks
		func() error { return b.Click(ctx, `button[name="logout"]`) },
		func() error { return b.WaitFor(ctx, `a[href="/"]`) },
	)
	if at, _ := b.Location(ctx); at != w.gate+"/__oidc/out" {
		t.Errorf("after the log-out the browser is at %s", at)
	}
	w.picture(ctx, b, "webmail-apache-signed-out")
	// Back to the message, and the same address again.
	back := func(name string, step func() error) {
		t.Helper()
		until(ctx, t, name, func() bool { return step() == nil })
		do(ctx, t, b, func() error { return b.WaitFor(ctx, `input[name="username"]`) })
		if text, _ := b.Text(ctx); strings.Contains(text, "Nineteen baskets") {
			t.Errorf("%s shows mail after the log-out", name)
		}
	}
	back("a new visit", func() error { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX&_uid=1&_action=show") })
	tab, cancel := context.WithCancel(b.Context())
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	for range 5 {
		if err := chromedp.Do(tab, chromedp.NavigateBack()); err != nil {
			t.Fatalf("Back: %v", err)
		}
		if text, _ := b.Text(ctx); strings.Contains(text, "Nineteen baskets") || strings.Contains(text, "The harvest") {
			t.Error("Back shows mail after the log-out")
		}
	}
}

//go:build lab

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
	"github.com/letterlock-mail/letterlock/internal/lab/zone"
	"github.com/letterlock-mail/letterlock/internal/server/doctor"
)

// A webmail is a real Roundcube behind letterlockd, with real Dovecot and Postfix, and an
// identity provider where people sign in.
type webmail struct {
	*site
	op          *lab.OP // nil: at is another provider
	at          idp
	rc          *lab.Roundcube
	pages, gate string // origins
	gatePort    int
	askPort     int
	pictures    string // behind the names of screenshots
}

// An idp is an identity provider, as far as the story of web mail sees it.
type idp struct {
	issuer, client, secret string
	// signIn are the steps of a person at its pages.
	signIn func(ctx context.Context, b *browser.Browser, who lab.Person, v visit) []func() error
}

// A visit says what an identity provider knows already.
type visit int

const (
	firstVisit   visit = iota // nothing
	otherBrowser              // the person, who was there with another browser
	sameBrowser               // this browser
)

// tokenLife is short, so that the story outlives a token, and long enough for a busy machine:
// a token has half of it left at least when a request begins.
const tokenLife = 20 * time.Second

// startWebmail starts everything, with npm's oidc-provider.
func startWebmail(t *testing.T) *webmail {
	t.Helper()
	var op *lab.OP
	w := startWebmailAt(t, func(redirect string) idp {
		op = lab.RunOP(t, lab.OPOptions{RedirectURIs: []string{redirect}})
		return idp{issuer: op.Issuer, client: lab.DesktopClient, secret: lab.ClientSecret}
	})
	w.op = op
	w.at.signIn = func(ctx context.Context, b *browser.Browser, who lab.Person, v visit) []func() error {
		if v != sameBrowser {
			return w.signInAtOP(ctx, b, who)
		}
		return []func() error{ // it asks only this
			func() error { return b.WaitFor(ctx, "#allow") },
			func() error { return b.Click(ctx, "#allow") },
		}
	}
	return w
}

// startWebmailAt starts everything, with an identity provider that answers to redirect. The
// recipe for Roundcube is what config prints.
func startWebmailAt(t *testing.T, provider func(redirect string) idp) *webmail {
	t.Helper()
	w := &webmail{site: &site{t: t, folder: t.TempDir(), ca: lab.RunCA(t)}}
	if err := errors.Join(os.Chmod(filepath.Dir(w.folder), 0o755), os.Chmod(w.folder, 0o755)); err != nil {
		t.Fatal(err)
	}
	w.binary = filepath.Join(w.folder, "letterlockd")
	if out, err := exec.Command("go", "build", "-o", w.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ports := freePorts(t, 5)
	w.pages = fmt.Sprintf("https://id.try.test:%d", ports[0])
	w.gatePort, w.askPort = ports[1], ports[4]
	w.gate = fmt.Sprintf("https://webmail.try.test:%d", w.gatePort)
	w.at = provider(w.pages + "/signin/campus/callback")
	w.dovecot = lab.RunDovecot(t, lab.DovecotOptions{
		CA: w.ca, Introspection: fmt.Sprintf("http://127.0.0.1:%d/dovecot/introspect", ports[2]), ClientID: "dovecot", ClientSecret: "dove-secret",
		NameClaim: "username", Scope: "imap",
	})
	w.postfix = lab.RunPostfix(t, lab.PostfixOptions{CA: w.ca, Dovecot: w.dovecot, SASLPath: fmt.Sprintf("inet:127.0.0.1:%d", ports[3])})
	w.write("dovecot.secret", "dove-secret\n", 0o600)
	w.write("op.secret", w.at.secret+"\n", 0o600)
	certs, err := w.ca.Issue("id.try.test", "webmail.try.test")
	if err != nil {
		t.Fatal(err)
	}
	w.conf = filepath.Join(w.folder, "letterlockd.toml")
	// Roundcube's port is not known before it runs, and Roundcube wants what config prints.
	configure := func(upstream int) {
		w.write("letterlockd.toml", fmt.Sprintf(`domains = ["try.test"]
[database]
url = "sqlite:%[1]s/letterlockd.db"
[web]
public_url = %[2]q
listen = "127.0.0.1:%[3]d"
certificate = %[4]q
key = %[5]q
master_key_file = "%[1]s/master.key"
[signin.campus]
type = "oidc"
issuer = %[6]q
client_id = %[7]q
client_secret_file = "%[1]s/op.secret"
bind_verified = true
provision = true
[gateway.webmail]
title = "Try Webmail"
public_url = %[8]q
listen = "127.0.0.1:%[9]d"
certificate = %[4]q
key = %[5]q
upstream = "http://127.0.0.1:%[10]d"
kind = "roundcube"
token_life = %[11]q
[dovecot]
listen = "127.0.0.1:%[12]d"
secret_file = "%[1]s/dovecot.secret"
[postfix]
sasl = "127.0.0.1:%[13]d"
`, w.folder, w.pages, ports[0], certs.CertFile, certs.KeyFile, w.at.issuer, w.at.client, w.gate, w.gatePort, upstream, tokenLife, ports[2], ports[3]), 0o644)
	}
	configure(8088)
	printed := w.run("config", "roundcube")
	w.write("letterlock.inc.php", printed, 0o644)
	site := strings.NewReplacer("listen 127.0.0.1:8088;", "listen 127.0.0.1:@port@;", "/run/php/php8.2-fpm.sock", "@fpm@").Replace(w.run("config", "nginx"))
	w.rc = lab.RunRoundcube(t, lab.RoundcubeOptions{
		CA: w.ca, Dovecot: w.dovecot, Postfix: w.postfix, Site: site,
		Config: fmt.Sprintf("include('%s/letterlock.inc.php');\n", w.folder),
	})
	configure(w.rc.Port)
	w.serve()
	return w
}

// doctor finds nothing to say about a gateway in front of a real Roundcube.
func (w *webmail) doctor() {
	w.t.Helper()
	names := zone.Zone{"id.try.test A": {"127.0.0.1"}, "webmail.try.test A": {"127.0.0.1"}}
	cmd := exec.CommandContext(w.t.Context(), w.binary, "--config", w.conf, "doctor", "--json", "--postfix-dir", w.postfix.Dir, "--dovecot-dir", w.dovecot.Dir, "--dns-server", names.Serve(w.t))
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+w.ca.File)
	out, _ := cmd.Output() // its exit status is about Postfix and Dovecot, which are not set up for this
	var found []doctor.Finding
	if err := json.Unmarshal(out, &found); err != nil {
		w.t.Fatalf("doctor: %v\n%s", err, out)
	}
	looked := 0
	for _, f := range found {
		if !strings.HasPrefix(f.ID, "webmail-") {
			continue
		}
		if looked++; f.Level != doctor.OK {
			w.t.Errorf("doctor: %+v", f)
		}
	}
	if looked != 4 {
		w.t.Errorf("doctor looked at %d things about web mail", looked)
	}
}

func (w *webmail) browser() *browser.Browser {
	return browser.Run(w.t, browser.Options{CA: w.ca, Flags: map[string]any{
		"host-resolver-rules": "MAP id.try.test 127.0.0.1, MAP webmail.try.test 127.0.0.1",
	}})
}

// signInAtOP fills in the pages of npm's oidc-provider.
func (w *webmail) signInAtOP(ctx context.Context, b *browser.Browser, who lab.Person) []func() error {
	return []func() error{
		func() error { return b.Fill(ctx, `input[name="username"]`, who.Name) },
		func() error { return b.Fill(ctx, `input[name="password"]`, who.Password) },
		func() error { return b.Click(ctx, "#signin") },
		func() error { return b.Click(ctx, "#allow") },
	}
}

// evaluate runs a script on the page; a promise is waited for.
func evaluate[T any](ctx context.Context, t *testing.T, b *browser.Browser, script string) T {
	t.Helper()
	run, cancel := context.WithCancel(b.Context())
	defer context.AfterFunc(ctx, cancel)()
	defer cancel()
	value, err := chromedp.Run(run, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		at, _ := b.Location(ctx)
		t.Fatalf("script %.80q at %s: %v", script, at, err)
	}
	return value
}

// tokens counts the tokens that web mail has.
func (w *webmail) tokens() int { return w.count(`SELECT count(*) FROM mail_token`) }

func (w *webmail) count(query string) (n int) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.folder, "letterlockd.db")+"?mode=ro&_pragma=busy_timeout(60000)")
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// picture keeps a screenshot where LETTERLOCK_SCREENSHOTS says.
func (w *webmail) picture(ctx context.Context, b *browser.Browser, name string) {
	w.t.Helper()
	folder := os.Getenv("LETTERLOCK_SCREENSHOTS")
	if folder == "" {
		return
	}
	if err := b.Screenshot(ctx, filepath.Join(folder, name+w.pictures+".png")); err != nil {
		w.t.Error(err)
	}
}

// until asks again until it is so.
func until(ctx context.Context, t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// sixAtOnce are six background requests of Roundcube's own kind; it returns their bodies.
const sixAtOnce = `Promise.all([1,2,3,4,5,6].map(n => fetch('./?_task=mail&_action=list&_mbox=INBOX&_remote=1&_page='+n,
	{headers: {'X-Requested-With': 'XMLHttpRequest', 'X-Roundcube-Request': rcmail.env.request_token}}).then(r => r.text().then(t => r.status + ' ' + t))))`

// TestRoundcubeGateway is way (a) with everything real: from an empty browser to the inbox
// with one sign-in, reading, sending, past the end of tokens with six requests under way,
// a revocation from another browser while reading, and the log-out. No password is anywhere.
func TestRoundcubeGateway(t *testing.T) {
	w := startWebmail(t)
	w.doctor()
	w.story(patiently(t), w.browser())
}

// story is TestRoundcubeGateway, at any identity provider.
func (w *webmail) story(ctx context.Context, b *browser.Browser) {
	w.t.Helper()
	w.toInbox(ctx, b)
	w.read(ctx, b, w.gate)
	w.picture(ctx, b, "webmail-message")
	w.send(ctx, b, w.gate)
	w.sentByToken(ctx)
	w.pastExpiry(ctx, b)
	w.unreachable(ctx, b)
	w.revokedElsewhere(ctx, b)
	w.loggedOut(ctx, b)
	w.noPassword()
}

// toInbox: one sign-in from an empty browser, and the inbox is there.
func (w *webmail) toInbox(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	w.harvest()
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX") })
	do(ctx, t, b, w.at.signIn(ctx, b, lab.Alice(), firstVisit)...)
	w.listed(ctx, b)
	if at, _ := b.Location(ctx); !strings.HasPrefix(at, w.gate+"/") || strings.Contains(at, "login") {
		t.Errorf("the browser is at %s", at)
	}
	if n := evaluate[int](ctx, t, b, `document.querySelectorAll('input[type=password]').length`); n != 0 {
		t.Error("there is a form for a password")
	}
	w.picture(ctx, b, "webmail-inbox")
}

// listed waits for the inbox at the end of a sign-in. It asks each page on the way anew: to
// wait for one element while pages of three sites come and go can take one for another.
func (w *webmail) listed(ctx context.Context, b *browser.Browser) {
	w.t.Helper()
	until(ctx, w.t, "the inbox", func() bool {
		text, err := b.Text(ctx)
		return err == nil && strings.Contains(text, "The harvest")
	})
}

// harvest is the message that the stories read.
func (w *webmail) harvest() {
	w.t.Helper()
	if err := w.dovecot.Put(lab.Alice().Email, []byte("From: Bob <bob@try.test>\r\nTo: alice@try.test\r\nSubject: The harvest\r\nMessage-ID: <1@try.test>\r\nDate: Sun, 22 Nov 2026 06:00:00 +0000\r\n\r\nNineteen baskets of apples.\r\n")); err != nil {
		w.t.Fatal(err)
	}
	// Of two connections that are the first ever to open a mailbox one may see it empty, and
	// Roundcube begins with two.
	if out, err := exec.Command("doveadm", "-c", filepath.Join(w.dovecot.Dir, "dovecot.conf"), "index", "-u", lab.Alice().Email, "INBOX").CombinedOutput(); err != nil {
		w.t.Fatalf("doveadm: %v\n%s", err, out)
	}
}

// readAndSend is both.
func (w *webmail) readAndSend(ctx context.Context, b *browser.Browser, origin string) {
	w.t.Helper()
	w.read(ctx, b, origin)
	w.send(ctx, b, origin)
}

// read opens the harvest.
func (w *webmail) read(ctx context.Context, b *browser.Browser, origin string) {
	t := w.t
	t.Helper()
	do(ctx, t, b, func() error { return b.Open(ctx, origin+"/?_task=mail&_mbox=INBOX&_uid=1&_action=show") },
		func() error { return b.WaitFor(ctx, "#messagebody") })
	if text, _ := b.Text(ctx); !strings.Contains(text, "Nineteen baskets") {
		t.Errorf("the message reads %s", text)
	}
}

// send sends to bob; it arrives, from alice.
func (w *webmail) send(ctx context.Context, b *browser.Browser, origin string) {
	t := w.t
	t.Helper()
	do(ctx, t, b,
		func() error {
			return b.Open(ctx, origin+"/?_task=mail&_action=compose&_to=bob%40try.test&_subject=Cider&_body=Shall+we%3F")
		},
	)
	press(ctx, t, b, "button.send")
	until(ctx, t, "bob's message", func() bool {
		mails, err := w.dovecot.Inbox(lab.Bob().Email)
		return err == nil && len(mails) == 1 && strings.Contains(string(mails[0]), "Subject: Cider") && strings.Contains(string(mails[0]), "From: alice@try.test")
	})
	// Half a second after the answer Roundcube goes back to the list by itself. Whoever opens
	// a page meanwhile waits for a page that never comes.
	do(ctx, t, b, func() error { return b.WaitFor(ctx, "#messagelist") })
}

// sentByToken: what was sent was so by a token, which Postfix asked letterlockd about.
func (w *webmail) sentByToken(ctx context.Context) {
	w.t.Helper()
	if _, err := w.postfix.WaitLog(ctx, func(line string) bool {
		return strings.Contains(line, "sasl_method=XOAUTH2, sasl_username=alice@try.test")
	}); err != nil {
		w.t.Error(err)
	}
}

// pastExpiry stays for longer than a token lives, six requests at a time: all are
// answered, and a renewal makes one token and not six.
func (w *webmail) pastExpiry(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX") },
		func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
	before, begun, rounds := w.tokens(), time.Now(), 0
	// A slow machine asks seldom, and a token is renewed when it is asked for.
	for time.Since(begun) < tokenLife+time.Second || w.tokens() < before+2 {
		w.allSix(ctx, b, tokenLife/2)
		rounds++
	}
	made := w.tokens() - before
	// A token is renewed when half of its life is left.
	if most := int(time.Since(begun)/(tokenLife/2)) + 1; made > most {
		t.Errorf("%d tokens in %v, want %d at most", made, time.Since(begun), most)
	}
	t.Logf("%d rounds of six requests over %v, %d tokens", rounds, time.Since(begun).Round(time.Millisecond), made)
}

// allSix has six requests under way at once, and each must have its answer. Of the token with
// which a request begins so much is left at least: when the six take longer, the machine is
// too slow for so short a life, and the page is opened anew.
func (w *webmail) allSix(ctx context.Context, b *browser.Browser, left time.Duration) {
	w.t.Helper()
	begun := time.Now()
	answers := evaluate[[]string](ctx, w.t, b, sixAtOnce)
	took := time.Since(begun)
	switch {
	case allWell(answers):
	case took > left:
		w.t.Logf("six requests took %v, longer than a token lives", took.Round(time.Millisecond))
		at, err := b.Location(ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		do(ctx, w.t, b, func() error { return b.Open(ctx, at) }, func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
	default:
		w.t.Fatalf("after %v: %.3000q", took, answers)
	}
}

// unreachable: what takes a password, and what stands beside the front door.
func (w *webmail) unreachable(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	before := len(w.rc.Access())
	w.asked(ctx, b, []attempt{
		{"GET", "/?_task=login", "", "404"},
		{"POST", "/?_task=login&_action=login", "_user=bob&_pass=x", "404"},
		{"POST", "/", "_task=login&_action=login&_user=bob%40try.test&_pass=x", "403"},
		{"POST", "/", "%5ftask=mail&.action=login", "403"},
		{"GET", "/installer/", "", "404"},
		{"POST", "/xmlrpc.php", "<methodCall/>", "404"},
	})
	for _, line := range w.rc.Access()[min(before, len(w.rc.Access())):] {
		if strings.Contains(line, " 200 ") && (strings.Contains(line, "login") || strings.Contains(line, "installer")) {
			t.Errorf("Roundcube answered: %s", line)
		}
	}
}

// An attempt is a request that a page of the web mail makes, and the status that it shall get.
type attempt struct{ method, path, body, want string }

// asked makes requests from the page that the browser shows.
func (w *webmail) asked(ctx context.Context, b *browser.Browser, attempts []attempt) {
	w.t.Helper()
	for _, a := range attempts {
		body := "undefined"
		if a.body != "" {
			body = strconv.Quote(a.body)
		}
		script := fmt.Sprintf(`fetch(%q, {method: %q, redirect: 'manual', headers: {'X-Requested-With': 'XMLHttpRequest', 'Content-Type': 'application/x-www-form-urlencoded'}, body: %s}).then(r => '' + r.status)`,
			a.path, a.method, body)
		if got := evaluate[string](ctx, w.t, b, script); got != a.want {
			w.t.Errorf("%s %s: %s, want %s", a.method, a.path, got, a.want)
		}
	}
}

// revokedElsewhere: the person closes the web mail on their page in another browser, while
// a message is being written in this one. It is felt within ten seconds, the draft stays,
// and to open the web mail again takes a new proof.
func (w *webmail) revokedElsewhere(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	do(ctx, t, b,
		func() error { return b.Open(ctx, w.gate+"/?_task=mail&_action=compose&_subject=Draft") },
		func() error { return b.WaitFor(ctx, "#composebody") },
		func() error { return b.Fill(ctx, "#composebody", "do not lose me") },
	)
	other := w.browser()
	do(ctx, t, other, func() error { return other.Open(ctx, w.pages+"/") })
	do(ctx, t, other, w.at.signIn(ctx, other, lab.Alice(), otherBrowser)...)
	revoke := `button[aria-label="Revoke the program Try Webmail"]`
	do(ctx, t, other, func() error { return other.WaitFor(ctx, revoke) })
	w.picture(ctx, other, "webmail-grant")
	do(ctx, t, other,
		func() error { return other.Click(ctx, revoke) },
		func() error { return other.WaitFor(ctx, "details") },
	)
	p := takePace(t)
	until(ctx, t, "the end of the session", func() bool {
		return strings.Contains(evaluate[[]string](ctx, t, b, sixAtOnce)[5], "session_error")
	})
	p.within(10*time.Second, "the web mail ended")
	// Roundcube's own script asks, hears of it, and keeps what was written. It keeps that every
	// few seconds anyway; once it has heard it also lets the page go without a question, which
	// would stand there until the end of the test.
	evaluate[bool](ctx, t, b, `(rcmail.http_request('refresh', {}, false), true)`)
	until(ctx, t, "the draft to be kept", func() bool {
		return evaluate[bool](ctx, t, b, `document.querySelector('#composebody').value.includes('do not lose me') && JSON.stringify({...localStorage}).includes('do not lose me') && rcmail.compose_skip_unsavedcheck === true`)
	})
	w.picture(ctx, b, "webmail-draft-kept")
	// The same browser is signed in at the pages still; that is not enough now.
	do(ctx, t, b,
		func() error { return b.Open(ctx, w.gate+"/?_task=mail") },
		func() error { return b.WaitFor(ctx, `a[href^="/signin/campus"]`) },
		func() error { return b.Click(ctx, `a[href^="/signin/campus"]`) },
	)
	do(ctx, t, b, w.at.signIn(ctx, b, lab.Alice(), sameBrowser)...)
	w.listed(ctx, b)
}

// loggedOut: Roundcube's own button ends the mail session, its tokens and the sign-in.
func (w *webmail) loggedOut(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	do(ctx, t, b,
		func() error { return b.Open(ctx, w.gate+"/?_task=mail") },
		func() error { return b.WaitFor(ctx, "#messagelist") },
	)
	// Roundcube takes no click while a list is on its way.
	until(ctx, t, "the log-out", func() bool {
		return evaluate[bool](ctx, t, b, `!rcmail.busy && rcmail.command('switch-task', 'logout') !== false`)
	})
	do(ctx, t, b, func() error { return b.WaitFor(ctx, `a[href="/"]`) })
	if at, _ := b.Location(ctx); at != w.gate+"/__letterlock/out" {
		t.Errorf("after the log-out the browser is at %s", at)
	}
	w.picture(ctx, b, "webmail-signed-out")
	if n := w.tokens(); n != 0 {
		t.Errorf("%d tokens are left", n)
	}
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=mail") })
	if at, _ := b.Location(ctx); strings.HasPrefix(at, w.gate) {
		t.Errorf("after the log-out the browser is at %s", at)
	}
	do(ctx, t, b, func() error { return b.Open(ctx, w.pages+"/addresses") })
	if at, _ := b.Location(ctx); strings.HasSuffix(at, "/addresses") {
		t.Error("the pages are still open after the log-out")
	}
}

// noPassword looks at all that lies on disk, and all that was logged.
func (w *webmail) noPassword() {
	t := w.t
	t.Helper()
	files, err := w.rc.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{w.folder, w.dovecot.Dir, w.postfix.Dir} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || path == w.binary {
				return nil // queues and mailboxes move
			}
			if data, err := os.ReadFile(path); err == nil {
				files[path] = data
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, lines := range map[string][]string{"letterlockd": w.process.Log(), "roundcube": w.rc.Log(), "dovecot": w.dovecot.Log(), "postfix": w.postfix.Log()} {
		files["log of "+name] = []byte(strings.Join(lines, "\n"))
	}
	for path, data := range files {
		for _, secret := range []string{lab.Alice().Password, lab.Bob().Password, "llat_"} {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s holds %q", path, secret)
			}
		}
	}
	if len(files) < 20 {
		t.Errorf("only %d files were looked at", len(files))
	}
}

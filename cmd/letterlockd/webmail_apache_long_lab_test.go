//go:build lab && long

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
)

// TestRoundcubeApacheStays is what takes long of way (c): several lives of tokens, and all that
// can end a sign-in while somebody reads and writes.
func TestRoundcubeApacheStays(t *testing.T) {
	ctx := patiently(t)
	w := startApache(t, tokenLife, tokenLife/2)
	b := w.enter(ctx)
	begun := time.Now()
	w.stay(ctx, b, func() bool { return time.Since(begun) > 2*tokenLife+time.Second })
	if n, most := w.renewals(ctx), int(time.Since(begun)/(tokenLife/2))+1; n < 3 || n > most {
		t.Errorf("%d renewals in %v, want 3 to %d", n, time.Since(begun), most)
	}
	w.takenAway(ctx, b)
	w.disabledElsewhere(ctx, b)
	w.refusedByProvider(ctx, b)
	w.endedAtProvider(ctx, b)
	w.otherAudience(ctx, b)
}

// ends takes the right away while somebody writes: neither reading nor sending goes on for
// more than ten seconds, and all is well again when the right is given back.
func (w *behindApache) ends(ctx context.Context, b *browser.Browser, take, give func()) {
	t := w.t
	t.Helper()
	do(ctx, t, b, func() error {
		return b.Open(ctx, w.gate+"/?_task=mail&_action=compose&_to=bob%40try.test&_subject=Perry&_body=Rather%3F")
	}, func() error { return b.WaitFor(ctx, "button.send") })
	until(ctx, t, "the page at rest", func() bool { return evaluate[bool](ctx, t, b, `!rcmail.busy`) })
	take()
	before := len(w.postfix.Log())
	p := takePace(t)
	until(ctx, t, "the end of reading", func() bool {
		return !strings.Contains(strings.Join(evaluate[[]string](ctx, t, b, sixAtOnce), ""), "The harvest")
	})
	p.within(10*time.Second, "reading ended")
	do(ctx, t, b, func() error { return b.Click(ctx, "button.send") })
	until(ctx, t, "the refusal to send", func() bool {
		return strings.Contains(strings.Join(w.postfix.Log()[before:], "\n"), "authentication failed")
	})
	if mails, err := w.dovecot.Inbox(lab.Bob().Email); err != nil || strings.Contains(fmt.Sprintf("%s", mails), "Perry") {
		t.Errorf("the message was sent: %v", err)
	}
	give()
	until(ctx, t, "the mail again", func() bool { return allWell(evaluate[[]string](ctx, t, b, sixAtOnce)) })
}

// takenAway: the person sees on their page that the web mail acts for them, takes that away
// while it is open, and allows it again.
func (w *behindApache) takenAway(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	other := w.browser()
	do(ctx, t, other, func() error { return other.Open(ctx, w.pages+"/") })
	do(ctx, t, other, w.signInAtOP(ctx, other, lab.Alice())...)
	name := fmt.Sprintf("the program %s, signed in at %s", lab.DesktopClient, w.op.Issuer)
	w.ends(ctx, b, func() {
		revoke := fmt.Sprintf(`button[aria-label="Revoke %s"]`, name)
		do(ctx, t, other, func() error { return other.WaitFor(ctx, revoke) })
		w.picture(ctx, other, "webmail-apache-grant")
		do(ctx, t, other,
			func() error { return other.Click(ctx, revoke) },
			func() error { return other.WaitFor(ctx, "details summary") },
		)
	}, func() {
		do(ctx, t, other,
			func() error { return other.Click(ctx, "details summary") },
			func() error { return other.WaitFor(ctx, fmt.Sprintf(`button[aria-label="Allow %s again"]`, name)) },
		)
		w.picture(ctx, other, "webmail-apache-kept-out")
		do(ctx, t, other,
			func() error { return other.Click(ctx, fmt.Sprintf(`button[aria-label="Allow %s again"]`, name)) },
			func() error { return other.WaitFor(ctx, fmt.Sprintf(`button[aria-label="Revoke %s"]`, name)) },
		)
	})
}

// disabledElsewhere: the administrator disables the person, and takes the account away.
func (w *behindApache) disabledElsewhere(ctx context.Context, b *browser.Browser) {
	alice := lab.Alice()
	w.ends(ctx, b, func() { w.run("person", "disable", alice.Email, "--reason", "left the project") },
		func() { w.run("person", "enable", alice.Email) })
	account := []string{alice.Email, "--issuer", w.op.Issuer, "--subject", alice.Subject}
	w.ends(ctx, b, func() { w.run(append([]string{"person", "unbind"}, account...)...) },
		func() { w.run(append([]string{"person", "bind"}, account...)...) })
}

// refusedByProvider: the provider renews no token any more. The old one is good to its end; then
// a background request is told so, and whoever opens a page is at the provider.
func (w *behindApache) refusedByProvider(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX&_page=1") },
		func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
	if n, err := w.op.Revoke(ctx, lab.Alice().Email); err != nil || n == 0 {
		t.Fatalf("%d grants revoked: %v", n, err)
	}
	until(ctx, t, "the end of the token", func() bool {
		answers := evaluate[[]string](ctx, t, b, sixAtOnce)
		for _, answer := range answers {
			if !strings.HasPrefix(answer, "200 ") || strings.Contains(answer, "failed") {
				t.Fatalf("a request was not answered: %.300q", answer)
			}
		}
		return strings.Contains(strings.Join(answers, ""), "session_error")
	})
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX&_page=1") },
		func() error { return b.WaitFor(ctx, "#allow") }, // the provider knows the browser, and asks only this
		func() error { return b.Click(ctx, "#allow") },
		func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
}

// endedAtProvider: the person logs out at the provider in another tab, which tells Apache by
// its back channel; what was being written is kept.
func (w *behindApache) endedAtProvider(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	do(ctx, t, b,
		func() error { return b.Open(ctx, w.gate+"/?_task=mail&_action=compose&_subject=Draft") },
		func() error { return b.WaitFor(ctx, "#composebody") },
		func() error { return b.Fill(ctx, "#composebody", "do not lose me") },
	)
	tab, cancel := chromedp.NewContext(b.Context())
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	if err := chromedp.Do(tab, chromedp.Navigate(w.op.Issuer+"/session/end"), chromedp.Click(chromedp.CSS(`button[name="logout"]`))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.op.Wait(ctx, func(e lab.Event) bool { return e.Kind == "backchannel" && e.OK }); err != nil {
		t.Fatal(err)
	}
	p := takePace(t)
	until(ctx, t, "the end of the session", func() bool {
		return strings.Contains(evaluate[[]string](ctx, t, b, sixAtOnce)[5], "session_error")
	})
	p.within(10*time.Second, "the web mail ended")
	evaluate[bool](ctx, t, b, `(rcmail.http_request('refresh', {}, false), true)`)
	until(ctx, t, "the draft to be kept", func() bool {
		return evaluate[bool](ctx, t, b, `document.querySelector('#composebody').value.includes('do not lose me') && JSON.stringify({...localStorage}).includes('do not lose me')`)
	})
	w.picture(ctx, b, "webmail-apache-draft-kept")
	do(ctx, t, b, func() error { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX&_page=1") })
	do(ctx, t, b, w.signInAtOP(ctx, b, lab.Alice())...)
	do(ctx, t, b, func() error { return b.WaitFor(ctx, "#messagelist tr.message") })
}

// otherAudience: letterlockd only looks at issuer, audience and client: with another
// audience on its list nobody gets in.
func (w *behindApache) otherAudience(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	conf, err := os.ReadFile(w.conf)
	if err != nil {
		t.Fatal(err)
	}
	w.process.Stop()
	w.write("letterlockd.toml", strings.Replace(string(conf), `audiences = ["mail"]`, `audiences = ["calendar"]`, 1), 0o644)
	w.serve()
	until(ctx, t, "the page", func() bool { return b.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX&_uid=1&_action=show") == nil })
	if text, _ := b.Text(ctx); strings.Contains(text, "Nineteen baskets") {
		t.Error("a token for another audience opens the mailbox")
	}
	if _, err := w.dovecot.WaitLog(ctx, func(line string) bool { return strings.Contains(line, "auth failed") }); err != nil {
		t.Error(err)
	}
}

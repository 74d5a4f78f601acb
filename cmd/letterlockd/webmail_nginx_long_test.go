//go:build lab && long

package main

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
)

// TestRoundcubeNginxStays is the part of TestRoundcubeNginx that takes its time: past the end of
// tokens with six requests under way, a revocation from another browser while a message is
// being written, and a mail server that lets nobody in.
func TestRoundcubeNginxStays(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*testPatience)
	defer cancel()
	w := startAsking(t)
	b := w.browser()
	w.toInbox(ctx, b)
	w.pastExpiry(ctx, b)
	w.betweenPeople(ctx, b)
	w.revokedElsewhere(ctx, b)
	ours, _ := splitCookies(w.cookies(ctx, b))
	w.noPassword()

	// Roundcube would show its form for a password.
	w.dovecot.Stop()
	status, body := w.raw(ctx, "GET / HTTP/1.1", "Host: "+strings.TrimPrefix(w.gate, "https://"), "Connection: close", "Cookie: "+ours)
	if status != http.StatusBadGateway || !strings.Contains(body, "did not let the Try Webmail in") || strings.Contains(body, "password") {
		t.Errorf("without a mail server: %d %s", status, body)
	}
	// Without letterlockd nobody comes through.
	w.process.Stop()
	if status, body := w.raw(ctx, "GET /?dump HTTP/1.1", "Host: "+strings.TrimPrefix(w.gate, "https://"), "Connection: close", "Cookie: "+ours); status != http.StatusInternalServerError || strings.Contains(body, "PHP_AUTH") {
		t.Errorf("without letterlockd: %d", status)
	}
}

// splitCookies are the one of our session, and those of Roundcube.
func splitCookies(all string) (ours, theirs string) {
	var rest []string
	for pair := range strings.SplitSeq(all, "; ") {
		if strings.HasPrefix(pair, "__Host-letterlock-mail=") {
			ours = pair
		} else {
			rest = append(rest, pair)
		}
	}
	return ours, strings.Join(rest, "; ")
}

// betweenPeople: what alice's Roundcube left in a browser, or somebody planted there, opens
// nothing of hers for bob, under the names that it had or under the usual ones.
func (w *askingWebmail) betweenPeople(ctx context.Context, alice *browser.Browser) {
	t := w.t
	t.Helper()
	bob := w.browser()
	do(ctx, t, bob, func() error { return bob.Open(ctx, w.gate+"/?_task=mail&_mbox=INBOX") })
	do(ctx, t, bob, w.signInAtOP(ctx, bob, lab.Bob())...)
	do(ctx, t, bob, func() error { return bob.WaitFor(ctx, "#messagelist") })
	aliceOurs, aliceTheirs := splitCookies(w.cookies(ctx, alice))
	bobOurs, bobTheirs := splitCookies(w.cookies(ctx, bob))
	usual := regexp.MustCompile(`(roundcube_sess[a-z]+)_[^=]+`).ReplaceAllString(aliceTheirs, "$1")
	for _, c := range []struct {
		name, cookies string
		whose         string
	}{
		{"alice's own", aliceOurs + "; " + aliceTheirs, "alice"},
		{"bob's own", bobOurs + "; " + bobTheirs, "bob"},
		{"left behind", bobOurs + "; " + aliceTheirs, ""},
		{"planted", bobOurs + "; " + usual, ""},
	} {
		status, body := w.raw(ctx, "GET /?_task=settings&_action=identities HTTP/1.1", "Host: "+strings.TrimPrefix(w.gate, "https://"), "Connection: close", "Cookie: "+c.cookies)
		hers, his := strings.Contains(body, "alice@try.test"), strings.Contains(body, "bob@try.test")
		// Without a session of its own Roundcube makes one for whom letterlockd names, and
		// leads on.
		if c.whose == "" && (hers || status != http.StatusFound) || c.whose != "" && (status != http.StatusOK || hers != (c.whose == "alice") || his != (c.whose == "bob")) {
			t.Errorf("cookies %s: %d, alice %v, bob %v", c.name, status, hers, his)
		}
	}
}

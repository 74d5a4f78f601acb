//go:build lab && long

package main

import (
	"net/http"
	"strings"
	"testing"
)

// TestRoundcubeNginxStays is the part of TestRoundcubeNginx that takes its time: past the end of
// tokens with six requests under way, a revocation from another browser while a message is
// being written, and a mail server that lets nobody in.
func TestRoundcubeNginxStays(t *testing.T) {
	ctx := patiently(t)
	w := startAsking(t)
	b := w.openInbox(ctx)
	w.pastExpiry(ctx, b)
	w.revokedElsewhere(ctx, b)
	var ours string
	for pair := range strings.SplitSeq(w.cookies(ctx, b), "; ") {
		if strings.HasPrefix(pair, "__Host-letterlock-mail=") {
			ours = pair
		}
	}
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

//go:build lab

package main

import (
	"context"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
)

// startSecondWebmail is startWebmail with Debian's glewlwyd as the identity provider.
func startSecondWebmail(t *testing.T) *webmail {
	t.Helper()
	w := startWebmailAt(t, func(redirect string) idp {
		g := lab.RunGlewlwyd(t, lab.GlewlwydOptions{RedirectURIs: []string{redirect}})
		return idp{issuer: g.Issuer, client: g.ClientID, secret: g.Secret}
	})
	w.pictures = "-glewlwyd"
	w.at.signIn = func(ctx context.Context, b *browser.Browser, who lab.Person, v visit) (steps []func() error) {
		if v != sameBrowser {
			steps = append(steps, b.GlewlwydPassword(ctx, who)...)
		}
		if v == firstVisit {
			consent := b.GlewlwydConsent(ctx, "profile", "email")
			steps = append(steps, consent[:len(consent)-1]...)
			steps = append(steps, func() error { w.picture(ctx, b, "webmail-consent"); return nil }, consent[len(consent)-1])
		}
		return append(steps, b.GlewlwydOn(ctx)...)
	}
	return w
}

// TestRoundcubeSecondProvider is the beginning and the end of TestRoundcubeGateway at
// another identity provider than npm's: the inbox by one sign-in, reading, sending, and
// the log-out. What lies between is behind the tag long.
func TestRoundcubeSecondProvider(t *testing.T) {
	ctx := patiently(t)
	w := startSecondWebmail(t)
	b := w.browser()
	w.toInbox(ctx, b)
	w.readAndSend(ctx, b, w.gate)
	w.sentByToken(ctx)
	w.loggedOut(ctx, b)
	w.noPassword()
}

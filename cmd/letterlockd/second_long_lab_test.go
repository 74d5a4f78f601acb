//go:build lab && long

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
)

// TestChromiumGlewlwyd signs in at the pages by Debian's glewlwyd: bob, who keeps his address
// to himself and hears what is missing, and alice, who signs out at another program of the
// same provider, and is signed out here too.
func TestChromiumGlewlwyd(t *testing.T) {
	ctx := patiently(t)
	d := bareDesk(t, "http")
	answers := make(chan url.Values, 1)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("code") {
			answers <- r.URL.Query()
		}
	}))
	t.Cleanup(elsewhere.Close)
	g := lab.RunGlewlwyd(t, lab.GlewlwydOptions{
		RedirectURIs: []string{d.public + "/signin/campus/callback"}, Backchannel: d.public + "/signin/campus/backchannel-logout", Elsewhere: elsewhere.URL + "/",
	})
	d.configure("try.test", fmt.Sprintf(`[signin.campus]
type = "oidc"
issuer = %q
client_id = %q
client_secret_file = %q
bind_verified = true
provision = true
[membership.campus]
logout = true
`, g.Issuer, g.ClientID, d.write("secret", g.Secret+"\n")))
	d.serve()
	d.keepsAddress(ctx)

	b := browser.Run(t, browser.Options{})
	do(ctx, t, b, func() error { return b.Open(ctx, d.public+"/signin?back=%2Fsignin%3Fchoose%3D1") })
	do(ctx, t, b, b.AtGlewlwyd(ctx, lab.Alice())...)
	until(ctx, t, "the way back", func() bool {
		at, err := b.Location(ctx)
		return err == nil && at == d.public+"/signin?choose=1"
	})
	if _, sessions, bindings := d.person(lab.Alice().Email); len(sessions) != 1 || len(bindings) != 1 || bindings[0].Issuer != g.Issuer {
		t.Fatalf("%+v %+v", sessions, bindings)
	}

	hint := tokenElsewhere(ctx, t, b, g, elsewhere.URL+"/", answers)
	do(ctx, t, b, func() error { return b.Open(ctx, g.Issuer+"/end_session?id_token_hint="+hint) })
	do(ctx, t, b, b.GlewlwydOut(ctx, "Elsewhere")...)
	until(ctx, t, "the end of the session here", func() bool {
		_, sessions, _ := d.person(lab.Alice().Email)
		return len(sessions) == 0
	})
	until(ctx, t, "the word in the audit trail", func() bool {
		return strings.Contains(d.must("audit", "list", "--kind", "session.ended"), "by "+g.Issuer+", one session there")
	})
}

// keepsAddress is bob, who allows nothing at the provider.
func (d *desk) keepsAddress(ctx context.Context) {
	t := d.t
	t.Helper()
	b := browser.Run(t, browser.Options{})
	do(ctx, t, b, func() error { return b.Open(ctx, d.public+"/signin") })
	do(ctx, t, b, b.GlewlwydPassword(ctx, lab.Bob())...)
	do(ctx, t, b, b.GlewlwydConsent(ctx)...)
	do(ctx, t, b, b.GlewlwydOn(ctx)...)
	until(ctx, t, "the refusal", func() bool {
		text, err := b.Text(ctx)
		return err == nil && strings.Contains(text, "it must be allowed to know your mail address")
	})
	if trail := d.must("audit", "list", "--kind", "signin.refused"); !strings.Contains(trail, "the provider tells no address, for which the scope email must be allowed and granted; or use letterlockd person invite") {
		t.Errorf("audit trail: %s", trail)
	}
}

// tokenElsewhere signs the browser, which the provider knows, in at another program, and returns
// its ID token.
func tokenElsewhere(ctx context.Context, t *testing.T, b *browser.Browser, g *lab.Glewlwyd, redirect string, answers <-chan url.Values) string {
	t.Helper()
	cfg := oauth2.Config{
		ClientID: lab.OtherClient, ClientSecret: g.Secret, RedirectURL: redirect, Scopes: []string{"openid", "profile", "email"},
		Endpoint: oauth2.Endpoint{AuthURL: g.Issuer + "/auth", TokenURL: g.Issuer + "/token"},
	}
	verifier, nonce := oauth2.GenerateVerifier(), oauth2.SetAuthURLParam("nonce", oauth2.GenerateVerifier())
	do(ctx, t, b, func() error {
		return b.Open(ctx, cfg.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier), nonce))
	})
	do(ctx, t, b, append(b.GlewlwydConsent(ctx, "email"), b.GlewlwydOn(ctx)...)...)
	select {
	case answer := <-answers:
		token, err := cfg.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		id, _ := token.Extra("id_token").(string)
		return id
	case <-ctx.Done():
		t.Fatal("nobody came back from glewlwyd")
	}
	return ""
}

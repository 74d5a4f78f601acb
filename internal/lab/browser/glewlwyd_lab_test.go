//go:build lab

package browser_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
)

// TestGlewlwyd signs alice in at Debian's own provider, and looks at what it says of her
// with go-oidc, which nobody here wrote.
func TestGlewlwyd(t *testing.T) {
	ctx := within(t)
	redirect, answers := callback(t)
	g := lab.RunGlewlwyd(t, lab.GlewlwydOptions{RedirectURIs: []string{redirect}})
	provider, err := oidc.NewProvider(ctx, g.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	cfg := oauth2.Config{ClientID: g.ClientID, ClientSecret: g.Secret, RedirectURL: redirect, Scopes: []string{"openid", "profile", "email"}, Endpoint: provider.Endpoint()}
	b := browser.Run(t, browser.Options{})

	walk := func(steps []func() error) func(address string) {
		return func(address string) {
			for i, step := range append([]func() error{func() error { return b.Open(ctx, address) }}, steps...) {
				if err := step(); err != nil {
					text, _ := b.Text(ctx)
					t.Fatalf("step %d: %v\n%s", i, err, text)
				}
			}
		}
	}
	subject := signInAtGlewlwyd(ctx, t, g, cfg, provider, answers, walk(b.AtGlewlwyd(ctx, lab.Alice())))
	again := signInAtGlewlwyd(ctx, t, g, cfg, provider, answers, walk(b.GlewlwydOn(ctx)))
	if again != subject {
		t.Errorf("the subject is %q, and was %q", again, subject)
	}
}

// signInAtGlewlwyd returns the subject.
func signInAtGlewlwyd(ctx context.Context, t *testing.T, g *lab.Glewlwyd, cfg oauth2.Config, provider *oidc.Provider, answers <-chan url.Values, walk func(address string)) string {
	t.Helper()
	verifier, state, nonce := oauth2.GenerateVerifier(), oauth2.GenerateVerifier(), oauth2.GenerateVerifier()
	walk(cfg.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oidc.Nonce(nonce)))
	var answer url.Values
	select {
	case answer = <-answers:
	case <-ctx.Done():
		t.Fatal("nobody came back from glewlwyd")
	}
	if answer.Get("state") != state || answer.Get("iss") != g.Issuer {
		t.Fatalf("came back with %v", answer)
	}
	if _, err := cfg.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(oauth2.GenerateVerifier())); err == nil {
		t.Error("it takes another verifier")
	}
	token, err := cfg.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := provider.Verifier(&oidc.Config{ClientID: g.ClientID}).Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
		Session  string `json:"sid"`
	}
	if err := id.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if id.Nonce != nonce || claims.Email != lab.Alice().Email || !claims.Verified || claims.Session == "" {
		t.Errorf("%+v %+v", id, claims)
	}
	return id.Subject
}

// TestGlewlwydProfile shows that nobody signs in with another password, and that nobody
// writes the address of somebody else into an account of their own, for which
// email_verified would then vouch.
func TestGlewlwydProfile(t *testing.T) {
	ctx := within(t)
	g := lab.RunGlewlwyd(t, lab.GlewlwydOptions{RedirectURIs: []string{"http://127.0.0.1:1/callback"}})
	if err := g.ChangeEmail(ctx, lab.Person{Name: "alice", Password: "bob-at-the-page"}, "x@try.test"); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("another password: %v", err)
	}
	if err := g.ChangeEmail(ctx, lab.Alice(), lab.Bob().Email); err != nil {
		t.Error(err)
	}
	if email, err := g.Email(ctx, lab.Alice()); email != lab.Alice().Email || err != nil {
		t.Errorf("alice made her address %q: %v", email, err)
	}
}

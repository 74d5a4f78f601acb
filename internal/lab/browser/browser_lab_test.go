//go:build lab

package browser_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// callback is the loopback listener of a program that signs somebody in.
func callback(t *testing.T) (string, <-chan url.Values) {
	t.Helper()
	got := make(chan url.Values, 4)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			got <- r.URL.Query()
		}
		_, _ = w.Write([]byte("<!DOCTYPE html><title>back</title><p>You can close this page."))
	}))
	t.Cleanup(server.Close)
	return server.URL + "/callback", got
}

func TestCodeFlowByBrowser(t *testing.T) {
	ctx := within(t)
	ca := lab.RunCA(t)
	op := lab.RunOP(t, lab.OPOptions{CA: ca})
	b := browser.Run(t, browser.Options{CA: ca})
	redirect, got := callback(t)
	cfg := op.OAuth(lab.PublicClient, redirect)
	verifier := oauth2.GenerateVerifier()
	end, err := b.SignIn(ctx, cfg.AuthCodeURL("the-state", oauth2.S256ChallengeOption(verifier)), lab.Alice())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(end, redirect) {
		t.Fatalf("the browser ended at %s", end)
	}
	back := <-got
	if back.Get("state") != "the-state" || back.Get("iss") != op.Issuer {
		t.Fatalf("the redirect carried %v", back)
	}
	tok, err := cfg.Exchange(op.Context(ctx), back.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	provider, err := oidc.NewProvider(op.Context(ctx), op.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := tok.Extra("id_token").(string)
	id, err := provider.Verifier(&oidc.Config{ClientID: lab.PublicClient}).Verify(op.Context(ctx), raw)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ Email string }
	if err := id.Claims(&claims); err != nil || claims.Email != lab.Alice().Email || id.Subject != lab.Alice().Subject {
		t.Errorf("the id token says %+v of %s: %v", claims, id.Subject, err)
	}
	picture := filepath.Join(t.TempDir(), "back.png")
	if err := b.Screenshot(ctx, picture); err != nil {
		t.Error(err)
	} else if info, err := os.Stat(picture); err != nil || info.Size() < 1000 {
		t.Errorf("the picture: %v, %v", info, err)
	}
}

func TestDenyAndWrongPassword(t *testing.T) {
	ctx := within(t)
	op := lab.RunOP(t, lab.OPOptions{})
	b := browser.Run(t, browser.Options{})
	redirect, got := callback(t)
	address := op.OAuth(lab.PublicClient, redirect).AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))
	mallory := lab.Alice()
	mallory.Password = "guessed"
	if end, err := b.SignIn(ctx, address, mallory); err == nil {
		t.Errorf("a wrong password ended at %s", end)
	}
	if _, err := b.Deny(ctx, address, lab.Alice()); err != nil {
		t.Fatal(err)
	}
	if back := <-got; back.Get("error") != "access_denied" || back.Has("code") {
		t.Errorf("after deny the redirect carried %v", back)
	}
}

func TestDeviceFlowByBrowser(t *testing.T) {
	ctx := within(t)
	op := lab.RunOP(t, lab.OPOptions{})
	b := browser.Run(t, browser.Options{})
	cfg := op.OAuth(lab.PublicClient, "")
	for _, typed := range []bool{false, true} {
		auth, err := cfg.DeviceAuth(op.Context(ctx))
		if err != nil {
			t.Fatal(err)
		}
		where, code := auth.VerificationURIComplete, ""
		if typed {
			where, code = auth.VerificationURI, auth.UserCode
		}
		if err := b.Approve(ctx, where, code, lab.Bob()); err != nil {
			t.Fatal(err)
		}
		tok, err := cfg.DeviceAccessToken(op.Context(ctx), auth)
		if err != nil || tok.RefreshToken == "" {
			t.Errorf("typed %v: token %v", typed, err)
		}
	}
}

func TestUnknownCertificateIsRefused(t *testing.T) {
	ctx := within(t)
	ca, other := lab.RunCA(t), lab.RunCA(t)
	op := lab.RunOP(t, lab.OPOptions{CA: other})
	b := browser.Run(t, browser.Options{CA: ca})
	if err := b.Open(ctx, op.Issuer); err == nil || !strings.Contains(err.Error(), "ERR_CERT_AUTHORITY_INVALID") {
		t.Errorf("a page with a certificate of an unknown authority: %v", err)
	}
}

func TestBrowserThroughInternet(t *testing.T) {
	ctx := within(t)
	ca := lab.RunCA(t)
	internet := lab.RunInternet(t)
	cfg, err := ca.Server("accounts.example.test")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<!DOCTYPE html><p>hello from far away"))
	}))
	server.TLS = cfg
	server.StartTLS()
	t.Cleanup(server.Close)
	internet.Map("accounts.example.test", server.Listener.Addr().String())
	b := browser.Run(t, browser.Options{CA: ca, Internet: internet})
	if err := b.Open(ctx, "https://accounts.example.test/"); err != nil {
		t.Fatal(err)
	}
	if text, err := b.Text(ctx); err != nil || !strings.Contains(text, "far away") {
		t.Errorf("the page says %q: %v", text, err)
	}
}

func TestStopEndsEveryProcess(t *testing.T) {
	b, err := browser.Start(within(t), browser.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := running(t, b.Profile()); n == 0 {
		t.Fatal("no process of the browser was found: the check below would prove nothing")
	}
	b.Stop()
	if n := running(t, b.Profile()); n != 0 {
		t.Errorf("%d processes of the browser are left", n)
	}
	if _, err := os.Stat(b.Profile()); !os.IsNotExist(err) {
		t.Errorf("the profile is left: %v", err)
	}
}

// running counts processes whose command line speaks of a folder.
func running(t *testing.T, dir string) int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range lines {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), dir) {
			n++
		}
	}
	return n
}

//go:build lab

package lab_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// oauthError is the error code of a refused token request.
func oauthError(err error) string {
	var retrieve *oauth2.RetrieveError
	if errors.As(err, &retrieve) {
		return retrieve.ErrorCode
	}
	return ""
}

func TestRotationAndReuse(t *testing.T) {
	ctx := within(t)
	op := lab.RunOP(t, lab.OPOptions{AccessTTL: time.Hour})
	first, err := op.Token(ctx, lab.Alice())
	if err != nil {
		t.Fatal(err)
	}
	cfg := op.OAuth(lab.PublicClient, "")
	refresh := func(token string) (*oauth2.Token, error) {
		return cfg.TokenSource(op.Context(ctx), &oauth2.Token{RefreshToken: token}).Token()
	}
	second, err := refresh(first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if second.RefreshToken == first.RefreshToken {
		t.Error("the refresh token was not rotated")
	}
	if n, err := op.Refreshes(ctx); n != 1 || err != nil {
		t.Errorf("%d refreshes were counted: %v", n, err)
	}
	if !active(t, op, second.AccessToken) {
		t.Error("the new access token is not active")
	}
	if _, err := refresh(first.RefreshToken); oauthError(err) != "invalid_grant" {
		t.Errorf("a refresh token used twice: %v", err)
	}
	if _, err := refresh(second.RefreshToken); oauthError(err) != "invalid_grant" {
		t.Errorf("the family's newest refresh token after a reuse: %v", err)
	}
	if active(t, op, second.AccessToken) {
		t.Error("the family's access token outlived the reuse")
	}
	if _, err := op.Wait(ctx, func(e lab.Event) bool { return e.Kind == "revoked" }); err != nil {
		t.Error(err)
	}
}

// active asks the provider about a token as Dovecot would.
func active(t *testing.T, op *lab.OP, token string) bool {
	t.Helper()
	resp, err := op.HTTPClient().PostForm(op.IntrospectionURL(), url.Values{
		"token": {token}, "client_id": {lab.DovecotClient}, "client_secret": {lab.ClientSecret},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("introspection: %s %s, %v", resp.Status, body, err)
	}
	return strings.Contains(string(body), `"active":true`) && strings.Contains(string(body), `"email":`)
}

func TestPKCEIsRequired(t *testing.T) {
	ctx := within(t)
	op := lab.RunOP(t, lab.OPOptions{})
	back, err := op.SignIn(ctx, op.OAuth(lab.PublicClient, "http://127.0.0.1:1/").AuthCodeURL("s"), lab.Alice())
	if err != nil {
		t.Fatal(err)
	}
	if back.Query().Get("error") != "invalid_request" || back.Query().Has("code") {
		t.Errorf("without PKCE the redirect carried %v", back.Query())
	}
}

func TestDeviceFlow(t *testing.T) {
	ctx := within(t)
	op := lab.RunOP(t, lab.OPOptions{TokenBits: 16384})
	cfg := op.OAuth(lab.PublicClient, "")
	auth, err := cfg.DeviceAuth(op.Context(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Approve(ctx, auth.VerificationURIComplete, lab.Alice()); err != nil {
		t.Fatal(err)
	}
	tok, err := cfg.DeviceAccessToken(op.Context(ctx), auth)
	if err != nil {
		t.Fatal(err)
	}
	if len(tok.AccessToken) < 2500 || !active(t, op, tok.AccessToken) {
		t.Errorf("token of %d octets, active %v", len(tok.AccessToken), active(t, op, tok.AccessToken))
	}
	if e, err := op.Wait(ctx, func(e lab.Event) bool { return e.Type == lab.GrantDevice && e.OK }); err != nil || e.Account != lab.Alice().Subject {
		t.Errorf("the event %+v: %v", e, err)
	}
}

func TestSideChannel(t *testing.T) {
	ctx := within(t)
	op := lab.RunOP(t, lab.OPOptions{})
	if err := op.SetAccessTTL(ctx, 1234*time.Second); err != nil {
		t.Fatal(err)
	}
	tok, err := op.Token(ctx, lab.Alice())
	if err != nil {
		t.Fatal(err)
	}
	if tok.ExpiresIn != 1234 {
		t.Errorf("the token lives %d s", tok.ExpiresIn)
	}
	bobs := token(t, op, lab.Bob())
	if n, err := op.Revoke(ctx, lab.Alice().Email); n != 1 || err != nil {
		t.Errorf("revoked %d grants: %v", n, err)
	}
	if active(t, op, tok.AccessToken) {
		t.Error("the token outlived its grant")
	}
	if !active(t, op, bobs) {
		t.Error("somebody else's token was revoked too")
	}
	for _, line := range op.Log() {
		if strings.Contains(line, tok.AccessToken) || strings.Contains(line, tok.RefreshToken) {
			t.Errorf("the provider printed a token: %s", line)
		}
	}
}

// A provider behind a fault injector: every endpoint it names leads through.
func TestOPBehindFault(t *testing.T) {
	for _, secure := range []bool{false, true} {
		ctx := within(t)
		o := lab.HTTPFaultOptions{}
		if secure {
			o.CA = lab.RunCA(t)
		}
		fault := lab.RunHTTPFault(t, o)
		op := lab.RunOP(t, lab.OPOptions{Issuer: fault.URL, IssuerCA: o.CA})
		if err := fault.SetTarget("http://" + op.Address); err != nil {
			t.Fatal(err)
		}
		first, err := op.Token(ctx, lab.Alice())
		if err != nil {
			t.Fatal(err)
		}
		cfg := op.OAuth(lab.PublicClient, "")
		source := func() error {
			_, err := cfg.TokenSource(op.Context(ctx), &oauth2.Token{RefreshToken: first.RefreshToken}).Token()
			return err
		}
		before := fault.Requests("/token")
		fault.Set(lab.Fault{Path: "/token", Status: http.StatusInternalServerError, Body: "oops", Times: 1}, lab.Fault{Path: "/token", LoseAnswer: true, Times: 1})
		if err := source(); err == nil || !strings.Contains(err.Error(), "500") {
			t.Errorf("the injected 500 gave %v", err)
		}
		if err := source(); err == nil {
			t.Error("the answer was not lost")
		}
		if n, err := op.Refreshes(ctx); n != 1 || err != nil {
			t.Errorf("the provider saw %d refreshes, not only the one whose answer was lost: %v", n, err)
		}
		if err := source(); oauthError(err) != "invalid_grant" {
			t.Errorf("the stranded grant gave %v", err)
		}
		if n := fault.Requests("/token") - before; n != 3 {
			t.Errorf("%d token requests were counted", n)
		}
	}
}

package authserver_test

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// TestPeerOAuth2 runs the flows with golang.org/x/oauth2, which is not ours.
func TestPeerOAuth2(t *testing.T) {
	b := newBench(t)
	conf := b.peer(t)
	secret := oauth2.GenerateVerifier()
	target, err := url.Parse(conf.AuthCodeURL("state", oauth2.S256ChallengeOption(secret)))
	if err != nil {
		t.Fatal(err)
	}
	token, err := conf.Exchange(t.Context(), b.allow(target.Query()), oauth2.VerifierOption(secret))
	if err != nil {
		t.Fatal(err)
	}
	if !b.active(token.AccessToken) || time.Until(token.Expiry) < 55*time.Minute {
		t.Errorf("token active %v until %v", b.active(token.AccessToken), token.Expiry)
	}
	next, err := conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
	if err != nil {
		t.Fatal(err)
	}
	if next.RefreshToken == token.RefreshToken || !b.active(next.AccessToken) {
		t.Error("the refresh token did not rotate, or the new access token is not active")
	}
}

// peer is x/oauth2 set up by go-oidc's discovery, which compares the issuer.
func (b *bench) peer(t *testing.T) oauth2.Config {
	t.Helper()
	found, err := oidc.NewProvider(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := found.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	if endpoint.DeviceAuthURL == "" {
		t.Fatal("discovery gave no device authorization endpoint")
	}
	return oauth2.Config{ClientID: "mutt", Endpoint: endpoint, RedirectURL: callback, Scopes: []string{"imap", "offline_access"}}
}

func TestPeerDevice(t *testing.T) {
	b := newBench(t, shortInterval)
	conf := b.peer(t)
	device, err := conf.DeviceAuth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	complete, err := url.Parse(device.VerificationURIComplete)
	if err != nil {
		t.Fatal(err)
	}
	if a := b.decide("p1", complete.RequestURI(), "allow"); a.status != http.StatusSeeOther {
		t.Fatalf("decision: %d %s", a.status, a.body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	token, err := conf.DeviceAccessToken(ctx, device)
	if err != nil {
		t.Fatal(err)
	}
	if !b.active(token.AccessToken) || token.RefreshToken == "" {
		t.Error("the device's tokens do not work")
	}
}

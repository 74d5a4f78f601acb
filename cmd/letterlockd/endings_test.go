package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// remember has the desk's door run, so that it answers from memory; poll is how often it asks
// for the generation.
func (d *desk) remember(poll time.Duration) (stop func()) {
	d.t.Helper()
	d.door = credential.New(credential.Options{Store: d.p.db, Tokens: d.p.db, Poll: poll})
	ctx, cancel := context.WithCancel(d.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.door.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			d.t.Error(err)
		}
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Minute); ; {
		if _, _, good := d.door.Standing(); good {
			return stop
		}
		select {
		case <-tick.C:
		case <-deadline:
			stop()
			d.t.Fatal("the door does not hear of the generation")
		}
	}
}

// TestEndingsAreFeltAtOnce: introspection remembers tokens, and what a program ends itself is
// forgotten before it gets its answer. The door here asks for the generation once an hour, so
// nothing else can have told it.
func TestEndingsAreFeltAtOnce(t *testing.T) {
	d := newDesk(t, "http")
	d.configure("example.org", "[oauth]\nregistration = true\n")
	d.must("person", "add", "ann@example.org")
	secret := d.must("client", "add", "rs", "--name", "Resource server", "--introspect")
	defer d.remember(time.Hour)()
	d.serve()
	ann := d.sit("ann@example.org")
	id, registration, uri := d.register("Mutt")
	_, conf := d.peer(id, "", "imap", "offline_access")
	active := func(token string) bool {
		t.Helper()
		res, body := (&seat{t: t, public: d.public}).do(http.MethodPost, "/introspect", url.Values{"token": {token}}, "Authorization", basic("rs", secret))
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", res.Status, body)
		}
		return strings.Contains(body, `"active":true`)
	}
	revoke := func(token string) {
		t.Helper()
		res, body := ann.do(http.MethodPost, "/revoke", url.Values{"client_id": {id}, "token": {token}})
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", res.Status, body)
		}
	}
	for _, c := range []struct {
		name string
		end  func(*oauth2.Token)
	}{
		{"access token", func(token *oauth2.Token) { revoke(token.AccessToken) }},
		{"refresh token", func(token *oauth2.Token) { revoke(token.RefreshToken) }},
		{"registration", func(*oauth2.Token) {
			if res, body := ann.do(http.MethodDelete, uri, nil, "Authorization", "Bearer "+registration); res.StatusCode != http.StatusNoContent {
				t.Fatalf("%s %s", res.Status, body)
			}
		}},
	} {
		verifier := oauth2.GenerateVerifier()
		token, err := conf.Exchange(t.Context(), ann.allow(conf.AuthCodeURL("st", oauth2.S256ChallengeOption(verifier))).Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		if !active(token.AccessToken) {
			t.Fatalf("%s: not good before", c.name)
		}
		if c.end(token); active(token.AccessToken) {
			t.Errorf("%s: good after it was ended", c.name)
		}
	}
}

// TestEndingsThatWereUndone: the door takes an end for final, so it must not hear of one whose
// transaction is undone, with or without a try that went further.
func TestEndingsThatWereUndone(t *testing.T) {
	d := newDesk(t, "http")
	d.must("person", "add", "ann@example.org")
	defer d.remember(time.Hour)()
	person, _, _ := d.person("ann@example.org")
	db, now := d.p.db, time.Now()
	digest := identity.DigestOf("llat_" + strings.Repeat("a", 43))
	for _, err := range []error{
		db.AddCode(t.Context(), identity.Grant{ID: "g", Person: person.ID, Client: "c", Scopes: []string{"imap"}, Created: now},
			identity.Code{Digest: identity.DigestOf("c"), Grant: "g", Expires: now}),
		db.Issue(t.Context(), identity.AccessToken{Digest: digest, Grant: "g", Scopes: []string{"imap"}, Issued: now, Expires: now.Add(time.Hour)}, identity.RefreshToken{}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	good := func() bool {
		t.Helper()
		token, grant, _, err := d.door.Bearer(t.Context(), digest)
		if err != nil && !errors.Is(err, identity.ErrRevoked) {
			t.Fatal(err)
		}
		return err == nil && token.Revoked.IsZero() && grant.Revoked.IsZero()
	}
	e, undone := endings{db, d.door}, errors.New("no audit trail")
	epoch, _, _ := d.door.Standing()
	revoke := func(after error) error {
		return e.Together(t.Context(), func(ctx context.Context) error {
			err := errors.Join(e.RevokeGrant(ctx, "g", now, "test"), e.EndRegistration(ctx, "other", now))
			if now, _, _ := d.door.Standing(); now != epoch {
				t.Error("the door heard of it before it was certain")
			}
			return errors.Join(err, after)
		})
	}
	if err := revoke(undone); !errors.Is(err, undone) || !good() {
		t.Errorf("an end that was undone: %v, good %v", err, good())
	}
	epoch, _, _ = d.door.Standing()
	if err := revoke(nil); err != nil || good() {
		t.Errorf("an end: %v, good %v", err, good())
	}
}

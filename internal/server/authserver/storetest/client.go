package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// fullClient has something in every field.
func fullClient() identity.Client {
	return identity.Client{
		ID: "webmail", Name: "Web mail ☕, 2nd", RedirectURIs: []string{"https://mail.example.org/cb?x=1", "http://127.0.0.1/cb"},
		LogoutURIs: []string{"https://mail.example.org/bye"}, Grants: []identity.GrantType{identity.AuthorizationCode, identity.ClientCredentials},
		Scopes: []string{"imap", "smtp"}, Secret: digest("secret"), WithoutPKCE: true, Introspects: true, Consent: "gw", Created: at(1), Verified: true,
	}
}

func clientRoundTrip(t *testing.T, s Store) {
	ctx := t.Context()
	_, err := s.Client(ctx, "webmail")
	want(t, "Client", err, identity.ErrNotFound)
	machine := grant("gw")
	machine.Client = "webmail"
	must(t, s.AddClient(ctx, fullClient(), &machine))
	plain := identity.Client{ID: "mutt", Name: "Mutt", Verified: true}
	must(t, s.AddClient(ctx, plain, nil))
	signs := identity.Client{ID: "signs", Name: "Signs", Keys: `{"keys":[{"kty":"OKP","kid":"☕"}]}`, Verified: true}
	must(t, s.AddClient(ctx, signs, nil))
	for _, c := range []identity.Client{fullClient(), plain, signs} {
		found, err := s.Client(ctx, c.ID)
		must(t, err)
		if diff := cmp.Diff(c, found); diff != "" {
			t.Errorf("came back otherwise:\n%s", diff)
		}
	}
	if found, err := s.Grant(ctx, "gw"); err != nil || found.Client != "webmail" {
		t.Errorf("the machine's grant: %+v, %v", found, err)
	}
	all, err := s.Clients(ctx)
	must(t, err)
	if diff := cmp.Diff([]identity.Client{plain, signs, fullClient()}, all); diff != "" {
		t.Errorf("the list:\n%s", diff)
	}
	// Neither the client nor its consent is kept when one of them is there already.
	other := machine
	other.ID = "gx"
	want(t, "the same id", s.AddClient(ctx, fullClient(), &other), identity.ErrExists)
	_, err = s.Grant(ctx, "gx")
	want(t, "the consent of the refused client", err, identity.ErrNotFound)
	third := identity.Client{ID: "third", Name: "Third", Consent: "gw"}
	want(t, "the same consent", s.AddClient(ctx, third, &machine), identity.ErrExists)
	_, err = s.Client(ctx, "third")
	want(t, "the client of the refused consent", err, identity.ErrNotFound)
	want(t, "no name", s.AddClient(ctx, identity.Client{ID: "x"}, nil), identity.ErrInvalid)
	want(t, "no id", s.AddClient(ctx, identity.Client{Name: "x"}, nil), identity.ErrInvalid)
}

// grantOf puts a grant of a client in place.
func grantOf(t *testing.T, s Store, client, id string) {
	t.Helper()
	g := grant(id)
	g.Client = identity.ClientID(client)
	must(t, s.AddCode(t.Context(), g, identity.Code{Digest: digest("code " + id), Grant: g.ID, Client: g.Client, Expires: at(50)}))
}

func clientEnds(t *testing.T, s Store) {
	ctx := t.Context()
	want(t, "DisableClient", s.DisableClient(ctx, "a", at(1), ""), identity.ErrNotFound)
	want(t, "DeleteClient", s.DeleteClient(ctx, "a", at(1)), identity.ErrNotFound)
	for _, id := range []string{"a", "b"} {
		must(t, s.AddClient(ctx, identity.Client{ID: identity.ClientID(id), Name: id}, nil))
		grantOf(t, s, id, "g1"+id)
		grantOf(t, s, id, "g2"+id)
	}
	must(t, s.RevokeGrant(ctx, "g2a", at(1), "before"))
	if found, err := s.ClientGrants(ctx, "a"); err != nil || len(found) != 1 || found[0].ID != "g1a" {
		t.Errorf("grants in force: %+v, %v", found, err)
	}
	must(t, s.DisableClient(ctx, "a", at(2), "lost"))
	must(t, s.DisableClient(ctx, "a", at(3), "later"))
	if c, err := s.Client(ctx, "a"); err != nil || !c.Disabled.Equal(at(2)) || c.Reason != "lost" {
		t.Errorf("the disabled client: %+v, %v", c, err)
	}
	must(t, s.DeleteClient(ctx, "b", at(4)))
	_, err := s.Client(ctx, "b")
	want(t, "the deleted client", err, identity.ErrNotFound)
	for id, reason := range map[string]string{"g1a": "lost", "g2a": "before", "g1b": "the program was removed", "g2b": "the program was removed"} {
		if g, err := s.Grant(ctx, identity.GrantID(id)); err != nil || g.Revoked.IsZero() || g.Reason != reason {
			t.Errorf("%s: %+v, %v, want revoked: %s", id, g, err, reason)
		}
	}
}

func registrationEnds(t *testing.T, s Store) {
	ctx := t.Context()
	grantOf(t, s, "llc_a.b", "g1")
	grantOf(t, s, "llc_a.c", "g2")
	if ended, err := s.RegistrationEnded(ctx, "llc_a.b"); ended || err != nil {
		t.Errorf("ended before: %v, %v", ended, err)
	}
	must(t, s.EndRegistration(ctx, "llc_a.b", at(1)))
	must(t, s.EndRegistration(ctx, "llc_a.b", at(2)))
	ended, err := s.RegistrationEnded(ctx, "llc_a.b")
	other, err2 := s.RegistrationEnded(ctx, "llc_a.c")
	if !ended || other || err != nil || err2 != nil {
		t.Errorf("ended %v, the other %v: %v, %v", ended, other, err, err2)
	}
	g1, err := s.Grant(ctx, "g1")
	must(t, err)
	g2, err := s.Grant(ctx, "g2")
	must(t, err)
	if !g1.Revoked.Equal(at(1)) || !g2.Revoked.IsZero() {
		t.Errorf("revoked %v, and the other's %v", g1.Revoked, g2.Revoked)
	}
}

func firstKey(t *testing.T, s Store) {
	var made atomic.Int32
	once(t, func(ctx context.Context) (bool, error) {
		n := made.Add(1)
		err := s.AddSigningKey(ctx, identity.SigningKey{ID: fmt.Sprint("k", n), Sealed: []byte{1}, Created: at(1), Active: at(1)}, true)
		if errors.Is(err, identity.ErrExists) {
			return false, nil
		}
		return err == nil, err
	})
}

func keyOrder(t *testing.T, s Store) {
	ctx := t.Context()
	keys := []identity.SigningKey{
		{ID: "b", Sealed: []byte{0, 255}, Created: at(0), Active: at(1)},
		{ID: "a", Sealed: []byte{1}, Created: at(0), Active: at(2)},
	}
	must(t, s.AddSigningKey(ctx, keys[1], false))
	must(t, s.AddSigningKey(ctx, keys[0], false))
	want(t, "the same key", s.AddSigningKey(ctx, keys[0], false), identity.ErrExists)
	found, err := s.SigningKeys(ctx)
	must(t, err)
	if diff := cmp.Diff(keys, found); diff != "" {
		t.Errorf("the list:\n%s", diff)
	}
	must(t, s.DeleteSigningKey(ctx, "b"))
	want(t, "a key that is gone", s.DeleteSigningKey(ctx, "b"), identity.ErrNotFound)
	if found, err = s.SigningKeys(ctx); err != nil || len(found) != 1 || found[0].ID != "a" {
		t.Errorf("after the deletion: %+v, %v", found, err)
	}
}

func codeAgain(t *testing.T, s Store) {
	ctx := t.Context()
	again := identity.Code{Digest: digest("again"), Grant: "g", Client: "c", Nonce: "n", AuthTime: at(1), Expires: at(50)}
	want(t, "AddCodeAgain of nothing", s.AddCodeAgain(ctx, again), identity.ErrNotFound)
	withGrant(t, s, "g")
	must(t, s.AddCodeAgain(ctx, again))
	want(t, "the same code", s.AddCodeAgain(ctx, again), identity.ErrExists)
	taken, err := s.TakeCode(ctx, digest("again"), at(2))
	must(t, err)
	if diff := cmp.Diff(again, taken); diff != "" {
		t.Errorf("the code came back otherwise:\n%s", diff)
	}
	if all, err := s.GrantsOf(ctx, "p"); err != nil || len(all) != 1 || all[0].ID != "g" {
		t.Errorf("grants: %+v, %v", all, err)
	}
	must(t, s.RevokeGrant(ctx, "g", at(3), "test"))
	again.Digest = digest("late")
	want(t, "AddCodeAgain once revoked", s.AddCodeAgain(ctx, again), identity.ErrRevoked)
}

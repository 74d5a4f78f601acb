// Package storetest holds stores of the authorization server to the contract that
// authserver/store.go writes down. The memory store and each database run it.
package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Store is all that the authorization server needs kept.
type Store interface {
	authserver.CodeStore
	authserver.TokenStore
	authserver.GrantStore
	authserver.DeviceStore
	authserver.ClientStore
	authserver.KeyStore
	// What administrators do.
	AddClient(ctx context.Context, c identity.Client, consent *identity.Grant) error
	Clients(ctx context.Context) ([]identity.Client, error)
	DisableClient(ctx context.Context, id identity.ClientID, at time.Time, reason string) error
	DeleteClient(ctx context.Context, id identity.ClientID, at time.Time) error
	DeleteSigningKey(ctx context.Context, id string) error
}

// Run checks a store; fresh returns an empty one.
func Run(t *testing.T, fresh func(t *testing.T) Store) {
	for name, check := range map[string]func(*testing.T, Store){
		"absent is ErrNotFound":              absent,
		"a code is taken once":               codeOnce,
		"a grant id cannot be taken over":    grantTaken,
		"a refresh token rotates once":       rotateOnce,
		"a revoked grant issues nothing":     revokedIssues,
		"the first reason stays":             firstReason,
		"an access token ends alone":         accessAlone,
		"a living user code is not shared":   userCodes,
		"a device is decided once":           deviceOnce,
		"a device is redeemed once":          redeemOnce,
		"another client's poll is not found": foreignPoll,
		"a grant has further codes":          codeAgain,
		"a client comes back as it was":      clientRoundTrip,
		"a client's end ends its grants":     clientEnds,
		"a registration ends for good":       registrationEnds,
		"one first signing key":              firstKey,
		"signing keys are in their order":    keyOrder,
	} {
		t.Run(name, func(t *testing.T) { check(t, fresh(t)) })
	}
}

// at is whole seconds in UTC, which every database gives back as it was.
func at(seconds int) time.Time { return time.Date(2026, 1, 2, 3, 4, seconds, 0, time.UTC) }

func digest(text string) identity.Digest { return identity.DigestOf(text) }

func grant(id string) identity.Grant {
	return identity.Grant{ID: identity.GrantID(id), Person: "p", Client: "c", Scopes: []string{"imap", "smtp"}, Created: at(0)}
}

func access(name, grant string) identity.AccessToken {
	return identity.AccessToken{Digest: digest(name), Grant: identity.GrantID(grant), Scopes: []string{"imap"}, Issued: at(0), Expires: at(50)}
}

func refresh(name, grant string) identity.RefreshToken {
	return identity.RefreshToken{Digest: digest(name), Grant: identity.GrantID(grant), Issued: at(0), Expires: at(50)}
}

// withGrant puts a grant in place by the only way there is.
func withGrant(t *testing.T, s Store, id string) {
	t.Helper()
	must(t, s.AddCode(t.Context(), grant(id), identity.Code{Digest: digest("code " + id), Grant: identity.GrantID(id), Client: "c", Expires: at(50)}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got %v, want %v", what, err, target)
	}
}

func absent(t *testing.T, s Store) {
	ctx := t.Context()
	_, err := s.TakeCode(ctx, digest("x"), at(1))
	want(t, "TakeCode", err, identity.ErrNotFound)
	_, _, err = s.AccessToken(ctx, digest("x"))
	want(t, "AccessToken", err, identity.ErrNotFound)
	_, _, err = s.RefreshToken(ctx, digest("x"))
	want(t, "RefreshToken", err, identity.ErrNotFound)
	_, err = s.Rotate(ctx, digest("x"), at(1), nil, refresh("r", "g"), access("a", "g"))
	want(t, "Rotate", err, identity.ErrNotFound)
	want(t, "Issue", s.Issue(ctx, access("a", "g"), refresh("r", "g")), identity.ErrNotFound)
	_, err = s.Grant(ctx, "x")
	want(t, "Grant", err, identity.ErrNotFound)
	want(t, "RevokeGrant", s.RevokeGrant(ctx, "x", at(1), ""), identity.ErrNotFound)
	want(t, "RevokeAccess", s.RevokeAccess(ctx, digest("x"), at(1)), identity.ErrNotFound)
	_, err = s.FindDevice(ctx, digest("x"), at(1))
	want(t, "FindDevice", err, identity.ErrNotFound)
	want(t, "DecideDevice", s.DecideDevice(ctx, digest("x"), at(1), nil), identity.ErrNotFound)
	_, _, err = s.PollDevice(ctx, digest("x"), "c", at(1))
	want(t, "PollDevice", err, identity.ErrNotFound)
}

// once runs call many times at once and counts who was first.
func once(t *testing.T, call func(context.Context) (first bool, err error)) {
	t.Helper()
	var firsts atomic.Int32
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			first, err := call(t.Context())
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts.Add(1)
			}
		})
	}
	group.Wait()
	if firsts.Load() != 1 {
		t.Errorf("%d calls came first, want 1", firsts.Load())
	}
}

func codeOnce(t *testing.T, s Store) {
	withGrant(t, s, "g")
	once(t, func(ctx context.Context) (bool, error) {
		code, err := s.TakeCode(ctx, digest("code g"), at(1))
		return code.Used.IsZero(), err
	})
}

func grantTaken(t *testing.T, s Store) {
	withGrant(t, s, "g")
	err := s.AddCode(t.Context(), grant("g"), identity.Code{Digest: digest("other"), Grant: "g"})
	want(t, "AddCode", err, identity.ErrExists)
	_, err = s.TakeCode(t.Context(), digest("other"), at(1))
	want(t, "code of the refused pair", err, identity.ErrNotFound)
}

func rotateOnce(t *testing.T, s Store) {
	withGrant(t, s, "g")
	must(t, s.Issue(t.Context(), access("a", "g"), refresh("r", "g")))
	once(t, func(ctx context.Context) (bool, error) {
		before, err := s.Rotate(ctx, digest("r"), at(1), []byte("sealed"), refresh("r2", "g"), access("a2", "g"))
		return before.Spent.IsZero(), err
	})
	before, err := s.Rotate(t.Context(), digest("r"), at(2), []byte("late"), refresh("r3", "g"), access("a3", "g"))
	must(t, err)
	if !before.Spent.Equal(at(1)) || string(before.Successor) != "sealed" {
		t.Errorf("second Rotate returned %v %q, want what the first one wrote", before.Spent, before.Successor)
	}
	_, _, err = s.RefreshToken(t.Context(), digest("r3"))
	want(t, "successor of the second Rotate", err, identity.ErrNotFound)
	_, _, err = s.AccessToken(t.Context(), digest("a3"))
	want(t, "access token of the second Rotate", err, identity.ErrNotFound)
}

func revokedIssues(t *testing.T, s Store) {
	ctx := t.Context()
	withGrant(t, s, "g")
	must(t, s.Issue(ctx, access("a", "g"), refresh("r", "g")))
	must(t, s.RevokeGrant(ctx, "g", at(1), "test"))
	want(t, "Issue", s.Issue(ctx, access("a2", "g"), refresh("r2", "g")), identity.ErrRevoked)
	_, err := s.Rotate(ctx, digest("r"), at(2), nil, refresh("r2", "g"), access("a2", "g"))
	want(t, "Rotate", err, identity.ErrRevoked)
	_, _, err = s.AccessToken(ctx, digest("a2"))
	want(t, "access token after revocation", err, identity.ErrNotFound)
	_, found, err := s.AccessToken(ctx, digest("a"))
	must(t, err)
	if found.Revoked.IsZero() || found.Reason != "test" || !slices.Equal(found.Scopes, []string{"imap", "smtp"}) {
		t.Errorf("grant beside the token is %+v, want it revoked with its scopes", found)
	}
}

func firstReason(t *testing.T, s Store) {
	withGrant(t, s, "g")
	must(t, s.RevokeGrant(t.Context(), "g", at(1), "first"))
	must(t, s.RevokeGrant(t.Context(), "g", at(2), "second"))
	found, err := s.Grant(t.Context(), "g")
	must(t, err)
	if found.Reason != "first" || !found.Revoked.Equal(at(1)) {
		t.Errorf("got %q at %v, want the first", found.Reason, found.Revoked)
	}
}

func accessAlone(t *testing.T, s Store) {
	ctx := t.Context()
	withGrant(t, s, "g")
	must(t, s.Issue(ctx, access("a", "g"), refresh("r", "g")))
	must(t, s.Issue(ctx, access("b", "g"), identity.RefreshToken{}))
	must(t, s.RevokeAccess(ctx, digest("a"), at(1)))
	for name, revoked := range map[string]bool{"a": true, "b": false} {
		token, found, err := s.AccessToken(ctx, digest(name))
		must(t, err)
		if token.Revoked.IsZero() == revoked || !found.Revoked.IsZero() {
			t.Errorf("token %s: revoked %v, grant %v", name, token.Revoked, found.Revoked)
		}
	}
	_, _, err := s.RefreshToken(ctx, identity.Digest{})
	want(t, "the zero refresh token", err, identity.ErrNotFound)
}

func device(name, userCode string, created time.Time) identity.DeviceRequest {
	return identity.DeviceRequest{
		Digest: digest(name), UserCode: digest(userCode), Client: "c", Scopes: []string{"imap"}, From: "192.0.2.1",
		Created: created, Expires: created.Add(20 * time.Second), Interval: 5 * time.Second, State: identity.DevicePending,
	}
}

func userCodes(t *testing.T, s Store) {
	ctx := t.Context()
	must(t, s.AddDevice(ctx, device("d1", "u", at(0))))
	want(t, "AddDevice", s.AddDevice(ctx, device("d2", "u", at(10))), identity.ErrExists)
	must(t, s.AddDevice(ctx, device("d3", "u", at(20))))
	found, err := s.FindDevice(ctx, digest("u"), at(21))
	must(t, err)
	if found.Digest != digest("d3") {
		t.Error("the ended request was found in place of the living one")
	}
	_, err = s.FindDevice(ctx, digest("u"), at(40))
	want(t, "FindDevice after the end", err, identity.ErrNotFound)
}

func deviceOnce(t *testing.T, s Store) {
	ctx := t.Context()
	must(t, s.AddDevice(ctx, device("d", "u", at(0))))
	must(t, s.DecideDevice(ctx, digest("d"), at(1), nil))
	yes := grant("g")
	want(t, "second decision", s.DecideDevice(ctx, digest("d"), at(2), &yes), identity.ErrDecided)
	_, err := s.Grant(ctx, "g")
	want(t, "grant of the refused decision", err, identity.ErrNotFound)
}

func redeemOnce(t *testing.T, s Store) {
	ctx := t.Context()
	must(t, s.AddDevice(ctx, device("d", "u", at(0))))
	yes := grant("g")
	must(t, s.DecideDevice(ctx, digest("d"), at(1), &yes))
	_, err := s.Grant(ctx, "g")
	must(t, err)
	waiting, err := s.FindDevice(ctx, digest("u"), at(2))
	must(t, err)
	if !waiting.AuthTime.Equal(at(1)) || waiting.Grant != "g" {
		t.Errorf("approved request has grant %q, signed in at %v", waiting.Grant, waiting.AuthTime)
	}
	once(t, func(ctx context.Context) (bool, error) {
		before, tooSoon, err := s.PollDevice(ctx, digest("d"), "c", at(2))
		return before.State == identity.DeviceApproved && !tooSoon, err
	})
}

func foreignPoll(t *testing.T, s Store) {
	ctx := t.Context()
	must(t, s.AddDevice(ctx, device("d", "u", at(0))))
	_, _, err := s.PollDevice(ctx, digest("d"), "other", at(1))
	want(t, "PollDevice", err, identity.ErrNotFound)
	_, tooSoon, err := s.PollDevice(ctx, digest("d"), "c", at(2))
	must(t, err)
	if tooSoon {
		t.Error("another client's poll moved the clock")
	}
	before, tooSoon, err := s.PollDevice(ctx, digest("d"), "c", at(4))
	must(t, err)
	if !tooSoon || before.Interval != 5*time.Second {
		t.Errorf("early poll: too soon %v, interval before %v", tooSoon, before.Interval)
	}
	before, _, err = s.PollDevice(ctx, digest("d"), "c", at(30))
	must(t, err)
	if before.Interval != 10*time.Second {
		t.Errorf("interval after an early poll %v, want 10s", before.Interval)
	}
}

package account

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// rotating answers each call with tokens numbered by it, good for an hour.
func rotating(now func() time.Time) *fakeExchange {
	return &fakeExchange{answer: func(_ context.Context, call exchangeCall) (oauth.Token, error) {
		return oauth.Token{
			Access:  secret.New(fmt.Sprintf("access-%d", call.number)),
			Refresh: secret.New(fmt.Sprintf("refresh-%d", call.number)),
			Expiry:  now().Add(time.Hour),
		}, nil
	}}
}

// setUp saves an expired grant with the refresh token "refresh-0".
func setUp(t *testing.T, exchange Exchanger) (*Manager, plainStore) {
	t.Helper()
	store := plainStore{t.TempDir()}
	m := newManager(store, exchange, time.Now)
	mustSave(t, m, testGrant("http://127.0.0.1:1/token", "refresh-0", time.Now()))
	return m, store
}

func TestTokenRefreshesOnceAndKeepsTheRest(t *testing.T) {
	exchange := rotating(time.Now)
	m, store := setUp(t, exchange)
	first, err := m.Token(t.Context(), testName, Want{Purpose: provider.SMTP})
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Token(t.Context(), testName, Want{})
	if err != nil || !again.Token.Equal(first.Token) || first.Token.Reveal() != "access-1" || exchange.count() != 1 {
		t.Errorf("second call = %q, %v after %d requests", again.Token.Reveal(), err, exchange.count())
	}
	other, err := m.Token(t.Context(), testName, Want{Purpose: provider.Graph})
	if err != nil || other.Token.Reveal() != "access-2" {
		t.Fatalf("graph token = %q, %v", other.Token.Reveal(), err)
	}
	call := exchange.calls[1]
	if call.refresh != "refresh-1" || call.resource.Indicator != "https://graph.try.test" || call.resource.Scopes[0] != "graph" {
		t.Errorf("second request = %+v", call)
	}
	grant, err := m.Grant(t.Context(), testName)
	if err != nil {
		t.Fatal(err)
	}
	if grant.Refresh.Reveal() != "refresh-2" || grant.Access["mail"].Token.Reveal() != "access-1" || grant.Access["graph"].Token.Reveal() != "access-2" {
		t.Errorf("grant holds %q, %q, %q", grant.Refresh.Reveal(), grant.Access["mail"].Token.Reveal(), grant.Access["graph"].Token.Reveal())
	}
	if mark, err := store.ReadMark(testName); mark != nil || err != nil {
		t.Errorf("mark left behind: %v, %v", mark, err)
	}
}

func TestAnswerWithoutRefreshTokenKeepsTheOld(t *testing.T) {
	expiry := time.Now().Add(90 * 24 * time.Hour).Truncate(time.Millisecond)
	exchange := &fakeExchange{answer: func(_ context.Context, call exchangeCall) (oauth.Token, error) {
		token := oauth.Token{Access: secret.New(fmt.Sprint("a", call.number)), Scopes: []string{"mail"}}
		if call.number == 1 {
			token.RefreshExpiry = expiry
		}
		if call.number == 3 {
			token.Refresh = secret.New("refresh-3")
		}
		return token, nil
	}}
	m, _ := setUp(t, exchange)
	steps := []struct {
		refresh string
		expiry  time.Time
	}{{"refresh-0", expiry}, {"refresh-0", expiry}, {"refresh-3", time.Time{}}}
	for i, want := range steps {
		// Expiry unknown: every call asks anew.
		access, err := m.Token(t.Context(), testName, Want{})
		if err != nil || access.Token.Reveal() != fmt.Sprint("a", i+1) {
			t.Fatalf("call %d = %q, %v", i+1, access.Token.Reveal(), err)
		}
		grant, err := m.Grant(t.Context(), testName)
		if err != nil || grant.Refresh.Reveal() != want.refresh || !grant.RefreshExpiry.Equal(want.expiry) {
			t.Errorf("call %d: refresh %q until %v, %v", i+1, grant.Refresh.Reveal(), grant.RefreshExpiry, err)
		}
		// Narrower scopes are recorded with the token, and asked for in full again.
		if got := grant.Access["mail"].Scopes; len(got) != 1 || len(exchange.calls[i].resource.Scopes) != 2 {
			t.Errorf("call %d: scopes %v recorded, %v asked for", i+1, got, exchange.calls[i].resource.Scopes)
		}
	}
}

func TestRefusedTokenIsNeverHandedOutAgain(t *testing.T) {
	exchange := rotating(time.Now)
	m, _ := setUp(t, exchange)
	first, err := m.Token(t.Context(), testName, Want{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := m.Token(t.Context(), testName, Want{Refused: first.Token})
	if err != nil || second.Token.Equal(first.Token) {
		t.Errorf("after a refusal: %q, %v", second.Token.Reveal(), err)
	}
	// Somebody else has replaced it already: no request.
	if third, err := m.Token(t.Context(), testName, Want{Refused: first.Token}); err != nil || !third.Token.Equal(second.Token) || exchange.count() != 2 {
		t.Errorf("refusal told late: %q, %v, %d requests", third.Token.Reveal(), err, exchange.count())
	}
	exchange.answer = func(context.Context, exchangeCall) (oauth.Token, error) {
		return oauth.Token{Access: second.Token, Expiry: time.Now().Add(time.Hour)}, nil
	}
	access, err := m.Token(t.Context(), testName, Want{Refused: second.Token})
	var temporary *Temporary
	if !errors.As(err, &temporary) || !access.Token.IsZero() {
		t.Errorf("provider repeats the refused token: %q, %v", access.Token.Reveal(), err)
	}
}

// The clock tells 1970 at boot, gets repaired, and is put back once more: tokens are
// renewed, never trusted too long and never renewed without end.
func TestClockJumps(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	exchange := rotating(clock)
	m := newManager(plainStore{t.TempDir()}, exchange, clock)
	mustSave(t, m, testGrant("http://127.0.0.1:1/token", "refresh-0", now))
	steps := []struct {
		name     string
		now      time.Time
		requests int
	}{
		{"expired at first", now, 1},
		{"clock falls to 1970", time.Unix(30, 0), 2},
		{"and stays there", time.Unix(60, 0), 2},
		{"clock is repaired", now.Add(time.Minute), 3},
		{"set back two hours", now.Add(-2 * time.Hour), 4},
		{"goes on from there", now.Add(-2*time.Hour + 54*time.Minute), 4},
		{"near its end", now.Add(-2*time.Hour + 56*time.Minute), 5},
		{"small correction backwards", now.Add(-2*time.Hour + 56*time.Minute - 30*time.Second), 5},
		{"suspended for a day", now.Add(24 * time.Hour), 6},
	}
	for _, step := range steps {
		now = step.now
		access, err := m.Token(t.Context(), testName, Want{})
		if err != nil || exchange.count() != step.requests {
			t.Errorf("%s: %v after %d requests, want %d", step.name, err, exchange.count(), step.requests)
		}
		if left := access.Expiry.Sub(now); left < defaultValidity || left > time.Hour+clockSkew {
			t.Errorf("%s: token with %v left", step.name, left)
		}
	}
}

func TestShortLivedTokensAreNotRefreshedAtEveryCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exchange := &fakeExchange{answer: func(_ context.Context, call exchangeCall) (oauth.Token, error) {
			return oauth.Token{Access: secret.New(fmt.Sprint("a", call.number)), Expiry: time.Now().Add(time.Minute)}, nil
		}}
		m, _ := setUp(t, exchange)
		counts := []int{1, 1, 1, 1, 2, 2} // at 0, 5, 10, 15, 20, 25 seconds
		for i, want := range counts {
			if _, err := m.Token(t.Context(), testName, Want{}); err != nil || exchange.count() != want {
				t.Errorf("after %d s: %v, %d requests, want %d", 5*i, err, exchange.count(), want)
			}
			<-time.After(5 * time.Second)
		}
	})
}

// A caller that gives up does not take the answer with it: it may hold the only copy
// of a rotated refresh token.
func TestExchangeIsSeenThrough(t *testing.T) {
	for _, slow := range []time.Duration{3 * time.Second, time.Minute} {
		t.Run(slow.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				exchange := &fakeExchange{answer: func(ctx context.Context, _ exchangeCall) (oauth.Token, error) {
					cancel() // Ctrl-C while the request is under way
					select {
					case <-ctx.Done():
						return oauth.Token{}, ctx.Err()
					case <-time.After(slow):
						return oauth.Token{Access: secret.New("a"), Refresh: secret.New("r"), Expiry: time.Now().Add(time.Hour)}, nil
					}
				}}
				m, store := setUp(t, exchange)
				before := grantBytes(t, store)
				began := time.Now()
				_, err := m.Token(ctx, testName, Want{})
				grant, readErr := m.Grant(t.Context(), testName)
				if readErr != nil {
					t.Fatal(readErr)
				}
				if slow < 10*time.Second {
					if err != nil || grant.Refresh.Reveal() != "r" {
						t.Errorf("answer within the grace: %v, refresh token %q kept", err, grant.Refresh.Reveal())
					}
					return
				}
				var temporary *Temporary
				if !errors.As(err, &temporary) || grantBytes(t, store) != before || time.Since(began) != 10*time.Second {
					t.Errorf("no answer: %v after %v", err, time.Since(began))
				}
				if mark, err := m.Interrupted(t.Context(), testName); mark == nil || err != nil {
					t.Errorf("no mark of the refresh without an answer: %v", err)
				}
			})
		})
	}
}

func TestCancelledCallerSendsNothing(t *testing.T) {
	exchange := rotating(time.Now)
	m, store := setUp(t, exchange)
	before := grantBytes(t, store)
	ctx, cancel := context.WithCancel(t.Context())
	m.step = func(step string) {
		if step == "reserved" {
			cancel()
		}
	}
	_, err := m.Token(ctx, testName, Want{})
	var temporary *Temporary
	if !errors.As(err, &temporary) || !errors.Is(err, context.Canceled) || exchange.count() != 0 || grantBytes(t, store) != before {
		t.Errorf("Token = %v, %d requests", err, exchange.count())
	}
}

func TestInvalidGrantAdoptsANewerGrant(t *testing.T) {
	m, store := setUp(t, nil)
	rival := newManager(store, rotating(time.Now), time.Now)
	exchange := &fakeExchange{}
	exchange.answer = func(ctx context.Context, call exchangeCall) (oauth.Token, error) {
		if call.number == 1 {
			// A writer that does not keep our lock was faster.
			grant, err := rival.Grant(ctx, testName)
			if err != nil {
				return oauth.Token{}, err
			}
			grant.Refresh = secret.New("rival")
			plain, err := encode(grant)
			if err != nil {
				return oauth.Token{}, err
			}
			room, err := store.Reserve(testName, nil)
			if err != nil {
				return oauth.Token{}, err
			}
			return oauth.Token{}, errors.Join(room.Commit(plain), &oauth.Error{Endpoint: "token", Status: 400, Code: "invalid_grant"})
		}
		return oauth.Token{Access: secret.New("a"), Expiry: time.Now().Add(time.Hour)}, nil
	}
	m.Exchange = exchange
	access, err := m.Token(t.Context(), testName, Want{})
	if err != nil || access.Token.Reveal() != "a" || exchange.count() != 2 || exchange.calls[1].refresh != "rival" {
		t.Errorf("Token = %q, %v; calls %+v", access.Token.Reveal(), err, exchange.calls)
	}
}

func TestSignInNeeded(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	exchange := &fakeExchange{answer: func(context.Context, exchangeCall) (oauth.Token, error) {
		return oauth.Token{}, &oauth.Error{Endpoint: "token", Status: 400, Code: "invalid_grant"}
	}}
	store := plainStore{t.TempDir()}
	m := newManager(store, exchange, func() time.Time { return now })
	mustSave(t, m, testGrant("http://127.0.0.1:1/token", "refresh-0", now))
	before := grantBytes(t, store)
	_, err := m.Token(t.Context(), testName, Want{})
	var needed *SignInNeeded
	if !errors.As(err, &needed) {
		t.Fatalf("Token = %v", err)
	}
	if needed.Age != 7*24*time.Hour || needed.Idle != needed.Age || needed.Interrupted != nil || needed.Cause.Code != "invalid_grant" ||
		needed.Login != testName || needed.Provider != "try" {
		t.Errorf("%+v", needed)
	}
	if grantBytes(t, store) != before {
		t.Error("the grant was changed")
	}
	// A mark of this very grant names the cause; one of an earlier grant does not.
	grant, err := m.Grant(t.Context(), testName)
	if err != nil {
		t.Fatal(err)
	}
	for _, serial := range []int64{grant.Serial, grant.Serial - 1} {
		mark := tokenstore.Mark{Began: now.Add(-time.Hour), PID: 4711, Resource: "mail", Serial: serial}
		if err := store.SetMark(testName, mark); err != nil {
			t.Fatal(err)
		}
		_, err = m.Token(t.Context(), testName, Want{})
		if !errors.As(err, &needed) || (needed.Interrupted != nil) != (serial == grant.Serial) {
			t.Errorf("with mark of serial %d: %+v", serial, needed)
		}
		if named := strings.Contains(err.Error(), "4711"); named != (serial == grant.Serial) {
			t.Errorf("error text: %v", err)
		}
	}
}

func TestNoRefreshTokenNeedsSignIn(t *testing.T) {
	exchange := rotating(time.Now)
	m, _ := setUp(t, exchange)
	mustSave(t, m, testGrant("", "", time.Now()))
	_, err := m.Token(t.Context(), testName, Want{})
	var needed *SignInNeeded
	if !errors.As(err, &needed) || needed.Cause != nil || errors.Unwrap(needed) != nil || exchange.count() != 0 {
		t.Errorf("Token = %v", err)
	}
}

// Signing in again while a mark is there must not blame the new grant.
func TestSaveReplacesEverything(t *testing.T) {
	m, store := setUp(t, rotating(time.Now))
	old, err := m.Grant(t.Context(), testName)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.SetMark(testName, tokenstore.Mark{Serial: old.Serial + 5}); err != nil {
		t.Fatal(err)
	}
	grant := testGrant("", "brand-new", time.Now())
	grant.Access = nil
	mustSave(t, m, grant)
	data := grantBytes(t, store)
	if strings.Contains(data, "refresh-0") || strings.Contains(data, "expired") || grant.Serial <= old.Serial+5 {
		t.Errorf("saved with serial %d after %d: %s", grant.Serial, old.Serial, data)
	}
	if mark, err := store.ReadMark(testName); mark != nil || err != nil {
		t.Errorf("mark = %v, %v", mark, err)
	}
	if err := store.SetMark(testName, tokenstore.Mark{}); err != nil {
		t.Fatal(err)
	}
	if err := m.Delete(t.Context(), testName); err != nil {
		t.Fatal(err)
	}
	names, err := m.List()
	if left, _ := filepath.Glob(filepath.Join(store.folder, "*.[gm]*")); err != nil || len(names) != 0 || len(left) != 0 {
		t.Errorf("after Delete: %v, %v, %v", names, left, err)
	}
	if _, err := m.Token(t.Context(), testName, Want{}); !errors.Is(err, tokenstore.ErrNotFound) {
		t.Errorf("Token = %v", err)
	}
}

func TestBadInput(t *testing.T) {
	m, _ := setUp(t, rotating(time.Now))
	for _, name := range []string{"", "-i", ".hidden", "a/b", `a\b`, "a b", "a\nb", "a\x1b[2J", "\u202eyou@x", "you\xff", strings.Repeat("a", 256)} {
		if _, err := m.Token(t.Context(), name, Want{}); !errors.Is(err, ErrName) {
			t.Errorf("Token(%q) = %v", name, err)
		}
		if err := m.Delete(t.Context(), name); !errors.Is(err, ErrName) {
			t.Errorf("Delete(%q) = %v", name, err)
		}
		grant := testGrant("", "r", time.Now())
		grant.Account = name
		if err := m.Save(t.Context(), grant); !errors.Is(err, ErrName) {
			t.Errorf("Save(%q) = %v", name, err)
		}
	}
	for _, name := range []string{"you@try.test", "jürgen@müller.example", "work", "a+b=c@x", "日本@例え.テスト"} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.Token(t.Context(), testName, Want{Purpose: provider.POP3}); !errors.Is(err, ErrPurpose) {
		t.Errorf("purpose not granted: %v", err)
	}
	if _, err := m.Token(t.Context(), "nobody@try.test", Want{}); !errors.Is(err, tokenstore.ErrNotFound) {
		t.Errorf("unknown account: %v", err)
	}
	m.Keys = func(string) (tokenstore.Keys, error) { return nil, tokenstore.ErrNoKey }
	if _, err := m.Token(t.Context(), testName, Want{}); !errors.Is(err, tokenstore.ErrNoKey) {
		t.Errorf("no key: %v", err)
	}
}

package account

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// errorClass names what cmd tells apart.
func errorClass(err error) string {
	var temporary *Temporary
	var needed *SignInNeeded
	var rejected *Rejected
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &temporary):
		return "temporary"
	case errors.As(err, &needed):
		return "sign in"
	case errors.As(err, &rejected):
		return "rejected"
	}
	return err.Error()
}

// Whatever the provider's side answers, the grant file keeps its bytes, and the mark
// stays exactly when the refresh token may have been used up.
func TestFaultsOfTheProvider(t *testing.T) {
	transport := func(err error) error { return &oauth.Error{Endpoint: "token", Err: err} }
	answer := func(status int, code string) error {
		return &oauth.Error{Endpoint: "token", Status: status, Code: code}
	}
	tests := []struct {
		name  string
		err   error
		class string
		mark  bool
	}{
		{"no name service", transport(&net.DNSError{Err: "no such host", Name: "x"}), "temporary", false},
		{"nobody listens", transport(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), "temporary", false},
		{"connection reset", transport(&net.OpError{Op: "read", Err: syscall.ECONNRESET}), "temporary", true},
		{"time-out", transport(context.DeadlineExceeded), "temporary", true},
		{"bare time-out", context.DeadlineExceeded, "temporary", true},
		{"500", answer(500, ""), "temporary", true},
		{"503 with a code", answer(503, "temporarily_unavailable"), "temporary", false},
		{"429", answer(429, ""), "temporary", false},
		{"captive portal", answer(302, ""), "temporary", false},
		{"slow down", answer(400, "slow_down"), "temporary", false},
		{"invalid_grant", answer(400, "invalid_grant"), "sign in", false},
		{"interaction_required", answer(400, "interaction_required"), "sign in", false},
		{"invalid_client", answer(401, "invalid_client"), "rejected", false},
		{"invalid_scope", answer(400, "invalid_scope"), "rejected", false},
		{"no endpoint", errors.New("no such endpoint"), "rejected", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, store := setUp(t, &fakeExchange{answer: func(context.Context, exchangeCall) (oauth.Token, error) {
				return oauth.Token{}, test.err
			}})
			checkFault(t, m, store, test.class, test.mark)
		})
	}
}

func checkFault(t *testing.T, m *Manager, store plainStore, class string, mark bool) {
	t.Helper()
	before := grantBytes(t, store)
	access, err := m.Token(t.Context(), testName, Want{})
	if got := errorClass(err); got != class || !access.Token.IsZero() {
		t.Errorf("error is %s: %v", got, err)
	}
	if grantBytes(t, store) != before {
		t.Error("the grant file was changed")
	}
	if left, err := store.ReadMark(testName); err != nil || (left != nil) != mark {
		t.Errorf("mark = %v, %v", left, err)
	}
	// Once the fault has gone, the grant works as if nothing had been.
	m.Store, m.Exchange = store, rotating(time.Now)
	if _, err := m.Token(t.Context(), testName, Want{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if left, err := store.ReadMark(testName); left != nil || err != nil {
		t.Errorf("mark afterwards = %v, %v", left, err)
	}
}

// An unresolved mark survives runs that learn nothing, with its first date.
func TestMarkSurvivesUntilTheOutcomeIsKnown(t *testing.T) {
	m, store := setUp(t, nil)
	grant, err := m.Grant(t.Context(), testName)
	if err != nil {
		t.Fatal(err)
	}
	first := tokenstore.Mark{Began: time.Unix(1000, 0).UTC(), PID: 1, Resource: "mail", Serial: grant.Serial}
	if err := store.SetMark(testName, first); err != nil {
		t.Fatal(err)
	}
	for _, fault := range []error{
		&oauth.Error{Status: 500},
		&oauth.Error{Err: &net.DNSError{Err: "no such host"}},
		&oauth.Error{Status: 401, Code: "invalid_client"},
		&oauth.Error{Status: 400, Code: "invalid_grant"},
	} {
		m.Exchange = &fakeExchange{answer: func(context.Context, exchangeCall) (oauth.Token, error) { return oauth.Token{}, fault }}
		if _, err := m.Token(t.Context(), testName, Want{}); err == nil {
			t.Fatal("no error")
		}
		if mark, err := store.ReadMark(testName); err != nil || mark == nil || *mark != first {
			t.Errorf("after %v: mark %v, %v", fault, mark, err)
		}
	}
}

func TestFaultsOfTheStore(t *testing.T) {
	tests := []struct {
		operation string
		err       error
		class     string
		requests  int
	}{
		{"lock", syscall.EROFS, "temporary", 0},
		{"lock", context.DeadlineExceeded, "temporary", 0},
		{"reserve", syscall.ENOSPC, "temporary", 0},
		{"reserve", syscall.EROFS, "temporary", 0},
		{"mark", syscall.ENOSPC, "temporary", 0},
		{"mark", syscall.EIO, "temporary", 0},
		{"readmark", tokenstore.ErrDamaged, "none", 1},
		{"clear", syscall.EIO, "none", 1},
	}
	for _, test := range tests {
		t.Run(test.operation+" "+test.err.Error(), func(t *testing.T) {
			exchange := rotating(time.Now)
			m, store := setUp(t, exchange)
			m.Store = &faultyStore{Store: store, fail: map[string]error{test.operation: test.err}}
			before := grantBytes(t, store)
			_, err := m.Token(t.Context(), testName, Want{})
			if got := errorClass(err); got != test.class || exchange.count() != test.requests {
				t.Errorf("error is %s: %v, %d requests", got, err, exchange.count())
			}
			if test.requests == 0 && grantBytes(t, store) != before {
				t.Error("the grant file was changed")
			}
			m.Store = store
			if mark, err := m.Interrupted(t.Context(), testName); mark != nil || err != nil {
				t.Errorf("a mark speaks of a refresh that did not fail: %v, %v", mark, err)
			}
			if leftovers := temporaries(t, store); len(leftovers) != 0 {
				t.Errorf("left behind: %v", leftovers)
			}
		})
	}
}

// The worst moment: the provider has rotated and the disk fails. It is tried again,
// and if nothing helps the token is not handed out and the mark tells.
func TestCommitFails(t *testing.T) {
	for times, class := range map[int]string{1: "none", 2: "none", 3: "temporary"} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, store := setUp(t, rotating(time.Now))
				m.Store = &faultyStore{Store: store, fail: map[string]error{"commit": syscall.EIO}, times: times}
				before := grantBytes(t, store)
				access, err := m.Token(t.Context(), testName, Want{})
				if errorClass(err) != class || access.Token.IsZero() != (class == "temporary") {
					t.Errorf("Token = %q, %v", access.Token.Reveal(), err)
				}
				m.Store = store
				mark, markErr := m.Interrupted(t.Context(), testName)
				if (grantBytes(t, store) == before) != (err != nil) || (mark != nil) != (err != nil) || markErr != nil {
					t.Errorf("mark %v, %v after %v", mark, markErr, err)
				}
			})
		})
	}
}

func TestUnfitAnswersAreNotStored(t *testing.T) {
	long := secret.New(strings.Repeat("x", tokenLimit+1))
	for name, token := range map[string]oauth.Token{
		"no access token":    {Refresh: secret.New("r")},
		"long access token":  {Access: long},
		"long refresh token": {Access: secret.New("a"), Refresh: long},
	} {
		m, store := setUp(t, &fakeExchange{answer: func(context.Context, exchangeCall) (oauth.Token, error) { return token, nil }})
		before := grantBytes(t, store)
		access, err := m.Token(t.Context(), testName, Want{})
		if err == nil || !access.Token.IsZero() || grantBytes(t, store) != before || !errors.Is(err, errUnfit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The same over a real connection, with package oauth doing the talking.
func TestFaultsOverHTTP(t *testing.T) {
	stop := make(chan struct{})
	handlers := map[string]http.HandlerFunc{
		"500":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"garbage":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\x00<html>{") },
		"empty answer": func(http.ResponseWriter, *http.Request) {},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"nothing":  func(_ http.ResponseWriter, r *http.Request) { <-stop },
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a gigabyte": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"access_token":"`)
			chunk := []byte(strings.Repeat("x", 1<<16))
			out := bufio.NewWriter(w)
			for range 1 << 14 { // ends as soon as the client hangs up
				if _, err := out.Write(chunk); err != nil {
					return
				}
			}
		},
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			if name == "nothing" {
				defer close(stop)
			}
			store := plainStore{t.TempDir()}
			client := oauth.NewHTTPClient(oauth.HTTPOptions{Timeout: 300 * time.Millisecond})
			m := newManager(store, OverHTTP(client, time.Now), time.Now)
			mustSave(t, m, testGrant(server.URL, "refresh-0", time.Now()))
			checkFault(t, m, store, "temporary", true)
		})
	}
}

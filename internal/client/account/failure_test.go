package account

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

func failing(err error) *fakeExchange {
	return &fakeExchange{answer: func(context.Context, exchangeCall) (oauth.Token, error) { return oauth.Token{}, err }}
}

// A crowd makes one request also when that fails, and everybody gets the same error.
// Whoever comes later asks again.
func TestCrowdSharesTheFailure(t *testing.T) {
	tests := []struct {
		class string
		err   *oauth.Error
	}{
		{"sign in", &oauth.Error{Endpoint: "token", Status: 400, Code: "invalid_grant", Subcode: "bad_token", Numbers: []int{70000}, Description: "AADSTS70000: over"}},
		{"rejected", &oauth.Error{Endpoint: "token", Status: 401, Code: "invalid_client", CorrelationID: "7", URI: "https://x.test"}},
		{"temporary", &oauth.Error{Endpoint: "token", Status: 500, Err: errors.New("empty answer"), RetryAfter: time.Minute}},
		{"temporary", &oauth.Error{Endpoint: "token", Err: &net.DNSError{Err: "no such host", Name: "x"}}},
	}
	for _, test := range tests {
		t.Run(test.err.Error(), func(t *testing.T) {
			exchange := failing(test.err)
			m, store := setUp(t, exchange)
			var ready, group sync.WaitGroup
			ready.Add(crowd)
			m.Store = &gate{Store: m.Store, ready: &ready}
			faults := make([]error, crowd)
			for i := range crowd {
				group.Go(func() { _, faults[i] = m.Token(t.Context(), testName, Want{}) })
			}
			group.Wait()
			if exchange.count() != 1 {
				t.Errorf("%d requests", exchange.count())
			}
			for i, fault := range faults {
				var answer *oauth.Error
				if errorClass(fault) != test.class || fault.Error() != faults[0].Error() || !errors.As(fault, &answer) {
					t.Fatalf("caller %d: %v, the first: %v", i, fault, faults[0])
				}
				same := *answer
				same.Err, same.Numbers = test.err.Err, test.err.Numbers
				want := *test.err
				if same.Error() != want.Error() || same.Subcode != want.Subcode || same.RetryAfter != want.RetryAfter ||
					same.URI != want.URI || same.CorrelationID != want.CorrelationID || len(answer.Numbers) != len(want.Numbers) {
					t.Errorf("caller %d: %+v, want %+v", i, answer, want)
				}
			}
			m.Store = store
			if _, err := m.Token(t.Context(), testName, Want{}); errorClass(err) != test.class || exchange.count() != 2 {
				t.Errorf("a later caller: %v after %d requests", err, exchange.count())
			}
		})
	}
}

// Who takes a failure that lies there when he gets the lock, and who asks.
func TestWhoTakesAFailure(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name   string
		change func(*failure)
		want   Want
		take   bool
	}{
		{"it came while we waited", func(*failure) {}, Want{}, true},
		{"it was there before", func(f *failure) { f.At = now.Add(-time.Second) }, Want{}, false},
		{"it was there as we came", func(f *failure) { f.At = now }, Want{}, false},
		{"it is from the future: the clock was put back", func(f *failure) { f.At = now.Add(time.Hour) }, Want{}, false},
		{"it is of another grant", func(f *failure) { f.Serial++ }, Want{}, false},
		{"it is of another resource", func(*failure) {}, Want{Purpose: provider.Graph}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			exchange := rotating(func() time.Time { return now })
			clock := now
			m := newManager(plainStore{t.TempDir()}, exchange, func() time.Time { return clock })
			grant := testGrant("http://127.0.0.1:1/token", "refresh-0", now)
			mustSave(t, m, grant)
			f := failure{At: now.Add(time.Second), Serial: grant.Serial, Resource: "mail", Kind: kindSignIn, Endpoint: "token", Status: 400, Code: "invalid_grant"}
			test.change(&f)
			record, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Store.SetFailure(testName, record); err != nil {
				t.Fatal(err)
			}
			m.step = func(step string) {
				if step == "locked" {
					clock = now.Add(2 * time.Second) // so long did we wait
				}
			}
			_, err = m.Token(t.Context(), testName, test.want)
			if took := err != nil; took != test.take || exchange.count() == 1 == took {
				t.Errorf("Token = %v after %d requests", err, exchange.count())
			}
		})
	}
}

// A record that cannot be read, or kept, costs a request and nothing else.
func TestFailureIsOnlyAHelp(t *testing.T) {
	for _, record := range []string{"", "{", "null", `{"at":7}`, `{"kind":"sign in"}`, strings.Repeat("[", 1<<15)} {
		exchange := rotating(time.Now)
		m, store := setUp(t, exchange)
		if err := store.SetFailure(testName, []byte(record)); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Token(t.Context(), testName, Want{}); err != nil || exchange.count() != 1 {
			t.Errorf("%.20q: %v", record, err)
		}
	}
	m, store := setUp(t, failing(&oauth.Error{Endpoint: "token", Status: 500}))
	m.Store = &faultyStore{Store: store, fail: map[string]error{"failure": errors.New("no room")}}
	if _, err := m.Token(t.Context(), testName, Want{}); errorClass(err) != "temporary" {
		t.Errorf("Token = %v", err)
	}
}

// What a provider says at length is cut, and a caller's own Ctrl-C is nobody else's.
func TestFailureIsBounded(t *testing.T) {
	m, store := setUp(t, failing(&oauth.Error{Endpoint: "token", Status: 400, Code: "invalid_grant", Description: strings.Repeat("\u00e9\x00", 1<<19)}))
	if _, err := m.Token(t.Context(), testName, Want{}); errorClass(err) != "sign in" {
		t.Fatalf("Token = %v", err)
	}
	record, err := store.ReadFailure(testName)
	if err != nil || len(record) == 0 || len(record) > 16<<10 || strings.Contains(string(record), "refresh-0") {
		t.Errorf("record of %d bytes, %v", len(record), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m, store = setUp(t, &fakeExchange{answer: func(context.Context, exchangeCall) (oauth.Token, error) {
		cancel()
		return oauth.Token{}, &oauth.Error{Endpoint: "token", Err: context.Canceled}
	}})
	if _, err := m.Token(ctx, testName, Want{}); errorClass(err) != "temporary" {
		t.Fatalf("Token = %v", err)
	}
	if record, err := store.ReadFailure(testName); record != nil || err != nil {
		t.Errorf("a caller's own giving up was kept: %s, %v", record, err)
	}
}

// After a failure that another process was told, the sign-in makes everything new.
func TestSaveOutdatesTheFailure(t *testing.T) {
	exchange := failing(&oauth.Error{Endpoint: "token", Status: 400, Code: "invalid_grant"})
	m, store := setUp(t, exchange)
	began := time.Now()
	if _, err := m.Token(t.Context(), testName, Want{}); err == nil {
		t.Fatal("no error")
	}
	old, err := m.Grant(t.Context(), testName)
	if err != nil || m.told(old, began) == nil {
		t.Fatalf("the failure does not count at all: %v", err)
	}
	grant := testGrant("http://127.0.0.1:1/token", "", time.Now())
	grant.Refresh = secret.New("brand-new")
	mustSave(t, m, grant)
	if f := m.told(grant, began); f != nil {
		t.Errorf("the new grant has the old failure %+v", f)
	}
	if err := m.Delete(t.Context(), testName); err != nil {
		t.Fatal(err)
	}
	if record, err := store.ReadFailure(testName); record != nil || err != nil {
		t.Errorf("after Delete: %s, %v", record, err)
	}
}

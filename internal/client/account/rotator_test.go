package account

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// rotator is a provider that rotates refresh tokens and, when an old one comes back,
// ends the grant, as RFC 9700 section 4.14.2 wants it.
type rotator struct {
	*httptest.Server
	lifetime int // expires_in; -1 leaves it out

	mu       sync.Mutex
	current  string
	count    int
	consumed time.Time // when the last refresh token was used up
	revoked  bool
	requests int
	onUse    func() // called while a token is being used up

	open int // connections
	idle *sync.Cond
}

func newRotator(t *testing.T) *rotator {
	r := &rotator{lifetime: 3600}
	r.idle = sync.NewCond(&r.mu)
	r.Server = httptest.NewUnstartedServer(r)
	r.Config.ConnState = r.connState
	r.Start()
	t.Cleanup(r.Close)
	r.signIn()
	return r
}

// signIn begins a new grant and returns its refresh token.
func (r *rotator) signIn() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	r.current, r.revoked, r.requests, r.consumed = fmt.Sprintf("refresh-%d", r.count), false, 0, time.Time{}
	return r.current
}

func (r *rotator) state() (current string, requests int, consumed time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current, r.requests, r.consumed
}

func (r *rotator) connState(_ net.Conn, state http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch state {
	case http.StateNew:
		r.open++
	case http.StateClosed, http.StateHijacked:
		r.open--
		r.idle.Broadcast()
	}
}

// settle returns when the request of a process that is dead by now has been dealt
// with. Connections are accepted in order, so ours comes after the dead one's.
func (r *rotator) settle(t *testing.T) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.open > 0 {
		r.idle.Wait()
	}
}

func (r *rotator) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodGet {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	// Read before the lock: a killed client may never send the rest.
	if err := req.ParseForm(); err != nil {
		return
	}
	r.mu.Lock()
	r.requests++
	token := req.PostFormValue("refresh_token")
	if token != r.current || r.revoked {
		r.revoked = true
		r.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant","error_description":"reuse detected"}`)
		return
	}
	r.count++
	r.current = fmt.Sprintf("refresh-%d", r.count)
	r.consumed = time.Now()
	answer := map[string]any{
		"access_token": fmt.Sprintf("access-%d", r.count), "token_type": "Bearer",
		"refresh_token": r.current,
	}
	if r.lifetime >= 0 {
		answer["expires_in"] = r.lifetime
	}
	onUse := r.onUse
	r.mu.Unlock()
	if onUse != nil {
		onUse()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// exchanger is the product's own, over HTTP.
func exchanger(now func() time.Time) Exchanger {
	return OverHTTP(oauth.NewHTTPClient(oauth.HTTPOptions{}), now)
}

// fakeExchange answers without a network.
type fakeExchange struct {
	mu     sync.Mutex
	calls  []exchangeCall
	answer func(ctx context.Context, call exchangeCall) (oauth.Token, error)
}

type exchangeCall struct {
	number   int
	refresh  string
	resource Resource
}

func (f *fakeExchange) Refresh(ctx context.Context, grant *Grant, resource Resource) (oauth.Token, error) {
	f.mu.Lock()
	call := exchangeCall{number: len(f.calls) + 1, refresh: grant.Refresh.Reveal(), resource: resource}
	f.calls = append(f.calls, call)
	f.mu.Unlock()
	return f.answer(ctx, call)
}

func (f *fakeExchange) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

func (r *rotator) setOnUse(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onUse = f
}

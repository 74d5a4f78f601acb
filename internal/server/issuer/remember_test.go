package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A judge is an introspection endpoint that knows some tokens, and keeps what it was shown.
type judge struct {
	mu    sync.Mutex
	url   string
	knows map[string]bool
	shown []string
	away  bool
	hangs chan struct{} // not nil: no answer until it is closed
}

func newJudge(t *testing.T, knows ...string) *judge {
	t.Helper()
	j := &judge{knows: map[string]bool{}}
	for _, token := range knows {
		j.knows[token] = true
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.PostFormValue("token")
		if j.hangs != nil {
			<-j.hangs
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.shown = append(j.shown, token)
		switch {
		case j.away:
			w.WriteHeader(http.StatusServiceUnavailable)
		case j.knows[token]:
			writeJSON(w, http.StatusOK, map[string]any{"active": true, "sub": "u1", "aud": "mail", "client_id": "webmail", "exp": now().Add(24 * time.Hour).Unix()})
		default:
			writeJSON(w, http.StatusOK, map[string]any{"active": false})
		}
	}))
	t.Cleanup(server.Close)
	j.url = server.URL
	return j
}

func (j *judge) issuer(t *testing.T, prefix string, clock func() time.Time) *Issuer {
	t.Helper()
	one, err := New(Options{URL: j.url, Audiences: []string{"mail"}, Clients: []string{"webmail"}, Scopes: []string{"imap"}, Prefix: prefix,
		Introspection: j.url + "/introspect", ClientID: "us", Secret: secret.New("s"), HTTP: oauth.NewHTTPClient(oauth.HTTPOptions{}), Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return one
}

// saw is what was shown since the last question.
func (j *judge) saw() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	seen := strings.Join(j.shown, " ")
	j.shown = nil
	return seen
}

func (j *judge) set(away bool, token string, knows bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.away, j.knows[token] = away, knows
}

// verdict is yes, no or later.
func verdict(t *testing.T, list List, token string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // shared by all that are asked
	defer cancel()
	_, err := list.Verify(ctx, secret.New(token))
	switch {
	case err == nil:
		return "yes"
	case errors.Is(err, identity.ErrNotFound):
		return "no"
	}
	return "later"
}

// TestGuessesAreAskedOnce: the same guess costs one question in a while, a token in force one
// each time, an issuer in trouble is asked again, and what is remembered is bounded.
func TestGuessesAreAskedOnce(t *testing.T) {
	clock := now()
	j := newJudge(t, "good")
	list := List{j.issuer(t, "", func() time.Time { return clock })}
	step := func(what, token, want, shown string) {
		t.Helper()
		if got := verdict(t, list, token); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		if seen := j.saw(); seen != shown {
			t.Errorf("%s: the issuer saw %q, want %q", what, seen, shown)
		}
	}
	step("a guess", "guess", "no", "guess")
	step("the same guess", "guess", "no", "")
	step("another guess", "guess2", "no", "guess2")
	step("a token", "good", "yes", "good")
	step("the same token", "good", "yes", "good")
	clock = clock.Add(noLife)
	step("the guess, later", "guess", "no", "guess")
	j.set(false, "good", false)
	step("a token that has ended", "good", "no", "good")
	step("and again", "good", "no", "")
	j.set(true, "new", true)
	step("while the issuer is away", "new", "later", "new")
	j.set(false, "new", true)
	step("once it is back", "new", "yes", "new")
	if noLife > 30*time.Second {
		t.Errorf("a no is remembered for %v", noLife)
	}
	for i := range 3 * maxMemory {
		list[0].memory.note(fmt.Sprint(i), i%2 == 0, clock)
	}
	if n := len(list[0].memory.said); n > maxMemory {
		t.Errorf("%d tokens are remembered", n)
	}
	// What is over makes room for what is new.
	clock = clock.Add(2 * mineLife)
	for i := range maxMemory {
		list[0].memory.note(fmt.Sprint("later", i), true, clock)
	}
	if _, no := list[0].memory.recall("guess", clock); no {
		t.Error("a no for hours")
	}
}

// TestTokensOfSeveralIssuers: an issuer that says how its tokens begin gets those alone, and
// its tokens go to nobody else; between those who do not say it, a token is shown to others
// until it is known whose it is; and one that is away keeps nobody else's people out.
func TestTokensOfSeveralIssuers(t *testing.T) {
	a, b, c, d := newJudge(t, "a_1"), newJudge(t, "a_long_1"), newJudge(t, "opaque"), newJudge(t, "other")
	list := List{c.issuer(t, "", now), a.issuer(t, "a_", now), b.issuer(t, "a_long_", now), d.issuer(t, "", now)}
	for _, step := range []struct{ what, token, want, shown string }{
		{"by its beginning", "a_1", "yes", "| a_1 | |"},
		{"by the longer one", "a_long_1", "yes", "| | a_long_1 |"},
		{"a guess with a beginning", "a_guess", "no", "| a_guess | |"},
		{"of the first that says nothing", "opaque", "yes", "opaque | | |"},
		{"of the second", "other", "yes", "other | | | other"},
		{"of the second, once that is known", "other", "yes", "| | | other"},
		{"a guess", "guess", "no", "guess | | | guess"},
		{"the same guess", "guess", "no", "| | |"},
	} {
		if got := verdict(t, list, step.token); got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
		if seen := strings.Join(strings.Fields(strings.Join([]string{c.saw(), a.saw(), b.saw(), d.saw()}, " | ")), " "); seen != step.shown {
			t.Errorf("%s: shown as %q, want %q", step.what, seen, step.shown)
		}
	}
	c.set(true, "", false)
	d.set(false, "third", true)
	for token, want := range map[string]string{"third": "yes", "opaque": "later", "guess3": "later", "a_1": "yes"} {
		if got := verdict(t, list, token); got != want {
			t.Errorf("with one away, %s: %s, want %s", token, got, want)
		}
	}
}

// TestIssuerThatNeverAnswers: one that takes the question and says nothing leaves time for
// those that are asked after it.
func TestIssuerThatNeverAnswers(t *testing.T) {
	hangs, good := newJudge(t), newJudge(t, "opaque")
	hangs.hangs = make(chan struct{})
	defer close(hangs.hangs)
	list := List{hangs.issuer(t, "", now), good.issuer(t, "", now)}
	var err error
	// Its share may be too short on a busy machine. What is left nothing at all gets no more
	// of two minutes than of two seconds.
	for _, patience := range []time.Duration{2 * time.Second, 20 * time.Second, 2 * time.Minute} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err = list.Verify(ctx, secret.New("opaque"))
		cancel()
		if err == nil {
			return
		}
	}
	t.Errorf("a token of the other: %v", err)
}

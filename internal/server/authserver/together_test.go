package authserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/memory"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A ledger is the audit trail beside a store, and one transaction with it. It can be made to
// refuse all lines, and each transaction to be tried once for nothing.
type ledger struct {
	*memory.Store
	mu    sync.Mutex
	mute  bool
	again bool
	lines []string
}

func (l *ledger) AddEvent(_ context.Context, e identity.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mute {
		return fmt.Errorf("add event: %w", identity.ErrUnavailable)
	}
	l.lines = append(l.lines, e.Kind+" of "+string(e.Person)+", "+e.Detail)
	return nil
}

var errAgain = errors.New("others were faster")

func (l *ledger) Together(ctx context.Context, do func(context.Context) error) error {
	l.mu.Lock()
	before, again := slices.Clone(l.lines), l.again
	l.mu.Unlock()
	undo := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = before
	}
	if again {
		err := l.Store.Together(ctx, func(ctx context.Context) error { return errors.Join(do(ctx), errAgain) })
		undo()
		if !errors.Is(err, errAgain) {
			return err
		}
	}
	err := l.Store.Together(ctx, do)
	if err != nil {
		undo()
	}
	return err
}

func (l *ledger) set(mute, again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mute, l.again, l.lines = mute, again, nil
}

func (l *ledger) said() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// facts are what the store holds, but for when a device asked last.
func facts(b *bench) string {
	return regexp.MustCompile(`LastPoll:\S+ \S+`).ReplaceAllString(b.store.Dump(), "")
}

// TestChangeAndTrailAreOne: what changes a right changes nothing without its line of the audit
// trail, and the answer is "later"; with it there is one line, though the transaction is tried
// again, and though the same is asked for twice.
func TestChangeAndTrailAreOne(t *testing.T) {
	for name, c := range map[string]struct {
		setUp        func(b *bench) (try func() answer)
		after, twice int // the answers with an audit trail
		line         string
	}{
		"a consent": {func(b *bench) func() answer {
			browser := b.browser("p1")
			action, form := fields(b.t, b.get(browser, "/authorize?"+authQuery().Encode()).body)
			form.Set("decision", "allow")
			return func() answer { return b.postRaw(browser, action, form.Encode(), "Origin", b.url) }
		}, http.StatusSeeOther, http.StatusSeeOther, "grant.given of p1, Mutt: imap smtp offline_access"},
		"a device": {func(b *bench) func() answer {
			_, user := b.startDevice()
			return func() answer { return b.decide("p1", "/device?user_code="+user, "allow") }
		}, http.StatusSeeOther, http.StatusBadRequest, "grant.given of p1, Mutt: imap smtp"},
		"a code that comes again": {func(b *bench) func() answer {
			code := b.allow(authQuery())
			b.post("/token", codeForm(code))
			return func() answer { return b.post("/token", codeForm(code)) }
		}, http.StatusBadRequest, http.StatusBadRequest, "grant.revoked of p1, Mutt: authorization code used twice"},
		"a refresh token that comes again": {func(b *bench) func() answer {
			_, refresh := b.tokens()
			b.post("/token", refreshForm(refresh))
			b.clock.forward(time.Hour)
			return func() answer { return b.post("/token", refreshForm(refresh)) }
		}, http.StatusBadRequest, http.StatusBadRequest, "grant.revoked of p1, Mutt: refresh token used twice"},
		"a device code that comes again": {func(b *bench) func() answer {
			code, user := b.startDevice()
			b.decide("p1", "/device?user_code="+user, "allow")
			b.poll(code)
			return func() answer { b.clock.forward(time.Minute); return b.poll(code) }
		}, http.StatusBadRequest, http.StatusBadRequest, "grant.revoked of p1, Mutt: device code used twice"},
		"a revocation": {func(b *bench) func() answer {
			_, refresh := b.tokens()
			return func() answer { return b.post("/revoke", url.Values{"client_id": {"mutt"}, "token": {refresh}}) }
		}, http.StatusOK, http.StatusOK, "grant.revoked of p1, Mutt: revoked by the program itself"},
		"the end of a registration": {func(b *bench) func() answer {
			made := b.postRaw(http.DefaultClient, "/register", `{"redirect_uris":["http://127.0.0.1/cb"],"client_name":"Elm"}`, "Content-Type", "application/json")
			b.allow(authQuery("client_id", made.text(b.t, "client_id")))
			return func() answer {
				r, err := http.NewRequestWithContext(b.t.Context(), http.MethodDelete, made.text(b.t, "registration_client_uri"), nil)
				if err != nil {
					b.t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+made.text(b.t, "registration_access_token"))
				return b.do(http.DefaultClient, r)
			}
		}, http.StatusNoContent, http.StatusUnauthorized, "grant.revoked of p1, Elm: the program deleted its registration"},
	} {
		t.Run(name, func(t *testing.T) {
			var l *ledger
			b := newBench(t, func(o *authserver.Options) {
				l = &ledger{Store: o.Codes.(*memory.Store)}
				o.Trail, o.ClientStore = l, l.Store
			})
			try := c.setUp(b)
			l.set(true, false)
			before := facts(b)
			if a := try(); a.status != http.StatusServiceUnavailable {
				t.Errorf("without an audit trail: %d %s", a.status, a.body)
			}
			if after := facts(b); after != before {
				t.Errorf("without an audit trail\n%s\nbecame\n%s", before, after)
			}
			l.set(false, true)
			if a := try(); a.status != c.after {
				t.Errorf("%d %s", a.status, a.body)
			}
			if said := l.said(); said != c.line {
				t.Errorf("the audit trail says %q", said)
			}
			if after := facts(b); after == before {
				t.Error("nothing has changed")
			}
			l.set(false, false)
			if a := try(); a.status != c.twice {
				t.Errorf("a second time: %d %s", a.status, a.body)
			}
			if said := l.said(); said != "" && name != "a consent" {
				t.Errorf("a second time the audit trail says %q", said)
			}
		})
	}
}

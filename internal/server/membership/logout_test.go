package membership_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/membership"
)

// frail is a store that fails when it is told to.
type frail struct {
	membership.Sessions
	membership.Once
	fail   bool
	noLine bool // only the trail does not answer
}

func (f *frail) AddEvent(ctx context.Context, e identity.Event) error {
	if f.noLine {
		return identity.ErrUnavailable
	}
	return f.Once.AddEvent(ctx, e)
}

func (f *frail) EndUpstream(ctx context.Context, s string) ([]identity.PersonID, error) {
	if f.fail {
		return nil, identity.ErrUnavailable
	}
	return f.Sessions.EndUpstream(ctx, s)
}

func (k *club) session(name, upstream string) identity.SessionID {
	k.t.Helper()
	id := identity.DigestOf(name + upstream)
	k.must(k.db.AddSession(k.t.Context(), identity.Session{ID: id, Person: identity.PersonID(name), How: "x", Created: k.now, Seen: k.now, Expires: k.now.Add(time.Hour), Upstream: upstream}))
	return id
}

func (k *club) alive(id identity.SessionID) bool {
	k.t.Helper()
	_, _, err := k.db.Session(k.t.Context(), id, k.now)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		k.t.Fatal(err)
	}
	return err == nil
}

// A logout of the issuer ends the sessions that it names, once, and no others.
func TestLogout(t *testing.T) {
	k := newClub(t, 3)
	store := &frail{Sessions: k.db, Once: k.db}
	verify := func(_ context.Context, raw string) (oauth.LogoutClaims, error, error) {
		claims := oauth.LogoutClaims{Issuer: issuer, ID: raw, Expires: k.now.Add(10 * time.Minute)}
		switch {
		case raw == "forged":
			return claims, errors.New("check logout token: by nobody"), nil
		case raw == "away":
			return claims, nil, errors.New("keys endpoint answered 502")
		case strings.HasPrefix(raw, "only-sid"):
			claims.SessionID = "s3"
		case strings.HasPrefix(raw, "sid"):
			claims.SessionID, claims.Subject = "s1", "0"
		case strings.HasPrefix(raw, "sub"):
			claims.Subject = "1"
		case strings.HasPrefix(raw, "stranger"):
			claims.Subject = "99"
		}
		return claims, nil, nil
	}
	var halves []string
	note := func(_ context.Context, c oauth.LogoutClaims) error {
		halves = append(halves, c.SessionID+"/"+c.Subject)
		return nil
	}
	h := membership.NewLogout(membership.LogoutOptions{Verify: verify, Store: store, Halves: note, Now: func() time.Time { return k.now }, Log: slog.New(slog.DiscardHandler)})
	ask := func(method, kind, body string) int {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	const form = "application/x-www-form-urlencoded"
	send := func(token string) int { return ask("POST", form, url.Values{"logout_token": {token}}.Encode()) }
	one, other := k.session("p0", issuer+" s1"), k.session("p0", issuer+" s2")
	elsewhere, stays := k.session("p1", ""), k.session("p2", "https://other.test s1")

	for _, c := range []struct {
		what, method, kind, body string
		want                     int
	}{
		{"GET", "GET", form, "", 405}, {"JSON", "POST", "application/json", `{"logout_token":"sid"}`, 400}, {"nothing", "POST", form, "", 400},
		{"two", "POST", form, "logout_token=sid&logout_token=sub", 400}, {"no form", "POST", form, "%zz", 400},
		{"megabytes", "POST", form, "logout_token=" + strings.Repeat("x", 200<<10), 400},
	} {
		if got := ask(c.method, c.kind, c.body); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
	if a, b := send("forged"), send("away"); a != http.StatusBadRequest || b != http.StatusServiceUnavailable || !k.alive(one) {
		t.Errorf("forged %d, keys away %d", a, b)
	}
	// A database that fails in between: the issuer tries again, and is heard.
	store.fail = true
	if got := send("sid-1"); got != http.StatusServiceUnavailable || !k.alive(one) {
		t.Errorf("database away: %d", got)
	}
	store.fail = false
	if got := send("sid-1"); got != http.StatusOK || k.alive(one) || !k.alive(other) {
		t.Errorf("one session: %d", got)
	}
	again := k.session("p0", issuer+" s1")
	if got := send("sid-1"); got != http.StatusBadRequest || !k.alive(again) {
		t.Errorf("the same token again: %d", got)
	}
	if got := send("sub-1"); got != http.StatusOK || k.alive(elsewhere) || !k.alive(stays) || !k.alive(other) {
		t.Errorf("all of a subject: %d", got)
	}
	if got := send("stranger-1"); got != http.StatusOK {
		t.Errorf("nobody here: %d", got)
	}
	// A token that names nobody, only a session: it ends, and the trail says whose it was.
	third := k.session("p2", issuer+" s3")
	store.noLine = true
	if got := send("only-sid-1"); got != http.StatusServiceUnavailable || !k.alive(third) {
		t.Errorf("a session ended without its line: %d", got)
	}
	store.noLine = false
	if got := send("only-sid-1"); got != http.StatusOK || k.alive(third) || !k.alive(other) || !k.alive(stays) {
		t.Errorf("a session and no subject: %d", got)
	}
	if got := send("only-sid-2"); got != http.StatusOK {
		t.Errorf("a session that has ended: %d", got)
	}
	if noted, err := k.db.Events(t.Context(), identity.EventFilter{Kind: "session.ended", Person: "p2"}); err != nil || len(noted) != 1 || !strings.Contains(noted[0].Detail, "one session there") {
		t.Errorf("trail of the session's owner %+v %v", noted, err)
	}
	if got := strings.Join(halves, " "); got != "s1/0 s1/0 /1 /99 s3/ s3/ s3/" {
		t.Errorf("sign-ins half done: told of %q", got)
	}
	events, err := k.db.Events(t.Context(), identity.EventFilter{Kind: "session.ended", Person: "p0"})
	if err != nil || len(events) != 1 || events[0].Actor != issuer {
		t.Errorf("trail %+v %v", events, err)
	}
}

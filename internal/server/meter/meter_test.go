package meter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// An answer is a door that always says the same.
type answer struct{ err error }

func (a answer) Password(context.Context, credential.Presented) (credential.Verdict, error) {
	return credential.Verdict{Login: "ann@try.test"}, a.err
}

func (a answer) Token(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	return a.Password(ctx, p)
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

func TestCounts(t *testing.T) {
	clock := time.Unix(0, 0)
	m := New(func() time.Time { clock = clock.Add(30 * time.Millisecond); return clock })
	presented := credential.Presented{User: "ann@try.test", Secret: secret.New("hush-hush"), Protocol: identity.SMTP}
	for _, err := range []error{
		nil, nil, &credential.Refused{Reason: credential.ReasonWrong}, fmt.Errorf("ask: %w", credential.ErrUnavailable), credential.ErrBusy, errors.New("ann@try.test hush-hush"),
	} {
		v, got := m.Door(answer{err}).Password(t.Context(), presented)
		if got != err || v.Login != "ann@try.test" {
			t.Errorf("the meter changed the answer: %v, %v", v, got)
		}
	}
	if _, err := m.Door(answer{}).Token(t.Context(), credential.Presented{Protocol: identity.IMAP}); err != nil {
		t.Error(err)
	}
	m.Watch("revocations_waiting", "Not confirmed.", func() float64 { return 3 })
	status, text := get(t, m.Handler(func(context.Context) error { return nil }), "/metrics")
	if status != http.StatusOK {
		t.Fatal(status)
	}
	for _, want := range []string{
		`letterlock_signins_total{kind="password",protocol="smtp",reason="",result="ok"} 2`,
		`letterlock_signins_total{kind="password",protocol="smtp",reason="wrong secret",result="refused"} 1`,
		`letterlock_signins_total{kind="password",protocol="smtp",reason="unavailable",result="later"} 1`,
		`letterlock_signins_total{kind="password",protocol="smtp",reason="busy",result="later"} 1`,
		`letterlock_signins_total{kind="password",protocol="smtp",reason="",result="later"} 1`,
		`letterlock_signins_total{kind="token",protocol="imap",reason="",result="ok"} 1`,
		`letterlock_check_seconds_bucket{kind="password",le="0.01"} 0`,
		`letterlock_check_seconds_bucket{kind="password",le="0.05"} 6`,
		`letterlock_revocations_waiting 3`, `go_goroutines`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(text, "ann@") || strings.Contains(text, "hush") {
		t.Error("a person or a secret is in a label")
	}
}

func TestHealth(t *testing.T) {
	var trouble error
	h := New(time.Now).Handler(func(context.Context) error { return trouble })
	if status, text := get(t, h, "/healthz"); status != http.StatusOK || text != "ok\n" {
		t.Errorf("%d %q", status, text)
	}
	trouble = errors.New("database")
	if status, text := get(t, h, "/healthz"); status != http.StatusServiceUnavailable || text != "database\n" {
		t.Errorf("%d %q", status, text)
	}
	if status, _ := get(t, h, "/"); status != http.StatusNotFound {
		t.Error(status)
	}
}

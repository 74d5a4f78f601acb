package membership

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Verifier checks a logout token of one issuer. The first error: it is none. The second:
// it could not be checked.
type Verifier func(ctx context.Context, raw string) (oauth.LogoutClaims, error, error)

// Sessions are the browsers that a logout ends.
type Sessions interface {
	Binding(ctx context.Context, issuer, subject string) (identity.Binding, error)
	EndSessions(ctx context.Context, person identity.PersonID) error
	EndUpstream(ctx context.Context, issuerAndSid string) ([]identity.PersonID, error)
}

// Once keeps what is taken once.
type Once interface {
	PutOnce(ctx context.Context, digest identity.Digest, kind string, data []byte, expires time.Time) error
	TakeOnce(ctx context.Context, digest identity.Digest, kind string, now time.Time) ([]byte, error)
	AddEvent(ctx context.Context, e identity.Event) error
	// Together makes one transaction of all that do asks with its context. An error of do
	// undoes it and is returned; do may be called again.
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// LogoutOptions shape a Logout.
type LogoutOptions struct {
	Verify Verifier
	Store  interface {
		Sessions
		Once
	}
	// Halves ends sign-ins that wait for their second factor; nil: there are none.
	Halves func(ctx context.Context, c oauth.LogoutClaims) error
	Now    func() time.Time
	Log    *slog.Logger
}

// A Logout takes back-channel logouts of one issuer (OpenID Connect Back-Channel Logout 1.0):
// the issuer says by itself that a session of its own has ended, and the browsers that came
// in by it are signed out here.
type Logout struct{ o LogoutOptions }

// NewLogout returns a handler.
func NewLogout(o LogoutOptions) *Logout { return &Logout{o} }

const (
	maxLogout  = 128 << 10
	logoutKind = "signin.logout"
)

// ServeHTTP implements http.Handler. Answers are those of section 2.8.
func (l *Logout) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	raw, err := logoutToken(http.MaxBytesReader(w, r.Body, maxLogout), r.Header.Get("Content-Type"))
	if err != nil {
		refuse(w, err.Error())
		return
	}
	claims, bad, err := l.o.Verify(r.Context(), raw)
	switch {
	case bad != nil:
		l.o.Log.Warn("logout refused", "remote", r.RemoteAddr, "error", bad)
		refuse(w, "the logout token is not good")
		return
	case err == nil:
		err = l.end(r.Context(), claims)
	}
	switch {
	case errors.Is(err, errSeen):
		l.o.Log.Warn("logout refused", "remote", r.RemoteAddr, "error", err)
		refuse(w, "the logout token was used already")
	case err != nil:
		l.o.Log.Error("logout not done", "error", err)
		w.Header().Set("Retry-After", "10")
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// logoutToken reads the form (section 2.5): one logout_token, in the body only.
func logoutToken(from io.Reader, contentType string) (string, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return "", errors.New("send application/x-www-form-urlencoded")
	}
	data, err := io.ReadAll(from)
	if err != nil {
		return "", errors.New("the body is too long, or ended early")
	}
	form, err := url.ParseQuery(string(data))
	if err != nil || len(form["logout_token"]) != 1 {
		return "", errors.New("there must be one logout_token")
	}
	return form.Get("logout_token"), nil
}

// refuse answers in the form of OAuth errors.
func refuse(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_request", "error_description": why})
}

var errSeen = errors.New("a logout token came twice")

// end ends what the token names, once. The id is spent first, so that nobody who has seen
// the token ends later sessions with it; it is given back when the ending fails, so that the
// issuer's next try is heard.
func (l *Logout) end(ctx context.Context, c oauth.LogoutClaims) error {
	spent := identity.DigestOf(c.Issuer + " " + c.ID)
	err := l.o.Store.PutOnce(ctx, spent, logoutKind, nil, c.Expires.Add(time.Hour))
	if errors.Is(err, identity.ErrExists) {
		return errSeen
	}
	if err != nil {
		return err
	}
	if err := l.sessions(ctx, c); err != nil {
		_, back := l.o.Store.TakeOnce(context.WithoutCancel(ctx), spent, logoutKind, l.o.Now())
		return errors.Join(err, back)
	}
	return nil
}

func (l *Logout) sessions(ctx context.Context, c oauth.LogoutClaims) error {
	// First those that are not there yet: one that is completed in between is a session then,
	// or looks here once it is.
	if l.o.Halves != nil {
		if err := l.o.Halves(ctx, c); err != nil {
			return err
		}
	}
	// Undone together with its line: at the issuer's next try nothing would say whose a session
	// was that has ended.
	return l.o.Store.Together(ctx, func(ctx context.Context) error { return l.browsers(ctx, c) })
}

// browsers ends those that are signed in, and writes down whose they were.
func (l *Logout) browsers(ctx context.Context, c oauth.LogoutClaims) error {
	var people []identity.PersonID
	if c.Subject != "" {
		b, err := l.o.Store.Binding(ctx, c.Issuer, c.Subject)
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			return err
		}
		people = append(people, b.Person)
	}
	detail := "by " + c.Issuer
	if c.SessionID != "" {
		// Section 2.4: a token may name nobody, only the session; whose it was says the session.
		whose, err := l.o.Store.EndUpstream(ctx, c.Issuer+" "+c.SessionID)
		if err != nil {
			return err
		}
		if len(whose) > 0 {
			people = whose
		}
		detail += ", one session there"
	} else if len(people) > 0 && people[0] != "" {
		// Section 2.7: without a session all of the subject. Those that came in otherwise end
		// too: the issuer speaks of the person, and a sign-in too many does no harm.
		if err := l.o.Store.EndSessions(ctx, people[0]); err != nil {
			return err
		}
		detail += ", all sessions"
	}
	if len(people) == 0 {
		people = []identity.PersonID{""}
	}
	l.o.Log.Info("logout", "issuer", c.Issuer, "people", people)
	for _, person := range people {
		if err := l.o.Store.AddEvent(ctx, identity.Event{At: l.o.Now(), Kind: "session.ended", Person: person, Actor: c.Issuer, Detail: detail}); err != nil {
			return err
		}
	}
	return nil
}

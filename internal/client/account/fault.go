package account

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// Errors that callers branch on, besides those of tokenstore, which come through.
var (
	// ErrPurpose: the grant was not given for what the token is wanted for.
	ErrPurpose = errors.New("the grant does not cover that purpose")
	// ErrVersion: the grant was written by a newer Letterlock.
	ErrVersion = errors.New("grant written by a newer version")
	// ErrName: no account can be called that.
	ErrName = errors.New("not an account name")
)

// A SignInNeeded says that the grant is over and only a person can renew it (exit
// code 77). The grant is kept as it was: providers have said invalid_grant by mistake.
type SignInNeeded struct {
	Account  string
	Login    string
	Provider string
	SignedIn time.Time     // when the person last signed in; may be zero
	Age      time.Duration // since then
	Idle     time.Duration // since a refresh last succeeded, or since the sign-in
	// Interrupted is an earlier refresh whose answer was never stored: at a provider
	// that rotates refresh tokens the most likely cause. nil: none known.
	Interrupted *tokenstore.Mark
	Cause       *oauth.Error // nil: the grant has no refresh token
}

// Error tells what the provider said and what is known about the grant.
func (e *SignInNeeded) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s needs a new sign-in", e.Account)
	if e.Cause == nil {
		b.WriteString(": the provider gave no refresh token")
	} else {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	if !e.SignedIn.IsZero() {
		fmt.Fprintf(&b, " (signed in %s ago, last renewed %s ago)", span(e.Age), span(e.Idle))
	}
	if e.Interrupted != nil {
		fmt.Fprintf(&b, "; the answer to a refresh begun at %s by process %d was never stored",
			e.Interrupted.Began.UTC().Format(time.RFC3339), e.Interrupted.PID)
	}
	return b.String()
}

// Unwrap returns the provider's answer.
func (e *SignInNeeded) Unwrap() error {
	if e.Cause == nil {
		return nil
	}
	return e.Cause
}

// span prints a duration as people say it.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	default:
		return fmt.Sprintf("%d minutes", max(d, 0)/time.Minute)
	}
}

// A Rejected says that the provider refuses for a reason that neither time nor a
// sign-in mends: the client is unknown or disabled, its secret wrong, a scope invalid.
type Rejected struct {
	Account  string
	Provider string
	Cause    *oauth.Error
}

// Error tells what the provider said.
func (e *Rejected) Error() string {
	return fmt.Sprintf("refresh the token of %s: %v", e.Account, e.Cause)
}

// Unwrap returns the provider's answer.
func (e *Rejected) Unwrap() error { return e.Cause }

// A Temporary says that trying again later can help (exit code 75). The grant file
// is as it was.
type Temporary struct {
	Account string
	Step    string // what was tried: "lock the account", "write the grant" ...
	Err     error
}

// Error tells what was tried and what went wrong.
func (e *Temporary) Error() string {
	return fmt.Sprintf("%s of %s: %v", e.Step, e.Account, e.Err)
}

// Unwrap returns the cause.
func (e *Temporary) Unwrap() error { return e.Err }

// outcome is what a failed exchange tells about the refresh token.
type outcome int

const (
	unknown outcome = iota // the provider may have used it up
	unused                 // it was not sent, or the answer says that nothing was issued
)

// outcomeOf looks for proof that the provider issued nothing. Without it the refresh
// token may be spent: a 5xx or a garbled answer can come after the provider's commit.
func outcomeOf(err error) outcome {
	var answer *oauth.Error
	if errors.As(err, &answer) && answer.Err == nil {
		// RFC 6749 section 5.2: an error answer means that no token was issued.
		if answer.Code != "" || answer.Status >= 300 && answer.Status < 500 {
			return unused
		}
		return unknown
	}
	var dns *net.DNSError
	var dial *net.OpError
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &dns) || errors.As(err, &certificate) ||
		errors.As(err, &dial) && (dial.Op == "dial" || dial.Op == "proxyconnect") {
		return unused
	}
	return unknown
}

// classify turns a failed exchange into one of the three errors above.
func (m *Manager) classify(grant *Grant, interrupted *tokenstore.Mark, err error) error {
	var answer *oauth.Error
	// Without an OAuth error code it was no verdict of the authorization server but
	// of something before it: a proxy, a captive portal, an overloaded front end.
	if !errors.As(err, &answer) || answer.Err != nil || answer.Code == "" || answer.Temporary() {
		return &Temporary{Account: grant.Account, Step: "refresh the token", Err: err}
	}
	if !endsGrant(answer.Code) {
		return &Rejected{Account: grant.Account, Provider: grant.provider(), Cause: answer}
	}
	return m.signInNeeded(grant, interrupted, answer)
}

// endsGrant lists the codes that a person mends by signing in: RFC 6749 section 5.2,
// and OpenID Connect Core section 3.1.2.6, which Microsoft uses at its token endpoint.
func endsGrant(code string) bool {
	switch code {
	case "invalid_grant", "interaction_required", "login_required", "consent_required":
		return true
	}
	return false
}

func (m *Manager) signInNeeded(grant *Grant, interrupted *tokenstore.Mark, cause *oauth.Error) error {
	e := &SignInNeeded{
		Account: grant.Account, Login: grant.Login, Provider: grant.provider(),
		SignedIn: grant.SignedIn, Interrupted: interrupted, Cause: cause,
	}
	if grant.SignedIn.IsZero() {
		return e
	}
	now := m.now()
	e.Age = max(now.Sub(grant.SignedIn), 0)
	e.Idle = e.Age
	if grant.Refreshed.After(grant.SignedIn) {
		e.Idle = max(now.Sub(grant.Refreshed), 0)
	}
	return e
}

// provider names the provider for people: a preset's name, else the issuer.
func (g *Grant) provider() string {
	if g.Provider == "" {
		return string(g.Endpoints.Issuer)
	}
	return g.Provider
}

// seeThrough is the context of an exchange. Once the request may be under way a
// cancelled caller (Ctrl-C, a mail client that hung up) must not throw away the
// answer, for it may hold the only copy of a rotated refresh token. So the exchange
// outlives ctx by grace.
func seeThrough(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	through, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-through.Done():
		}
	})
	return through, func() { stop(); cancel() }
}

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
// sign-in mends: the client is unknown or disabled, its secret wrong, a scope invalid,
// its answer of a kind that we cannot use; or that the grant's own endpoint or client
// is such that no request could be made.
type Rejected struct {
	Account  string
	Provider string
	Err      error // mostly an *oauth.Error
}

// Error tells what the provider said.
func (e *Rejected) Error() string {
	return fmt.Sprintf("refresh the token of %s: %v", e.Account, e.Err)
}

// Unwrap returns the provider's answer.
func (e *Rejected) Unwrap() error { return e.Err }

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

// unspent looks for proof that a failed exchange left the refresh token as it was. The
// absence of proof means that the provider may have used it up: a 5xx or a garbled
// answer can come after its commit.
func unspent(err error) bool {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var dial *net.OpError
	if errors.As(err, &dns) || errors.As(err, &certificate) ||
		errors.As(err, &dial) && (dial.Op == "dial" || dial.Op == "proxyconnect") {
		return true
	}
	var answer *oauth.Error
	var keyFile *KeyFileError
	if errors.As(err, &keyFile) {
		return true
	}
	if errors.As(err, &answer) {
		// RFC 6749 section 5.2: an error answer means that no token was issued.
		return answer.Code != "" || answer.Status >= 300 && answer.Status < 500
	}
	return !onTheWay(err)
}

// onTheWay tells faults of the network from those found before anything was sent.
func onTheWay(err error) bool {
	var network net.Error // a context's deadline is one
	return errors.As(err, &network) || errors.Is(err, context.Canceled)
}

// classify turns a failed exchange into one of the three errors above. Only a code of
// RFC 6749 is a verdict of the authorization server; other answers come from something
// before it, a proxy, a captive portal, an overloaded front end.
func (m *Manager) classify(grant *Grant, interrupted *tokenstore.Mark, err error) error {
	var answer *oauth.Error
	var keyFile *KeyFileError
	isAnswer := errors.As(err, &answer)
	switch {
	case errors.As(err, &keyFile): // first: a system call's error is a net.Error too
		return &Rejected{Account: grant.Account, Provider: grant.provider(), Err: err}
	case isAnswer && (answer.Temporary() || answer.Code == "" && answer.Err == nil),
		!isAnswer && onTheWay(err):
		return &Temporary{Account: grant.Account, Step: stepRefresh, Err: err}
	case isAnswer && endsGrant(answer.Code):
		return m.signInNeeded(grant, interrupted, answer)
	}
	return &Rejected{Account: grant.Account, Provider: grant.provider(), Err: err}
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

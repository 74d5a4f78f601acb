package login

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// Device signs in by device code (RFC 8628). The person may interrupt by ending ctx.
func Device(ctx context.Context, req Request, person Person) (oauth.Token, error) {
	if req.Timeout > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, req.Timeout, ErrNobody)
		defer cancel()
		ctx = limited
	}
	auth, err := req.Conn.StartDevice(ctx, req.Scopes, deviceExtra(req.Extra))
	if err != nil {
		return oauth.Token{}, fmt.Errorf("ask for a device code: %w", err)
	}
	person.ShowDevice(auth)
	for _, line := range deviceWarning(req) {
		person.Tell(line)
	}
	token, err := req.Conn.PollDevice(ctx, auth, nil)
	switch {
	case err == nil:
		return token, nil
	case errors.Is(context.Cause(ctx), ErrNobody):
		return oauth.Token{}, lateFault(req.Timeout)
	}
	return oauth.Token{}, deviceFault(err)
}

// deviceExtra leaves out what speaks to the authorization page only; the rest
// (resource, audience, a provider's own) counts here as well.
func deviceExtra(extra url.Values) url.Values {
	kept := url.Values{}
	for name, values := range extra {
		switch name {
		case "access_type", "prompt", "response_mode", "display", "include_granted_scopes", "max_age":
		default:
			kept[name] = values
		}
	}
	return kept
}

// deviceWarning is RFC 8628 section 5.4: the attack on this flow is a code that
// somebody else started.
func deviceWarning(req Request) []string {
	return []string{
		fmt.Sprintf("the code gives %s these rights: %s", req.app(), cli.Line(strings.Join(req.Scopes, " "))),
		"enter only the code shown here, and never one that somebody sent you: it would let that person into your mail",
	}
}

// deviceFault adds what to do to the ends of RFC 8628 section 3.5.
func deviceFault(err error) error {
	var answer *oauth.Error
	if errors.As(err, &answer) {
		switch answer.Code {
		case "expired_token":
			return &cli.Fault{Code: cli.NoPerm, What: "the device code ran out before it was entered",
				Hint: "start the sign-in again and enter the new code", Err: err}
		case "access_denied", "authorization_declined":
			return &cli.Fault{Code: cli.NoPerm, What: "the sign-in was declined at the provider's page",
				Hint: "start again if that was not you; if the provider's policy declines it, sign in with --flow browser", Err: err}
		}
	}
	return fmt.Errorf("sign in by device code: %w", err)
}

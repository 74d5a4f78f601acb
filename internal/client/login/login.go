// Package login is the sign-in flows: browser on a loopback listener, device code,
// and paste. A flow ends with the token endpoint's answer; checking whose it is and
// keeping it is the caller's work. It opens listeners on loopback only, prints
// nothing (a [Person] shows and asks), and reads no configuration.
//
//	Browser  ->  attempt (state, PKCE)  ->  browser  ->  provider
//	   ^                                                    |
//	   +-- door (127.0.0.1 and ::1)  <-- redirect with code +
//	Paste is the same with the person carrying the redirect back by hand.
//	Device has no redirect: the person types a code at the provider's page.
//
// Beside the flows stand what a caller needs around them: [Look] and [Choose] pick a
// flow, [OpenBrowser] starts a browser, [QR] draws a device page's address.
package login

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// DefaultTimeout is how long Browser and Paste wait for the person when
// Request.Timeout is zero.
const DefaultTimeout = 5 * time.Minute

// A Request is one sign-in to be done.
type Request struct {
	Conn   *oauth.Conn
	Scopes []string
	// TokenScopes are named at the token endpoint too, for servers where the consent
	// may cover more than one token can hold (Microsoft: scopes of two resources).
	TokenScopes []string
	Extra       url.Values // provider's authorization parameters, `resource` included
	Redirect    provider.Redirect
	LoginHint   string // the address, when the person lets it be sent
	Nonce       string // for the ID token; empty: none
	App         string // name the person sees: "Letterlock"
	// Timeout bounds the wait for the person: zero means DefaultTimeout, and for
	// Device the life the provider gave the code.
	Timeout time.Duration

	patience time.Duration // hitPatience unless a test sets it
}

// A Person is whoever signs in, seen through the terminal and the desktop. Its
// methods are called from one goroutine.
type Person interface {
	// OpenBrowser starts the browser; an error means it has to be done by hand.
	OpenBrowser(url string) error
	// ShowURL tells the person to open url; ShowDevice shows a device code, its
	// page, and the QR code of VerificationURIComplete when there is one.
	ShowURL(url string)
	ShowDevice(auth oauth.DeviceAuth)
	// Ask reads one line from terminal or pipe without echoing it. A pipe that has
	// run dry answers io.EOF.
	Ask(ctx context.Context, prompt string) (string, error)
	// Tell passes a remark on progress or trouble.
	Tell(line string)
}

func (r Request) app() string {
	if r.App == "" {
		return "Letterlock"
	}
	return r.App
}

func (r Request) timeout() time.Duration {
	if r.Timeout <= 0 {
		return DefaultTimeout
	}
	return r.Timeout
}

// An attempt is one try to get a code. Its state and verifier are used once and
// stay in this process: the URL carries the state and the verifier's hash.
type attempt struct {
	req         Request
	redirectURI string
	state       string
	verifier    secret.String
}

func newAttempt(req Request, redirectURI string) attempt {
	return attempt{
		req:         req,
		redirectURI: redirectURI,
		state:       oauth.NewState(),
		verifier:    oauth.NewVerifier(),
	}
}

// url is where the browser begins.
func (a attempt) url() (string, error) {
	address, err := a.req.Conn.AuthCodeURL(oauth.AuthRequest{
		RedirectURI: a.redirectURI,
		State:       a.state,
		Verifier:    a.verifier,
		Nonce:       a.req.Nonce,
		Scopes:      a.req.Scopes,
		LoginHint:   a.req.LoginHint,
		Extra:       a.req.Extra,
	})
	if err != nil {
		return "", fmt.Errorf("make the sign-in address: %w", err)
	}
	return address, nil
}

// check reads an authorization response and accepts it only with this attempt's
// state and the right issuer. An accepted response holds a code or the provider's
// error.
func (a attempt) check(query string) (oauth.Callback, error) {
	answer, err := oauth.ParseCallback(query)
	if err != nil {
		return oauth.Callback{}, err
	}
	if err := a.req.Conn.CheckCallback(answer, a.state); err != nil {
		return oauth.Callback{}, err
	}
	return answer, nil
}

// finish turns an accepted response into tokens.
func (a attempt) finish(ctx context.Context, answer oauth.Callback) (oauth.Token, error) {
	if answer.Err != nil {
		return oauth.Token{}, fmt.Errorf("sign in: %w", answer.Err)
	}
	return a.exchange(ctx, answer.Code)
}

func (a attempt) exchange(ctx context.Context, code secret.String) (oauth.Token, error) {
	// RFC 8707 section 2.2: the resource is named at the token endpoint again. The
	// other parameters are for the authorization page.
	extra := url.Values{}
	if resource := a.req.Extra["resource"]; len(resource) > 0 {
		extra["resource"] = resource
	}
	if len(a.req.TokenScopes) > 0 {
		extra.Set("scope", strings.Join(a.req.TokenScopes, " "))
	}
	token, err := a.req.Conn.ExchangeCode(ctx, code, a.redirectURI, a.verifier, extra)
	if err != nil {
		return oauth.Token{}, fmt.Errorf("exchange the sign-in code: %w", err)
	}
	return token, nil
}

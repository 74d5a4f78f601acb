package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrNoEndpoint says that the authorization server has no endpoint for what was
// asked: no device flow, no revocation.
var ErrNoEndpoint = errors.New("the authorization server has no such endpoint")

// errTokenType marks an answer with tokens that we cannot present, DPoP for one.
// Unlike other unusable answers it will be the same next time.
var errTokenType = errors.New("unusable token type")

// An Error is an answer that is not a token: an OAuth error (RFC 6749 section 5.2,
// RFC 8628 section 3.5), or an HTTP answer that is none. It holds no secret: every
// secret of the request that the server repeats is taken out of its texts.
type Error struct {
	Endpoint string // "token", "device authorization", "revocation" ...
	Status   int    // HTTP status; 0 for authorization responses and transport faults
	// Code is "invalid_grant" and the like; empty when the answer was no OAuth error.
	// It is empty too when the status is 5xx and the code would be a final one: such
	// an answer comes from a broken server, and nobody who looks at Code alone may
	// throw a grant away for it. The description then begins with the code.
	Code          string
	Subcode       string // Microsoft's suberror, Google's error_subtype ("invalid_rapt")
	Numbers       []int  // Microsoft's error_codes: 50011 of AADSTS50011
	Description   string
	URI           string
	CorrelationID string // Microsoft's, for administrators
	RetryAfter    time.Duration
	Err           error // transport fault, or what is wrong with the answer
}

// Error returns one line without secrets.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Endpoint)
	if e.Status != 0 || e.Err != nil {
		b.WriteString(" endpoint")
	}
	switch {
	case e.Code != "":
		b.WriteString(": " + e.Code)
	case e.Status != 0:
		fmt.Fprintf(&b, " answered %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Description != "" {
		b.WriteString(": " + e.Description)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return oneLine(b.String())
}

// Unwrap returns the transport fault.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same request may succeed later: transport faults,
// 5xx, 429, malformed answers, temporarily_unavailable, slow_down. Never invalid_grant.
func (e *Error) Temporary() bool {
	switch {
	case e.Status >= 500, e.Status == http.StatusTooManyRequests, e.Status == http.StatusRequestTimeout:
		return true
	case errors.Is(e.Err, errTokenType):
		return false
	case e.Err != nil:
		return true
	}
	return temporaryCode(e.Code)
}

func temporaryCode(code string) bool {
	switch code {
	case "", "temporarily_unavailable", "server_error", "slow_down", "authorization_pending":
		return true
	}
	return false
}

// oneLine makes one bounded, printable line of text that came from outside. It is
// cli.Line in small: this leaf does not know the terminal.
func oneLine(text string) string {
	const limit = 1000
	var b strings.Builder
	count := 0
	for _, r := range strings.Join(strings.Fields(text), " ") {
		if count == limit {
			b.WriteString(" …")
			break
		}
		count++
		b.WriteRune(printable(r))
	}
	return b.String()
}

func printable(r rune) rune {
	switch {
	case r < 0x20, r >= 0x7f && r < 0xa0, r == utf8.RuneError:
		return '?'
	case r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff:
		return '?' // zero-width and bidirectional controls
	}
	return r
}

package upstream

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrPlain means that plain text was asked for on a way that is not loopback.
	ErrPlain = errors.New("plain text is for loopback hosts only")
	// ErrNoSTARTTLS means that the server does not offer, or refused, STARTTLS.
	ErrNoSTARTTLS = errors.New("the server gives no STARTTLS")
	// ErrInjected means that bytes came between the consent to STARTTLS and TLS:
	// somebody on the way put words into the server's mouth.
	ErrInjected = errors.New("bytes came in plain text after STARTTLS")
	// ErrTooLong means a line, literal or reply beyond the limits.
	ErrTooLong = errors.New("the server's reply is too long")
	// ErrProtocol means a reply that the protocol does not allow there.
	ErrProtocol = errors.New("the server breaks the protocol")
	// ErrClosed means that the server closed the connection in the dialogue.
	ErrClosed = errors.New("the server closed the connection")
)

// An AuthError is a refused sign-in.
type AuthError struct {
	Mechanism string
	Reply     string // the server's final line: "NO [AUTHENTICATIONFAILED] ...", "535 5.7.3 ..."
	Challenge string // the decoded error challenge (JSON), empty when there was none
	Temporary bool   // 4xx, [UNAVAILABLE], [SYS/TEMP]
}

// Error returns mechanism and reply on one line.
func (e *AuthError) Error() string { return e.Mechanism + ": " + e.Reply }

// A ReplyError is a refusal of anything but the sign-in.
type ReplyError struct {
	Command   string // "greeting", "LIST", "EHLO" ...
	Reply     string // the server's line
	Temporary bool
}

// Error returns command and reply on one line.
func (e *ReplyError) Error() string { return e.Command + ": " + e.Reply }

// A MechanismError means that the server offers none of the mechanisms that a token
// may go out by.
type MechanismError struct {
	Wanted, Offered []string
}

// Error names both sides.
func (e *MechanismError) Error() string {
	offered := "nothing"
	if len(e.Offered) > 0 {
		offered = strings.Join(e.Offered, ", ")
	}
	if len(e.Wanted) == 0 {
		return fmt.Sprintf("no mechanism for a token is configured (the server offers %s)", offered)
	}
	return fmt.Sprintf("the server offers %s, but not %s", offered, strings.Join(e.Wanted, " or "))
}

// temporary reports whether a refusal may pass by itself.
func temporary(protocol Protocol, reply string) bool {
	if protocol == SMTP {
		return strings.HasPrefix(reply, "4") // RFC 5321 section 4.2.1
	}
	// Response codes of RFC 5530, RFC 2449 and RFC 3206; THROTTLED is Google's and
	// Yahoo's.
	for _, code := range []string{"[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]", "[THROTTLED]", "[SYS/TEMP]", "[IN-USE]", "[LOGIN-DELAY"} {
		if strings.Contains(strings.ToUpper(reply), code) {
			return true
		}
	}
	return false
}

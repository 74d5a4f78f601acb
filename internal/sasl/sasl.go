// Package sasl speaks the authentication mechanisms of mail: PLAIN and LOGIN for
// passwords, XOAUTH2 and OAUTHBEARER (RFC 7628) for access tokens, as client and as
// server. It does no I/O: it builds and reads the messages inside the base64, and
// the callers (client/upstream, the proxy, the submission server, mailauth) carry
// them. Its types stand behind the interfaces of emersion/go-sasl, so that go-smtp
// and go-imap can use them.
//
// Why not go-sasl alone: it has no XOAUTH2; its OAUTHBEARER neither escapes the user
// name nor answers the error challenge; its LOGIN client insists on one spelling of
// a challenge whose text means nothing; and none of them checks what it
// concatenates. PLAIN's client is go-sasl's own, behind our checks.
//
// Every message is built by concatenation around NUL and CTRL-A, so every part is
// checked first (injection), and every message read has a size limit.
package sasl

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	gosasl "github.com/emersion/go-sasl"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// The mechanisms, as they are named on the wire.
const (
	Plain       = "PLAIN"
	Login       = "LOGIN"
	XOAuth2     = "XOAUTH2"
	OAuthBearer = "OAUTHBEARER"
)

// MaxMessage is the size of the largest message read from a peer, before base64.
// RFC 4954 section 4 lets a line of base64 be 12,288 octets long, which is 9,216.
const MaxMessage = 9216

const (
	maxUser     = 1024
	maxPassword = 4096
)

// Client and Server are the state machines of go-sasl: no I/O, one message a call.
type (
	Client = gosasl.Client
	Server = gosasl.Server
)

// IsToken reports whether the mechanism carries an access token. Only those may.
func IsToken(mechanism string) bool {
	return strings.EqualFold(mechanism, XOAuth2) || strings.EqualFold(mechanism, OAuthBearer)
}

// Credentials are what a client presented, or presents.
type Credentials struct {
	Mechanism string
	User      string        // may be empty with OAUTHBEARER: the token's owner
	Authzid   string        // PLAIN only: whom to act as, empty when the same
	Secret    secret.String // a password, or the token of a token mechanism
	Host      string        // OAUTHBEARER only: the server the client believes in
	Port      int           // OAUTHBEARER only: 0 means not said
}

var (
	// ErrMechanism means that there is no such mechanism here.
	ErrMechanism = errors.New("no such mechanism")
	// ErrMalformed means that a message, or a part for one, breaks the grammar.
	ErrMalformed = errors.New("malformed sign-in message")
)

// CheckUser says why a name cannot be put into a message: control characters would
// end its field and begin another one.
func CheckUser(user string) error {
	switch {
	case len(user) > maxUser:
		return fmt.Errorf("%w: user name of over %d bytes", ErrMalformed, maxUser)
	case !utf8.ValidString(user):
		return fmt.Errorf("%w: user name is not UTF-8", ErrMalformed)
	case strings.IndexFunc(user, isControl) >= 0:
		return fmt.Errorf("%w: control character in the user name", ErrMalformed)
	}
	return nil
}

// CheckToken says why a token cannot be put into a message. RFC 6750 section 2.1
// wants b64token; providers also issue other printable characters (RFC 6749 appendix
// A.12), which hurt nobody. A space does: it ends the token.
func CheckToken(token secret.String) error {
	text := token.Reveal()
	if text == "" {
		return fmt.Errorf("%w: empty token", ErrMalformed)
	}
	if len(text) > MaxMessage {
		return fmt.Errorf("%w: token of over %d bytes", ErrMalformed, MaxMessage)
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			// Neither the character nor its place: the error may be shown anywhere.
			return fmt.Errorf("%w: the token has a character that no token may have", ErrMalformed)
		}
	}
	return nil
}

func checkPassword(password secret.String) error {
	text := password.Reveal()
	switch {
	case text == "":
		return fmt.Errorf("%w: empty password", ErrMalformed) // RFC 4616 section 2: 1*SAFE
	case len(text) > maxPassword:
		return fmt.Errorf("%w: password of over %d bytes", ErrMalformed, maxPassword)
	case strings.IndexByte(text, 0) >= 0:
		return fmt.Errorf("%w: NUL in the password", ErrMalformed)
	}
	return nil
}

func checkHost(host string, port int) error {
	if port < 0 || port > 65535 {
		return fmt.Errorf("%w: port out of range", ErrMalformed)
	}
	for i := range len(host) {
		c := host[i]
		if c <= ' ' || c > '~' || len(host) > 255 {
			return fmt.Errorf("%w: not a host name", ErrMalformed)
		}
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

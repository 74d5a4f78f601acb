package sasl

import (
	"fmt"
	"strconv"
	"strings"

	gosasl "github.com/emersion/go-sasl"
)

// NewClient returns the client side of c.Mechanism, with everything that goes into
// the message checked. It does not mind which secret is a token and which a
// password: that is the caller's to keep apart, see [IsToken].
func NewClient(c Credentials) (Client, error) {
	if err := CheckUser(c.User); err != nil {
		return nil, err
	}
	if c.User == "" && c.Mechanism != OAuthBearer {
		return nil, fmt.Errorf("%w: empty user name", ErrMalformed)
	}
	check := checkPassword
	if IsToken(c.Mechanism) {
		check = CheckToken
	}
	if err := check(c.Secret); err != nil {
		return nil, err
	}
	switch c.Mechanism {
	case Plain:
		if err := CheckUser(c.Authzid); err != nil {
			return nil, err
		}
		return gosasl.NewPlainClient(c.Authzid, c.User, c.Secret.Reveal()), nil
	case Login:
		return &loginClient{credentials: c}, nil
	case XOAuth2:
		return &bearerClient{credentials: c, dummy: []byte{}}, nil
	case OAuthBearer:
		if err := checkHost(c.Host, c.Port); err != nil {
			return nil, err
		}
		return &bearerClient{credentials: c, dummy: []byte{separator}}, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrMechanism, c.Mechanism)
}

// separator is CTRL-A, kvsep of RFC 7628 section 3.1.
const separator = 0x01

// A bearerClient is either token mechanism: they differ in their first message and
// in the dummy that answers the error challenge.
type bearerClient struct {
	credentials Credentials
	dummy       []byte
	failed      bool
}

func (b *bearerClient) Start() (string, []byte, error) {
	if b.credentials.Mechanism == XOAuth2 {
		return XOAuth2, xoauth2(b.credentials), nil
	}
	return OAuthBearer, oauthBearer(b.credentials), nil
}

// Next answers the one challenge there is, the server's error. The answer must be
// sent, or the final reply with its text never comes: a lone CTRL-A (RFC 7628
// section 3.2.3), or an empty line (XOAUTH2). It is empty and not nil: go-smtp's
// client takes nil for success.
func (b *bearerClient) Next([]byte) ([]byte, error) {
	if b.failed {
		return nil, gosasl.ErrUnexpectedServerChallenge
	}
	b.failed = true
	return b.dummy, nil
}

func xoauth2(c Credentials) []byte {
	return []byte("user=" + c.User + "\x01auth=Bearer " + c.Secret.Reveal() + "\x01\x01")
}

// oauthBearer builds client-resp of RFC 7628 section 3.1.
func oauthBearer(c Credentials) []byte {
	message := "n,"
	if c.User != "" {
		message += "a=" + escape(c.User)
	}
	message += ",\x01"
	if c.Host != "" {
		message += "host=" + c.Host + "\x01"
	}
	if c.Port != 0 {
		message += "port=" + strconv.Itoa(c.Port) + "\x01"
	}
	return []byte(message + "auth=Bearer " + c.Secret.Reveal() + "\x01\x01")
}

// escape writes a saslname: RFC 5801 section 4.
func escape(name string) string {
	name = strings.ReplaceAll(name, "=", "=3D")
	return strings.ReplaceAll(name, ",", "=2C")
}

// A loginClient is draft-murchison-sasl-login: name, then password, whatever the
// challenges say. The draft spells them "User Name" and "Password", servers mostly
// "Username:" and "Password:".
type loginClient struct {
	credentials Credentials
	done        bool
}

func (l *loginClient) Start() (string, []byte, error) {
	return Login, []byte(l.credentials.User), nil
}

func (l *loginClient) Next([]byte) ([]byte, error) {
	if l.done {
		return nil, gosasl.ErrUnexpectedServerChallenge
	}
	l.done = true
	return []byte(l.credentials.Secret.Reveal()), nil
}

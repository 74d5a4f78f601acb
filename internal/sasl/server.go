package sasl

import (
	"errors"
	"fmt"

	gosasl "github.com/emersion/go-sasl"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A Check decides on what a client presented. nil lets it in. A *[Refusal] is told
// to a client of a token mechanism as JSON before the sign-in fails with it. Any
// other error ends the sign-in at once: an outage is not the token's fault.
type Check func(Credentials) error

// NewServer returns the server side of a mechanism. The error that its Next ends
// with is what Check returned, or wraps [ErrMalformed].
func NewServer(mechanism string, check Check) (Server, error) {
	switch mechanism {
	case Plain:
		return &plainServer{check: check}, nil
	case Login:
		return &loginServer{check: check}, nil
	case XOAuth2:
		return &bearerServer{mechanism: mechanism, parse: ParseXOAuth2, check: check}, nil
	case OAuthBearer:
		return &bearerServer{mechanism: mechanism, parse: ParseOAuthBearer, check: check}, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrMechanism, mechanism)
}

type bearerServer struct {
	mechanism string
	parse     func([]byte) (Credentials, error)
	check     Check
	done      bool
	refused   error // told as JSON; the client's dummy answer is awaited
}

// Next takes the client's message; nil asks for the empty challenge that invites it.
func (b *bearerServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case b.refused != nil:
		// Any answer will do: clients send CTRL-A, nothing, or what they fancy.
		err, b.refused = b.refused, nil
		return nil, true, err
	case b.done:
		return nil, true, gosasl.ErrUnexpectedClientResponse
	case response == nil:
		return []byte{}, false, nil
	}
	b.done = true
	presented, err := b.parse(response)
	if err != nil {
		b.refused = err
		return (&Refusal{Status: "invalid_request"}).JSON(b.mechanism), false, nil
	}
	err = b.check(presented)
	if err == nil {
		return nil, true, nil
	}
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		b.refused = err
		return refusal.JSON(b.mechanism), false, nil
	}
	return nil, true, err
}

type plainServer struct {
	check Check
	done  bool
}

func (p *plainServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if p.done {
		return nil, true, gosasl.ErrUnexpectedClientResponse
	}
	if response == nil {
		return []byte{}, false, nil
	}
	p.done = true
	presented, err := ParsePlain(response)
	if err != nil {
		return nil, true, err
	}
	return nil, true, p.check(presented)
}

// A loginServer asks for name and password; the name may come as initial response.
type loginServer struct {
	check Check
	user  string
	asked bool // for the name
	named bool
	done  bool
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case l.done:
		return nil, true, gosasl.ErrUnexpectedClientResponse
	case response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case !l.named:
		l.user, l.named = string(response), true
		return []byte("Password:"), false, nil
	}
	l.done = true
	if l.user == "" {
		return nil, true, fmt.Errorf("%w: empty user name", ErrMalformed)
	}
	presented := Credentials{Mechanism: Login, User: l.user, Secret: secret.New(string(response))}
	presented, err = checked(presented, checkPassword)
	if err != nil {
		return nil, true, err
	}
	return nil, true, l.check(presented)
}

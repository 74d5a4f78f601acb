package upstream

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// Authenticate signs in with the first of login.Mechanisms that the server offers.
// A refusal is an *AuthError; the failure round is answered as the mechanism wants.
// A token never goes out by a password mechanism, whatever login.Mechanisms says.
func (c *Conn) Authenticate(ctx context.Context, login Login) error {
	mechanism, err := choose(login.Mechanisms, c.Mechanisms())
	if err != nil {
		return err
	}
	client, err := sasl.NewClient(sasl.Credentials{
		Mechanism: mechanism, User: login.User, Secret: login.Token,
		Host: c.server.Host, Port: c.server.Port,
	})
	if err != nil {
		return fmt.Errorf("sign in with %s: %w", mechanism, err)
	}
	_, first, err := client.Start()
	if err != nil {
		return fmt.Errorf("sign in with %s: %w", mechanism, err)
	}
	e := &exchange{mechanism: mechanism, user: login.User, client: client, initial: base64.StdEncoding.EncodeToString(first), trace: c.trace, mark: "+"}
	if c.protocol == SMTP {
		e.mark = "334"
	}
	c.trace.hide(login.Token)
	c.trace.hide(secret.New(e.initial))
	if err := c.during(ctx, func() error { return c.dialect.authenticate(c, e) }); err != nil {
		return err
	}
	c.signedIn = true
	return nil
}

// choose takes the first wanted mechanism that is offered and fit for a token.
func choose(wanted, offered []string) (string, error) {
	if len(wanted) == 0 {
		wanted = []string{sasl.OAuthBearer, sasl.XOAuth2}
	}
	var fit []string
	for _, mechanism := range wanted {
		if mechanism = strings.ToUpper(mechanism); sasl.IsToken(mechanism) {
			fit = append(fit, mechanism)
		}
	}
	for _, mechanism := range fit {
		if slices.Contains(offered, mechanism) {
			return mechanism, nil
		}
	}
	return "", &MechanismError{Wanted: fit, Offered: offered}
}

// mechanisms reads the SASL mechanisms out of the capabilities.
func mechanisms(protocol Protocol, capabilities []string) []string {
	var found []string
	add := func(name string) {
		name = strings.ToUpper(name)
		if isMechanism(name) && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	for _, capability := range capabilities {
		words := strings.Fields(strings.ToUpper(capability))
		switch {
		case len(words) == 0:
		case protocol == IMAP:
			if name, ok := strings.CutPrefix(words[0], "AUTH="); ok {
				add(name)
			}
		case protocol == POP3 && words[0] == "SASL", protocol == SMTP && words[0] == "AUTH":
			for _, name := range words[1:] {
				add(name)
			}
		case protocol == SMTP && strings.HasPrefix(words[0], "AUTH="):
			// The form from before RFC 2554, which some servers repeat.
			add(strings.TrimPrefix(words[0], "AUTH="))
			for _, name := range words[1:] {
				add(name)
			}
		}
	}
	return found
}

// isMechanism checks the form of a name, RFC 4422 section 3.1: it will be shown.
func isMechanism(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return name != "" && len(name) <= 40
}

// maxRounds is how many challenges a server may send: the one that invites the first
// message, the error, and one to spare before we cancel.
const maxRounds = 3

// An exchange is one SASL conversation in base64, whatever carries it.
type exchange struct {
	mechanism string
	user      string
	client    sasl.Client
	initial   string // the first message
	sent      bool   // the first message is out
	mark      string // how a challenge begins on the wire, for the trace
	rounds    int
	challenge string // the last challenge, decoded and cleaned
	trace     *trace
}

// withCommand reports whether the first message may ride on the command line: it
// must not make the line longer than servers read.
func (e *exchange) withCommand(command string) bool {
	return len(command)+1+len(e.initial)+len("\r\n") <= maxInitial
}

// start returns the command with the first message where it fits, and how the trace
// shows it.
func (e *exchange) start(command string, initialAllowed bool) (line, shown string) {
	if !initialAllowed || !e.withCommand(command) {
		return command, command
	}
	e.sent = true
	return command + " " + e.initial, command + " " + e.shown()
}

func (e *exchange) shown() string {
	return fmt.Sprintf("[user=%s, token hidden, %d bytes]", e.user, len(e.initial))
}

// answer returns the line that answers a challenge. "*" cancels (RFC 4954 section 4,
// RFC 5034 section 4, RFC 9051 section 6.2.2).
func (e *exchange) answer(encoded string) (line, shown string) {
	if e.rounds++; e.rounds > maxRounds {
		return "*", "*"
	}
	if !e.sent {
		// The text of this challenge means nothing, and some servers put words there.
		e.trace.server(e.mark + " " + encoded)
		e.sent = true
		return e.initial, e.shown()
	}
	challenge, readable := decodeChallenge(encoded)
	e.challenge = e.trace.clean(challenge)
	if readable {
		e.trace.server(e.mark + " (decoded) " + e.challenge)
	} else {
		e.trace.server(e.mark + " (not base64) " + e.challenge)
	}
	response, err := e.client.Next([]byte(challenge))
	if err != nil {
		return "*", "*"
	}
	line = base64.StdEncoding.EncodeToString(response)
	return line, line
}

// decodeChallenge decodes base64, with or without padding. What is none comes back as
// it is: the server's words are worth showing.
func decodeChallenge(encoded string) (challenge string, ok bool) {
	encoded = strings.TrimSpace(encoded)
	plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return encoded, false
	}
	return string(plain), true
}

// refused makes the error of a refusal.
func (c *Conn) refused(e *exchange, reply string) error {
	reply = c.trace.clean(reply)
	return &AuthError{
		Mechanism: e.mechanism, Reply: reply, Challenge: e.challenge,
		Temporary: temporary(c.protocol, reply),
	}
}

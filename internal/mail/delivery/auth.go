package delivery

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A login is what a session signs in with.
type login struct {
	user       string
	mechanisms []string
	tokens     TokenSource
	password   secret.String
	host       string
	port       int
}

// maxInitial is the longest AUTH line with an initial response, CRLF included: the
// command line of RFC 5321 section 4.5.3.1.4. Google answers 555 to a longer one,
// Dovecot's submission cuts it, Postfix 3.7 refuses it above 2,048.
const maxInitial = 512

// given is what to sign in with now.
func (l *login) given(ctx context.Context, server string, refused secret.String) (secret.String, *failure) {
	if l.tokens == nil {
		return l.password, nil
	}
	token, err := l.tokens.Token(ctx, refused)
	if err != nil {
		return secret.String{}, tokenFailure(server, err)
	}
	return token, nil
}

// signIn authenticates.
func (s *session) signIn(given secret.String) *failure {
	l := s.peer.login
	if l == nil {
		return nil
	}
	mechanism, f := s.mechanism(l)
	if f != nil {
		return f
	}
	return s.authenticate(l, mechanism, given)
}

func tokenFailure(server string, err error) *failure {
	f := deferred("4.7.0", "no token: "+err.Error(), server, err)
	if errors.Is(err, ErrSignIn) {
		f.verdict, f.retry = queue.SignIn, false
	}
	return f
}

// mechanism takes the first wanted one that is offered. Tokens go out by token
// mechanisms only, passwords by PLAIN and LOGIN and only under TLS.
func (s *session) mechanism(l *login) (string, *failure) {
	if l.tokens == nil && !s.secured {
		return "", noTLS("a password is not sent without TLS", s.peer.name, nil)
	}
	offered := strings.Fields(s.can.names["AUTH"])
	for _, mechanism := range l.mechanisms {
		if slices.Contains(offered, mechanism) {
			return mechanism, nil
		}
	}
	return "", deferred("4.7.4", fmt.Sprintf("the server offers the sign-in mechanisms [%s], but not %s",
		strings.Join(offered, " "), strings.Join(l.mechanisms, " or ")), s.peer.name, nil)
}

// wanted are the mechanisms that a secret may go out by, out of those configured.
func wanted(configured []string, token bool) []string {
	fit := []string{sasl.Plain, sasl.Login}
	if token {
		fit = []string{sasl.OAuthBearer, sasl.XOAuth2}
	}
	if len(configured) == 0 {
		return fit
	}
	var out []string
	for _, mechanism := range configured {
		if mechanism = strings.ToUpper(mechanism); slices.Contains(fit, mechanism) {
			out = append(out, mechanism)
		}
	}
	return out
}

func (s *session) authenticate(l *login, mechanism string, given secret.String) *failure {
	client, err := sasl.NewClient(sasl.Credentials{
		Mechanism: mechanism, User: l.user, Secret: given, Host: l.host, Port: l.port,
	})
	if err != nil {
		return signInFailure("5.7.8", "sign in with "+mechanism+": "+err.Error(), s.peer.name)
	}
	_, first, err := client.Start()
	if err != nil {
		return signInFailure("5.7.8", "sign in with "+mechanism+": "+err.Error(), s.peer.name)
	}
	e := &exchange{client: client, first: base64.StdEncoding.EncodeToString(first)}
	s.hidden.Hide(given.Reveal(), e.first)
	line, shown := "AUTH "+mechanism, "AUTH "+mechanism
	// The password of LOGIN comes second, but the rule is the same for all: RFC 4954
	// section 4 lets the initial response ride only where the line stays in its limit.
	if len(line)+1+len(e.first)+len("\r\n") <= maxInitial {
		line, shown, e.sent = line+" "+e.first, shown+" "+secret.Redacted, true
	}
	s.putHidden(line, shown)
	return s.converse(mechanism, e)
}

// converse carries the challenges until the final reply.
func (s *session) converse(mechanism string, e *exchange) *failure {
	for {
		r, err := s.answer(s.limits.Command)
		if err != nil {
			return s.lost("AUTH", err)
		}
		switch {
		case r.code == 334:
			s.putHidden(e.answer(strings.Join(r.lines, "")))
		case r.code == 235:
			return nil
		case r.is(4) && s.peer.login.tokens != nil && judged(e.challenge):
			return s.refusedSignIn(mechanism, r, e)
		case r.is(4):
			f := deferred("4.7.0", "AUTH "+mechanism+": "+r.String(), s.peer.name, nil)
			if r.status != "" {
				f.status = r.status
			}
			return f
		case r.is(5):
			return s.refusedSignIn(mechanism, r, e)
		default:
			// 250 is not 235: nobody has been let in (RFC 4954 section 4).
			return s.lost("AUTH", fmt.Errorf("%w: %s", errProtocol, r.String()))
		}
	}
}

// judged reports whether the challenge is the verdict on a token (RFC 7628 section
// 3.2.2, and XOAUTH2's HTTP status). Servers built on go-smtp end a refusal with 454,
// which by itself is an outage; Postfix says 454, without such a verdict, when the
// service that checks tokens is away. Renewing tokens would not bring that back.
func judged(challenge string) bool {
	var verdict struct {
		Status string `json:"status"`
	}
	if json.Unmarshal([]byte(challenge), &verdict) != nil {
		return false
	}
	switch strings.ToLower(verdict.Status) {
	case "400", "401", "403", "invalid_token", "invalid_request", "insufficient_scope":
		return true
	}
	return false
}

func (s *session) refusedSignIn(mechanism string, r reply, e *exchange) *failure {
	status := r.status
	if status == "" || status[0] != '5' {
		status = "5.7.8" // RFC 4954 section 6
	}
	text := "AUTH " + mechanism + ": " + r.String()
	if why := s.clean(e.challenge); why != "" {
		text += " (" + why + ")"
	}
	f := signInFailure(status, text, s.peer.name)
	f.closed = disabled(r.String())
	// Dovecot has the same 535 for a bad token and for an introspection service that is
	// away. RFC 7628 section 3.2.2 wants the verdict in a challenge before it.
	f.doubt = s.peer.login.tokens != nil && e.challenge == "" && !f.closed
	if f.closed {
		f.status = "5.7.139"
	}
	return f
}

// disabled knows Microsoft's "SMTP AUTH is disabled for the tenant, the mailbox, or
// by a policy". A new token does not help; Graph, or an administrator, does.
func disabled(text string) bool { return strings.Contains(text, "5.7.139") }

func signInFailure(status, text, server string) *failure {
	return &failure{answer: answer{verdict: queue.SignIn, status: status, reply: text, server: server}}
}

// maxRounds is how many challenges a server may send: LOGIN has two, a refusal one.
const maxRounds = 3

// An exchange is one SASL conversation.
type exchange struct {
	client    sasl.Client
	first     string // the first message in base64
	sent      bool
	rounds    int
	challenge string // the server's error, decoded
}

// answer returns the line that answers a challenge and how a trace shows it. "*"
// cancels (RFC 4954 section 4).
func (e *exchange) answer(encoded string) (line, shown string) {
	if e.rounds++; e.rounds > maxRounds {
		return "*", "*"
	}
	if !e.sent {
		e.sent = true
		return e.first, secret.Redacted
	}
	challenge, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(encoded), "="))
	if err == nil {
		e.challenge = string(challenge)
	}
	response, err := e.client.Next(challenge)
	if err != nil {
		return "*", "*"
	}
	return base64.StdEncoding.EncodeToString(response), secret.Redacted
}

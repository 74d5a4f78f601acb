// Package probe is the login test: it signs in to IMAP, POP3 and SMTP with a token by
// each mechanism offered, proves that the mailbox is there, and says for each failure
// what the cause is and what to do. It stands on client/upstream, prints nothing, and
// takes its tokens from whoever has them.
//
//	target -> connect (TLS) -> sign in -> mailbox          one Check per mechanism
//	       \-> next mechanism, on a new connection
//
// It goes on after a failure, but it does not hammer: servers slow down whoever shows
// bad tokens (Dovecot up to 15 s, for the whole address), so a token that a server has
// called bad is not shown to it again by another mechanism.
package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// An Explainer knows what servers' errors mean: the error book of package provider.
type Explainer interface {
	// Explain looks for known codes and texts in a server's line.
	Explain(line string) []Advice
}

// A Plan says what to test.
type Plan struct {
	Mailbox string // the address whose mail it is
	// Owner is whom the provider says the token belongs to (ID token, userinfo); empty
	// when it does not say.
	Owner      string
	Targets    []Target
	Mechanisms []string  // to try where offered; empty: OAUTHBEARER and XOAUTH2
	Explainer  Explainer // nil: only what is known here
	Options    upstream.Options
	Limit      time.Duration    // for everything; 0 means two minutes
	Now        func() time.Time // nil: time.Now
}

// A Target is one server to test.
type Target struct {
	Protocol upstream.Protocol
	Server   provider.MailServer
	User     string // SASL identity; empty: Plan.Mailbox
	Token    upstream.TokenSource
}

// Run tests every target and returns what came of it. It always comes back within
// plan.Limit, with as much as was found out by then.
func Run(ctx context.Context, plan Plan) Report {
	if plan.Now == nil {
		plan.Now = time.Now
	}
	if plan.Limit <= 0 {
		plan.Limit = 2 * time.Minute
	}
	if len(plan.Mechanisms) == 0 {
		plan.Mechanisms = []string{sasl.OAuthBearer, sasl.XOAuth2}
	}
	ctx, cancel := context.WithTimeout(ctx, plan.Limit)
	defer cancel()
	begin := plan.Now()
	r := &run{plan: plan}
	for _, target := range plan.Targets {
		if target.User == "" {
			target.User = plan.Mailbox
		}
		r.target(ctx, target)
	}
	return Report{
		Mailbox: plan.Mailbox, Owner: plan.Owner, Ownership: ownership(plan.Owner, plan.Mailbox),
		Checks: r.checks, Tokens: r.tokens, Milliseconds: plan.Now().Sub(begin).Milliseconds(),
	}
}

type run struct {
	plan   Plan
	token  secret.String // the one being shown
	checks []Check
	tokens []TokenNote
}

// target tests one server: a first connection shows what is offered and serves the
// first mechanism, each further mechanism gets its own.
func (r *run) target(ctx context.Context, target Target) {
	if ctx.Err() != nil {
		c := r.begin(target, "")
		c.Steps = []Step{{Name: StepConnect, Outcome: Skipped, Detail: "the time for the test was up"}}
		r.checks = append(r.checks, c)
		return
	}
	token, err := target.Token.Token(ctx)
	if err != nil {
		c := r.begin(target, "")
		r.failed(&c, StepToken, r.plan.Now(), err)
		r.checks = append(r.checks, c)
		return
	}
	r.token = token
	r.note(target, token)
	c := r.begin(target, "")
	conn, ok := r.connect(ctx, &c, target)
	if !ok {
		r.checks = append(r.checks, c)
		return
	}
	wanted := r.wanted(conn.Mechanisms())
	if len(wanted) == 0 {
		r.failed(&c, StepSignIn, r.plan.Now(), &upstream.MechanismError{Wanted: r.plan.Mechanisms, Offered: conn.Mechanisms()})
		r.checks = append(r.checks, c)
		conn.Close()
		return
	}
	c.Mechanism = wanted[0]
	refused := r.signIn(ctx, &c, conn, target, token)
	r.checks = append(r.checks, c)
	for _, mechanism := range wanted[1:] {
		r.again(ctx, target, token, mechanism, refused)
	}
}

// again tests one more mechanism, unless the server has called the token bad.
func (r *run) again(ctx context.Context, target Target, token secret.String, mechanism string, refused bool) {
	c := r.begin(target, mechanism)
	if refused {
		c.Steps = append(c.Steps, Step{
			Name: StepSignIn, Outcome: Skipped,
			Detail: "the server has refused this very token; showing it again would only slow the next sign-in",
		})
	} else if conn, ok := r.connect(ctx, &c, target); ok {
		r.signIn(ctx, &c, conn, target, token)
	}
	r.checks = append(r.checks, c)
}

func (r *run) begin(target Target, mechanism string) Check {
	return Check{
		Protocol: string(target.Protocol), Host: target.Server.Host, Port: target.Server.Port,
		Security: string(target.Server.Security), User: target.User, Mechanism: mechanism,
	}
}

// wanted are the planned mechanisms that are offered, in the plan's order.
func (r *run) wanted(offered []string) []string {
	var found []string
	for _, mechanism := range r.plan.Mechanisms {
		for _, name := range offered {
			if strings.EqualFold(mechanism, name) && sasl.IsToken(name) {
				found = append(found, name)
			}
		}
	}
	return found
}

func (r *run) connect(ctx context.Context, c *Check, target Target) (*upstream.Conn, bool) {
	begin := r.plan.Now()
	conn, err := upstream.Dial(ctx, target.Protocol, target.Server, r.plan.Options)
	if err != nil {
		r.failed(c, StepConnect, begin, err)
		return nil, false
	}
	c.Offered = conn.Mechanisms()
	detail := "plain text on loopback"
	if state, ok := conn.TLS(); ok {
		c.TLS = describe(state)
		detail = c.TLS.Version + ", " + c.TLS.Issuer
	}
	r.done(c, StepConnect, begin, detail)
	return conn, true
}

// signIn reports whether the server has called the token itself bad.
func (r *run) signIn(ctx context.Context, c *Check, conn *upstream.Conn, target Target, token secret.String) (refused bool) {
	defer conn.Close()
	begin := r.plan.Now()
	login := upstream.Login{User: target.User, Mechanisms: []string{c.Mechanism}, Token: token}
	if err := conn.Authenticate(ctx, login); err != nil {
		r.failed(c, StepSignIn, begin, err)
		return calledBad(err)
	}
	r.done(c, StepSignIn, begin, c.Mechanism)
	begin = r.plan.Now()
	if err := conn.Check(ctx); err != nil {
		r.failed(c, StepMailbox, begin, err)
		return false
	}
	r.done(c, StepMailbox, begin, checkName(target.Protocol))
	_ = conn.Quit(ctx) // the test is over; how it says goodbye is the server's affair
	return false
}

func checkName(protocol upstream.Protocol) string {
	switch protocol {
	case upstream.IMAP:
		return "LIST"
	case upstream.POP3:
		return "STAT"
	}
	return "NOOP"
}

// calledBad: a permanent refusal that says why is about the token. One without a
// reason may be about the mechanism, and the next is worth its try.
func calledBad(err error) bool {
	refusal, ok := errors.AsType[*upstream.AuthError](err)
	return ok && !refusal.Temporary && refusal.Challenge != ""
}

func (r *run) done(c *Check, name string, begin time.Time, detail string) {
	c.Steps = append(c.Steps, Step{Name: name, Outcome: OK, Detail: detail, Milliseconds: r.plan.Now().Sub(begin).Milliseconds()})
}

func (r *run) failed(c *Check, name string, begin time.Time, err error) {
	step := Step{Name: name, Outcome: Failed, Detail: r.clean(err.Error()), Milliseconds: r.plan.Now().Sub(begin).Milliseconds()}
	if refusal, ok := errors.AsType[*upstream.AuthError](err); ok {
		step.Challenge = refusal.Challenge
	}
	step.Temporary = passing(err)
	for _, a := range r.advise(name, err) {
		step.Advice = append(step.Advice, Advice{Cause: r.clean(a.Cause), Remedy: r.clean(a.Remedy)})
	}
	c.Steps = append(c.Steps, step)
}

// clean is for what may hold a server's words: JSON, once decoded, can bring back what
// upstream had taken out.
func (r *run) clean(text string) string {
	if !r.token.IsZero() {
		text = strings.ReplaceAll(text, r.token.Reveal(), secret.Redacted)
	}
	return cli.Line(text)
}

// note remembers a token's length and the clients that it is too long for.
func (r *run) note(target Target, token secret.String) {
	length := len(token.Reveal())
	note := TokenNote{Protocol: string(target.Protocol), Length: length}
	for _, limit := range clientLimits() {
		if length > limit.octets && limit.speaks(target.Protocol) {
			note.TooLongFor = append(note.TooLongFor, fmt.Sprintf("%s (about %d)", limit.client, limit.octets))
		}
	}
	r.tokens = append(r.tokens, note)
}

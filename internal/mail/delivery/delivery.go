// Package delivery takes one envelope away: by SMTP submission with a token or an app
// password, by the Gmail and Microsoft Graph APIs, directly to MX, by LMTP, or into a
// Maildir. [Carrier] is the queue's carrier; it keeps no message, only connections.
//
//	queue -> Carrier.Carry -> Route -+- Submission   pool -> session -> SMTP server
//	                                 +- Direct       Resolver, MTA-STS -> each MX in turn
//	                                 |    \- Local   LMTP or Maildir for domains of one's own
//	                                 +- Gmail, Graph one HTTPS request
//	                                 +- LMTP, Maildir
//
// What it promises: each recipient gets one outcome. Delivered and Refused are said
// only on a complete reply of the server (or, for Refused, because the recipient or
// the message cannot be expressed). What fails before the final dot is Deferred. What
// fails after it, when the server may have the message, is Unknown, and is never tried
// again here.
//
// The SMTP client is our own. go-smtp's client has no PIPELINING and sends a recipient
// a round trip; its Auth returns nil, as if signed in, when a SASL client answers a
// challenge with a nil reply; and it hides at which stage a connection was lost, which
// is the one thing a queue must know. MTA-STS is in [mtasts] and ours as well.
//
// DNS goes through net.Resolver behind [Resolver]: miekg/dns would be worth its 3.8 MB
// and its start-up time with DANE (TLSA, the AD bit), which is not spoken here.
//
// [mtasts]: github.com/letterlock-mail/letterlock/internal/mail/mtasts
package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

var (
	// ErrSignIn is wrapped by a TokenSource's error when only a person can bring the
	// token back. The mail is held; after any other error it is tried again.
	ErrSignIn = errors.New("sign-in needed")
	// ErrRoute means a Route that leads nowhere: a fault of the configuration.
	ErrRoute = errors.New("the way out is not set up")
)

// TokenSource hands out a token for one account and purpose. refused is a token that
// the server has just turned down, and must not come back; it is empty at first.
type TokenSource interface {
	Token(ctx context.Context, refused secret.String) (secret.String, error)
}

// A Way is a way out.
type Way string

// The ways out, and what each needs in its Route.
const (
	Submission Way = "submission" // Server, User, and Tokens or Password
	Gmail      Way = "gmail"      // Tokens
	Graph      Way = "graph"      // Tokens, Mailbox when it is not the token's owner
	Direct     Way = "direct"     // Hello; Local for the domains of one's own
	LMTP       Way = "lmtp"       // Socket
	Maildir    Way = "maildir"    // Folder
)

// Purpose is what a token for this way must be good for; empty: it takes none.
func (w Way) Purpose() provider.Purpose {
	switch w {
	case Submission:
		return provider.SMTP
	case Gmail:
		return provider.Send
	case Graph:
		return provider.Graph
	}
	return ""
}

// A Route is how the mail of one account leaves.
type Route struct {
	Way Way

	Server     provider.MailServer // Submission
	User       string              // SASL identity
	Mechanisms []string            // best first; empty: what Tokens or Password allow
	Tokens     TokenSource
	// Password is an app password that the account's configuration names. It goes out
	// by PLAIN or LOGIN, and only under TLS. A token never does.
	Password secret.String
	TLS      *tls.Config // nil: system roots, TLS 1.2 and later, name checked

	Mailbox string // Graph: send as this user
	API     string // Gmail, Graph: base URL of the service when it is not the public one

	Socket string // LMTP: a path ("/run/dovecot/lmtp") or host:port on loopback
	// Folder gives a recipient's Maildir, or an error that wraps ErrNoMailbox.
	Folder func(recipient string) (string, error)

	// Hello is this route's EHLO name instead of that of the Options. At an MX it should
	// resolve to the address that we come from.
	Hello string
	// Local takes what is addressed to LocalDomains or has no domain at all (Direct).
	Local        *Route
	LocalDomains []string
	Policies     Policies // Direct; nil: MTA-STS is not asked for
	AllowPrivate bool     // Direct: let MX point into private networks
	// Sign returns header fields to put before the message, such as a DKIM signature of
	// exactly the bytes that it is given (Direct).
	Sign func(message io.Reader) ([]byte, error)

	// Fallback is tried when this way says that it cannot do it at all: SMTP AUTH
	// disabled for the mailbox (5.7.139), or recipients that an API cannot express.
	Fallback *Route
}

// Options shape a Carrier.
type Options struct {
	// Routes finds an account's way out. It is asked for each envelope. Required.
	Routes      func(account string) (Route, error)
	Hello       string // EHLO name; empty: "localhost", fit for submission only
	Timeouts    Timeouts
	Connections int           // at once to one destination; 0 means 4
	Messages    int           // on one connection; 0 means 100
	Idle        time.Duration // until an unused connection is closed; 0 means 15 s

	Resolver Resolver // Direct; nil: the system's
	Port     int      // Direct; 0 means 25

	HTTP *http.Client // Gmail, Graph; nil: one of our own
	// Network opens connections; nil: directly.
	Network func(ctx context.Context, network, address string) (net.Conn, error)
	Now     func() time.Time // nil: time.Now
	// Trace receives the SMTP dialogue without sign-in lines and without messages.
	Trace io.Writer
	Log   *slog.Logger // nil: none
}

// Timeouts bound the steps of a dialogue. Zero fields take the values of RFC 5321
// section 4.5.3.2.
type Timeouts struct {
	Connect  time.Duration // 30 s: the RFC names none
	Greeting time.Duration // 5 min, the TLS handshake too
	Command  time.Duration // 5 min
	Data     time.Duration // 2 min, from DATA to its 354
	Block    time.Duration // 3 min, one block of the message
	End      time.Duration // 10 min, from the final dot to the verdict
}

func (t Timeouts) filled() Timeouts {
	fill := func(d *time.Duration, standard time.Duration) {
		if *d <= 0 {
			*d = standard
		}
	}
	fill(&t.Connect, 30*time.Second)
	fill(&t.Greeting, 5*time.Minute)
	fill(&t.Command, 5*time.Minute)
	fill(&t.Data, 2*time.Minute)
	fill(&t.Block, 3*time.Minute)
	fill(&t.End, 10*time.Minute)
	return t
}

// A Carrier implements queue.Carrier. It is safe for concurrent use; what may go to
// one destination at the same time is bounded, the rest waits.
type Carrier struct {
	options Options
	pool    *pool
	traceMu sync.Mutex
}

// New returns a Carrier. Close ends its idle connections.
func New(o Options) *Carrier {
	o.Timeouts = o.Timeouts.filled()
	if o.Hello == "" {
		o.Hello = "localhost"
	}
	if o.Connections <= 0 {
		o.Connections = 4
	}
	if o.Messages <= 0 {
		o.Messages = 100
	}
	if o.Idle <= 0 {
		o.Idle = 15 * time.Second
	}
	if o.Port == 0 {
		o.Port = 25
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Resolver == nil {
		o.Resolver = SystemResolver(nil)
	}
	if o.HTTP == nil {
		o.HTTP = newHTTPClient(o.Network)
	}
	return &Carrier{options: o, pool: newPool(o.Connections, o.Idle)}
}

// Close says goodbye on the idle connections. Those in use end with their Carry.
func (c *Carrier) Close() error {
	c.pool.close()
	c.options.HTTP.CloseIdleConnections()
	return nil
}

// Carry implements queue.Carrier. message is read from its beginning, more than once. It
// has CRLF line ends, as package message gives it; other ones become CRLF on the wire,
// but such a message is not rewritten for a server that takes 7 bits only. Domains of
// one message are served side by side when it is an io.ReaderAt too.
func (c *Carrier) Carry(ctx context.Context, envelope queue.Envelope, message io.ReadSeeker) ([]queue.Outcome, error) {
	return c.CarryJournal(ctx, envelope, message, nil)
}

// CarryJournal implements queue.JournalCarrier: nothing is committed before the moment
// from which a server may have the message, and what is known of one destination is on
// disk while others are still talked to.
func (c *Carrier) CarryJournal(ctx context.Context, envelope queue.Envelope, message io.ReadSeeker, journal queue.Journal) ([]queue.Outcome, error) {
	if c.options.Routes == nil {
		return nil, fmt.Errorf("account %q: %w", envelope.Account, ErrRoute)
	}
	route, err := c.options.Routes(envelope.Account)
	if err != nil {
		return nil, fmt.Errorf("find the way out of account %q: %w", envelope.Account, err)
	}
	j, err := newJob(envelope, &content{source: message})
	if err != nil {
		return nil, err
	}
	j.journal = &journaling{to: journal, now: c.options.Now, log: c.options.Log}
	if err := c.carry(ctx, route, j); err != nil {
		return nil, err
	}
	return j.outcomes(c.options.Now()), nil
}

// carry takes the open recipients of j away on route, and on its fallback what the
// route cannot do at all.
func (c *Carrier) carry(ctx context.Context, route Route, j *job) error {
	if err := route.check(); err != nil {
		return err
	}
	var err error
	switch route.Way {
	case Submission:
		err = c.submit(ctx, route, j)
	case Direct:
		err = c.direct(ctx, route, j)
	case LMTP:
		err = c.lmtp(ctx, route, j)
	case Maildir:
		err = c.maildir(route, j)
	case Gmail:
		err = c.gmail(ctx, route, j)
	case Graph:
		err = c.graph(ctx, route, j)
	}
	if err != nil || route.Fallback == nil {
		return err
	}
	left := j.closedWay()
	if len(left.to) == 0 {
		return nil
	}
	j.journal.takeBack(left.to)
	for _, to := range left.to {
		to.answer = nil
	}
	c.options.Log.Info("way closed, taking the other one", "account", j.envelope.Account, "way", route.Way, "other", route.Fallback.Way)
	return c.carry(ctx, *route.Fallback, left)
}

func (r Route) check() error {
	switch r.Way {
	case Submission:
		return r.checkSubmission()
	case Gmail, Graph:
		if r.Tokens == nil {
			return fmt.Errorf("%w: %s needs a token", ErrRoute, r.Way)
		}
		return nil
	case LMTP:
		return checkSocket(r.Socket)
	case Maildir:
		if r.Folder == nil {
			return fmt.Errorf("%w: no Maildir is named", ErrRoute)
		}
		return nil
	case Direct:
		return nil
	}
	return fmt.Errorf("%w: no such way: %q", ErrRoute, r.Way)
}

package mailauth

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A Node is a Dovecot whose doveadm HTTP API takes orders.
type Node struct {
	Name string        // for people: "mx1"
	URL  string        // "https://mx1.example.org:8080/doveadm/v1"
	Key  secret.String // doveadm_api_key
	// Roots are the authorities of its certificate; nil: the system's.
	Roots *x509.CertPool
}

// PushOptions are what revocation by push needs.
type PushOptions struct {
	Nodes []Node
	// Transport carries the orders; nil: one with TLS 1.2 or later and system roots.
	Transport http.RoundTripper
	Log       *slog.Logger
	Now       func() time.Time
	// Again is after how long a node is told a second time; default 2 s. A client whose
	// sign-in was under way during the first time is caught by it.
	Again time.Duration
	// Retry is the first pause after a failure; it doubles up to 15 s. Default 500 ms.
	Retry time.Duration
	// Timeout bounds one order; default 4 s.
	Timeout time.Duration
}

// A NodeState is how far a node is.
type NodeState struct {
	Name string
	// Waiting are the users whose revocation the node has not confirmed.
	Waiting []string
	Since   time.Time // of the oldest that waits
	Tried   time.Time
	Error   string // what the last try said; empty when it went well
}

// Confirmed reports whether the node has carried out everything.
func (s NodeState) Confirmed() bool { return len(s.Waiting) == 0 }

// A Push tells every Dovecot that rights are gone: its authentication cache is flushed
// whole (flushing a user leaves tokens in it), and the user's sessions are ended. It
// goes on until each node has confirmed.
//
// What waits is kept in memory. Whoever starts a Push tells it once more about the
// revocations of the last hour, from the audit trail: an order twice does no harm.
type Push struct {
	o     PushOptions
	nodes []*node
}

type node struct {
	Node
	transport http.RoundTripper
	wake      chan struct{} // holds one

	mu      sync.Mutex
	waiting map[string]*order
	tried   time.Time
	err     error
}

// An order is a user to be thrown out of one node.
type order struct {
	since time.Time
	due   time.Time // of the second time; zero: the first has not succeeded
	again bool      // came again meanwhile: begin anew
}

// NewPush returns a Push for the nodes; Run carries out what Revoke asks for.
func NewPush(o PushOptions) *Push {
	if o.Transport == nil {
		o.Transport = doveadmTransport()
	}
	if o.Again == 0 {
		o.Again = 2 * time.Second
	}
	if o.Retry == 0 {
		o.Retry = 500 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = 4 * time.Second
	}
	p := &Push{o: o}
	for _, n := range o.Nodes {
		transport := o.Transport
		if n.Roots != nil {
			own := doveadmTransport()
			own.TLSClientConfig.RootCAs = n.Roots
			transport = own
		}
		p.nodes = append(p.nodes, &node{Node: n, transport: transport, wake: make(chan struct{}, 1), waiting: map[string]*order{}})
	}
	return p
}

// Revoke has the users' sessions ended on every node: all names that a person signs in
// with. It returns at once; State tells how far it has come.
func (p *Push) Revoke(users ...string) {
	now := p.o.Now()
	for _, n := range p.nodes {
		n.mu.Lock()
		for _, user := range users {
			if user == "" || strings.ContainsAny(user, "\x00\r\n\t") {
				continue // no such session can be
			}
			if o := n.waiting[user]; o != nil {
				o.again = true
				continue
			}
			n.waiting[user] = &order{since: now}
		}
		n.mu.Unlock()
		n.nudge()
	}
}

func (n *node) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// State tells how far each node is, in the order of the configuration.
func (p *Push) State() []NodeState {
	states := make([]NodeState, 0, len(p.nodes))
	for _, n := range p.nodes {
		n.mu.Lock()
		s := NodeState{Name: n.Name, Tried: n.tried}
		for user, o := range n.waiting {
			s.Waiting = append(s.Waiting, user)
			if s.Since.IsZero() || o.since.Before(s.Since) {
				s.Since = o.since
			}
		}
		if n.err != nil {
			s.Error = n.err.Error()
		}
		n.mu.Unlock()
		slices.Sort(s.Waiting)
		states = append(states, s)
	}
	return states
}

// Unconfirmed names the nodes where any of the users may still have a session.
func (p *Push) Unconfirmed(users ...string) []string {
	var names []string
	for _, s := range p.State() {
		if slices.ContainsFunc(users, func(user string) bool { return slices.Contains(s.Waiting, user) }) {
			names = append(names, s.Name)
		}
	}
	return names
}

// Run carries out the orders until ctx ends. One node that is away holds up no other.
func (p *Push) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, n := range p.nodes {
		all.Go(func() { p.serve(ctx, n) })
	}
	all.Wait()
	return nil
}

func (p *Push) serve(ctx context.Context, n *node) {
	pause := p.o.Retry
	for {
		users, wait := n.due(p.o.Now())
		if len(users) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-n.wake:
			case <-after(wait):
			}
			continue
		}
		err := p.tell(ctx, n, users)
		if ctx.Err() != nil {
			return
		}
		n.done(users, p.o.Now(), p.o.Again, err)
		if err == nil {
			p.o.Log.Info("revocation told", "node", n.Name, "users", len(users))
			pause = p.o.Retry
			continue
		}
		p.o.Log.Warn("revocation not confirmed", "node", n.Name, "users", len(users), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, 15*time.Second)
	}
}

// after is a channel that speaks after wait; never when wait is 0.
func after(wait time.Duration) <-chan time.Time {
	if wait == 0 {
		return nil
	}
	return time.After(wait)
}

// maxBatch bounds one order; the rest follows in the next.
const maxBatch = 100

// due returns the users to tell the node about now, or how long to wait for the next.
func (n *node) due(now time.Time) (users []string, wait time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for user, o := range n.waiting {
		if left := o.due.Sub(now); !o.due.IsZero() && !o.again && left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		if len(users) < maxBatch {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	// What comes again from here on begins anew; before, this round serves it.
	for _, user := range users {
		if o := n.waiting[user]; o.again {
			o.again, o.due = false, time.Time{}
		}
	}
	return users, wait
}

// done notes how an order went.
func (n *node) done(users []string, now time.Time, again time.Duration, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tried, n.err = now, err
	if err != nil {
		return
	}
	for _, user := range users {
		switch o := n.waiting[user]; {
		case o.again:
		case o.due.IsZero():
			o.due = now.Add(again)
		default:
			delete(n.waiting, user)
		}
	}
}

// tell gives one order: the cache first, so that nobody who is thrown out comes back
// by it.
func (p *Push) tell(ctx context.Context, n *node, users []string) error {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	commands := [][]any{{"authCacheFlush", map[string]any{"user": []string{}}, "flush"}}
	for i, user := range users {
		commands = append(commands, []any{"kick", map[string]any{"mask": []string{maskOf(user)}}, fmt.Sprintf("kick%d", i)})
	}
	answers, err := callDoveadm(ctx, n.transport, n.Node, commands)
	if err != nil {
		return err
	}
	return confirmed(answers, commands)
}

// maskOf is the mask that has a user kicked. Doveadm takes masks and no way to write a
// star that is one, and addresses may have stars: "*@example.org" would throw out
// everybody. A question mark stands for itself and for any one character; whoever else is
// met by it, a name of the same length, signs in again.
func maskOf(user string) string { return strings.ReplaceAll(user, "*", "?") }

// errNotConfirmed means that a node answered and did not do what it was told.
var errNotConfirmed = errors.New("not confirmed")

// confirmed wants an answer to each command: done, or for a kick that there was nobody.
func confirmed(answers map[string]doveadmAnswer, commands [][]any) error {
	for _, c := range commands {
		name, tag := c[0].(string), c[2].(string)
		a, ok := answers[tag]
		switch {
		case !ok:
			return fmt.Errorf("%s: %w: no answer", name, errNotConfirmed)
		case a.ok, name == "kick" && a.code == exitNobody:
		default:
			return fmt.Errorf("%s: %w: %s, exit code %d", name, errNotConfirmed, a.kind, a.code)
		}
	}
	return nil
}

// Package agent is the service that stays: it drains the queue, renews tokens ahead of
// their end, tells a person when one is needed, and answers on a Unix socket so that
// other processes know that it is there. Everything works without it, only later and
// unseen.
//
//	Run -> drain (queue and carrier, from main)   again after a pause when it breaks
//	    -> renew (account)                        every minute by the wall clock
//	    -> serve (socket)                         JSON lines, peers of our own uid only
//	    |    `-> Notifier: argv hook, no secrets
//	    -> services (from main)                   the system's: intake, mail of anybody
//
// It holds the keys that a person has unlocked (key source passphrase), in memory alone:
// after a restart they are locked again. It never asks a person itself: a command in a
// terminal does, and hands over what it has unlocked.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
)

// An Accounts hands out tokens: *account.Manager.
type Accounts interface {
	List() ([]string, error)
	Token(ctx context.Context, name string, want account.Want) (account.Access, error)
}

// Options are what an agent does its work with.
type Options struct {
	// Drains send mail until ctx ends: queue.Drain of each queue with everything it needs.
	Drains []func(ctx context.Context) error
	// Services run as long as the agent; one that fails ends it.
	Services []func(ctx context.Context) error
	Accounts Accounts
	Listener net.Listener // nil: nothing is served
	Notifier *Notifier    // nil: nobody is told
	Keys     *tokenstore.Held
	Unlocked func(ctx context.Context) // called after a key was given: what waits for one can go on
	Ahead    time.Duration
	Now      func() time.Time
	Log      *slog.Logger
	Ready    func() // called when everything runs
}

// An Agent is the service.
type Agent struct {
	o       Options
	mu      sync.Mutex
	started time.Time
	states  map[string]AccountState
	wake    chan struct{} // a key was given
}

// An AccountState is what the agent last knew of an account.
type AccountState struct {
	Until   time.Time `json:"until"` // of its access token
	Problem string    `json:"problem,omitempty"`
	SignIn  bool      `json:"sign_in,omitempty"`
	Locked  bool      `json:"locked,omitempty"` // its key
}

// Bounds of the agent's patience. A minute is short beside every token's life, and
// what a clock that stood still in suspend costs at most.
const (
	tick         = time.Minute
	defaultAhead = 10 * time.Minute
	drainPause   = time.Minute
)

// New makes an agent.
func New(o Options) *Agent {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Ahead == 0 {
		o.Ahead = defaultAhead
	}
	return &Agent{o: o, states: map[string]AccountState{}, wake: make(chan struct{}, 1)}
}

// Run works until ctx ends, and returns when everything it began is over. The error
// is nil then, or what makes it impossible to serve.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.started = a.o.Now()
	var work sync.WaitGroup
	for _, drain := range a.o.Drains {
		work.Go(func() { a.drain(ctx, drain) })
	}
	work.Go(func() { a.renew(ctx) })
	services := slices.Clone(a.o.Services)
	if a.o.Listener != nil {
		services = append(services, a.serve)
	}
	served := make([]error, len(services))
	for i, service := range services {
		work.Go(func() {
			if served[i] = service(ctx); served[i] != nil {
				cancel()
			}
		})
	}
	if a.o.Ready != nil {
		a.o.Ready()
	}
	<-ctx.Done()
	work.Wait()
	return errors.Join(served...)
}

// drain keeps a queue draining. Only a fault of the machine ends a drain early: a
// full disk, a queue folder with wrong rights.
func (a *Agent) drain(ctx context.Context, drain func(context.Context) error) {
	for {
		if err := drain(ctx); err != nil && ctx.Err() == nil {
			a.o.Log.Error("drain the queue", "error", err)
		}
		if !pause(ctx, drainPause) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

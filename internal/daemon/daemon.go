// Package daemon is what every long-running program needs of its machine: services that
// are started together and stopped in reverse order, sockets that a service manager has
// opened, readiness, the uid at the other end of a Unix socket, and certificates that
// are read again when they change.
//
//	main -> Sockets (inherited) | ListenUnix, ListenTCP
//	     -> Run: services up in order ... ctx ends ... down in reverse order
//
// It reads no configuration and logs to the logger that it is given. coreos/go-systemd
// does the sockets and the readiness too; with it come three modules for sixty lines, and
// its listeners lose the names that tell four sockets apart once one of them fails.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// A Service is one part of a daemon. Run works until ctx ends and returns nil then; an
// error before that ends the whole daemon.
type Service struct {
	Name string
	Run  func(ctx context.Context) error
}

// ErrStuck means that a service did not stop within the time it was given.
var ErrStuck = errors.New("did not stop in time")

// Run runs the services until ctx ends or one of them fails. They are stopped one by one
// in reverse order, so that what others stand on goes last; each has patience to finish
// what it has taken on. ready is called once all were started.
func Run(ctx context.Context, log *slog.Logger, patience time.Duration, ready func(), services ...Service) error {
	g := &group{log: log, failed: make(chan error, len(services))}
	for _, service := range services {
		g.start(ctx, service)
	}
	if ready != nil {
		ready()
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-g.failed:
	}
	return errors.Join(first, g.stop(patience))
}

type running struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

type group struct {
	log    *slog.Logger
	failed chan error
	all    []*running
}

func (g *group) start(parent context.Context, s Service) {
	// A service ends by its own cancel and not by the parent's: the order is ours.
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	r := &running{name: s.Name, cancel: cancel, done: make(chan struct{})}
	g.all = append(g.all, r)
	go func() {
		defer close(r.done)
		err := s.Run(ctx)
		if ctx.Err() == nil {
			// It ended although nobody asked for that.
			if err == nil {
				err = errors.New("ended by itself")
			}
			g.failed <- fmt.Errorf("%s: %w", s.Name, err)
			return
		}
		r.err = err
	}()
}

func (g *group) stop(patience time.Duration) error {
	var problems []error
	for i := len(g.all) - 1; i >= 0; i-- {
		r := g.all[i]
		r.cancel()
		timer := time.NewTimer(patience)
		select {
		case <-r.done:
			if r.err != nil {
				problems = append(problems, fmt.Errorf("stop %s: %w", r.name, r.err))
			}
		case <-timer.C:
			problems = append(problems, fmt.Errorf("stop %s: %w", r.name, ErrStuck))
		}
		timer.Stop()
		g.log.Debug("service stopped", "service", r.name)
	}
	return errors.Join(problems...)
}

// Every calls work at once and then after each pause, until ctx ends. Errors are logged
// and do not end it: what a sweep could not do now, the next one does.
func Every(pause time.Duration, log *slog.Logger, name string, work func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		timer := time.NewTimer(0)
		defer timer.Stop()
		var said sync.Once
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
			if err := work(ctx); err != nil && ctx.Err() == nil {
				log.Warn("periodic work failed", "work", name, "error", err)
			} else {
				said.Do(func() { log.Debug("periodic work done", "work", name) })
			}
			timer.Reset(pause)
		}
	}
}

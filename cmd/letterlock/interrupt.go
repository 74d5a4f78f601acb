package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// interrupts is a context that ends with an interrupt, a hangup or a request to
// terminate. It takes these signals over when somebody begins to wait for its end and
// not before: until then they do to us what they do to any program. Taking them over
// costs goroutines and a thread, which `letterlock token` would pay for nothing, and a
// program that still reads its standard input can only be interrupted by their own
// action.
type interrupts struct {
	once     sync.Once
	listener atomic.Pointer[context.Context] // nil until somebody waits
}

// Done begins to listen.
func (i *interrupts) Done() <-chan struct{} {
	i.once.Do(func() {
		// Never given back: the signals are ours until the process ends.
		ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		i.listener.Store(&ctx)
	})
	return (*i.listener.Load()).Done()
}

func (i *interrupts) heard() context.Context {
	if ctx := i.listener.Load(); ctx != nil {
		return *ctx
	}
	return context.Background()
}

// Err is nil as long as nobody listens: a signal would have ended the process.
func (i *interrupts) Err() error { return i.heard().Err() }

// Value is for context.Cause, which finds the signal by it.
func (i *interrupts) Value(key any) any { return i.heard().Value(key) }

// Deadline is none.
func (i *interrupts) Deadline() (time.Time, bool) { return time.Time{}, false }

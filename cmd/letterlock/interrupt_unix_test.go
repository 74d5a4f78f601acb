//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// A signal ends the context of who waits for it, and of what was derived before.
func TestInterrupts(t *testing.T) {
	i := &interrupts{}
	if i.listener.Load() != nil || i.Err() != nil || context.Cause(i) != nil || i.listener.Load() != nil {
		t.Fatal("it listens before anybody waits")
	}
	type key struct{}
	plain := context.WithValue(i, key{}, 1)
	if plain.Err() != nil || i.listener.Load() != nil {
		t.Fatal("a value is no reason to listen")
	}
	derived, cancel := context.WithTimeout(plain, time.Hour)
	defer cancel()
	if i.listener.Load() == nil {
		t.Fatal("nobody listens though somebody waits")
	}
	defer signal.Reset(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-derived.Done()
	<-i.Done()
	if !errors.Is(i.Err(), context.Canceled) || context.Cause(derived) == nil || context.Cause(i) == nil {
		t.Errorf("%v, cause %v and %v", i.Err(), context.Cause(i), context.Cause(derived))
	}
}

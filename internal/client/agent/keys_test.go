package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
)

func identityText(t *testing.T) (text []byte, recipient string) {
	t.Helper()
	text, recipient, err := tokenstore.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return text, recipient
}

// Keys are given to the agent, asked of it, and forgotten.
func TestKeys(t *testing.T) {
	path := servingKeys(t, Options{Keys: &tokenstore.Held{}})
	keys := Keys{Path: path}
	text, recipient := identityText(t)
	if got, err := keys.Key(t.Context(), recipient); err != nil || got != nil {
		t.Errorf("a key that nobody gave: %q, %v", got, err)
	}
	if err := keys.Hold(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if got, err := keys.Key(t.Context(), recipient); err != nil || string(got) != string(text) {
		t.Errorf("not the key that was given: %v", err)
	}
	if status, err := Ask(t.Context(), path, "status"); err != nil || status.Keys != 1 || status.Identity != nil {
		t.Errorf("status: %d keys, %v", status.Keys, err)
	}
	if err := keys.Hold(t.Context(), []byte("nonsense")); err == nil {
		t.Error("nonsense was held")
	}
	if n, err := keys.Lock(t.Context()); err != nil || n != 1 {
		t.Errorf("Lock = %d, %v", n, err)
	}
	if got, err := keys.Key(t.Context(), recipient); err != nil || got != nil {
		t.Errorf("after Lock: %q, %v", got, err)
	}
	none := Keys{Path: servingKeys(t, Options{})}
	if err := none.Hold(t.Context(), text); err == nil {
		t.Error("an agent without a place for keys took one")
	}
}

func servingKeys(t *testing.T, o Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	listener, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	o.Listener = listener
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- New(o).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

// An agent that is stopped costs a command two seconds of its five.
func TestKeyOfAStoppedAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	began := time.Now()
	if got, err := (Keys{Path: path}).Key(t.Context(), "age1x"); err == nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
	if took := time.Since(began); took > time.Minute || keyTime > 3*time.Second {
		t.Errorf("it took %v; a command alone must end within five seconds", took)
	}
}

// A locked key is told once, and one that is given has the account renewed at once.
func TestLockedKey(t *testing.T) {
	folder := t.TempDir()
	hook := filepath.Join(folder, "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$@\" >> "+folder+"/told\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	locked := &tokenstore.LockedError{What: "locked", How: "letterlock agent unlock"}
	accounts := &fakeAccounts{life: time.Hour, expiry: map[string]time.Time{"a": {}}, err: map[string]error{"a": fmt.Errorf("key source: %w", locked)}}
	a := New(Options{Accounts: accounts, Keys: &tokenstore.Held{}, Notifier: &Notifier{Command: []string{hook}, Now: time.Now, Line: strings.TrimSpace}})
	for range 2 {
		if wait := a.renewOne(t.Context(), "a"); wait != 5*tick {
			t.Errorf("looks at a locked key again after %v", wait)
		}
	}
	if got, err := os.ReadFile(folder + "/told"); err != nil || string(got) != "locked a its key is locked: nothing is renewed or sent: letterlock agent unlock\n" {
		t.Errorf("told %q, %v", got, err)
	}
	if names := a.lockedAccounts(); len(names) != 1 || names[0] != "a" {
		t.Errorf("locked: %q", names)
	}
}

func TestUnlockingWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accounts := &fakeAccounts{life: time.Hour, expiry: map[string]time.Time{"a": {}}, err: map[string]error{"a": &tokenstore.LockedError{}}}
		resumed := 0
		a := New(Options{Accounts: accounts, Keys: &tokenstore.Held{}, Unlocked: func(context.Context) { resumed++ }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		<-time.After(10 * time.Second)
		accounts.mu.Lock()
		accounts.err = nil
		accounts.mu.Unlock()
		text, _ := identityText(t)
		line, _ := json.Marshal(Request{Version: Version, Do: doHold, Identity: text})
		if answer := a.answer(line); answer.Error != "" {
			t.Error(answer.Error)
		}
		synctest.Wait() // no time has passed
		if accounts.issued != 1 || resumed != 1 {
			t.Errorf("%d tokens, queue resumed %d times", accounts.issued, resumed)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

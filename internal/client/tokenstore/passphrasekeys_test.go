package tokenstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

const goodPassphrase = "correct horse c4n4ry"

// typist answers prompts with these lines and then gives up.
type typist struct {
	lines   []string
	prompts []string
}

var errGaveUp = errors.New("interrupted")

func (p *typist) ask(_ context.Context, prompt string) (secret.String, error) {
	p.prompts = append(p.prompts, prompt)
	if len(p.lines) == 0 {
		return secret.String{}, errGaveUp
	}
	line := p.lines[0]
	p.lines = p.lines[1:]
	return secret.New(line), nil
}

func typed(folder string, holder Keyholder, lines ...string) (*PassphraseKeys, *typist) {
	person := &typist{lines: lines}
	keys := NewPassphrase(folder, "passphrase", holder, person.ask)
	keys.workFactor = 4
	return keys, person
}

func TestPassphrase(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	keys, person := typed(folder, nil, "short", goodPassphrase, "not the same", goodPassphrase, goodPassphrase)
	if _, err := keys.Recipient(); !errors.Is(err, ErrNoKey) {
		t.Errorf("Recipient before Create: %v, want ErrNoKey", err)
	}
	if _, err := keys.Identity(t.Context()); !errors.Is(err, ErrNoKey) || len(person.prompts) != 0 {
		t.Errorf("Identity before Create: %v after %q, want ErrNoKey", err, person.prompts)
	}
	for range 2 {
		if err := keys.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(person.prompts) != 5 {
		t.Errorf("asked %d times: %q", len(person.prompts), person.prompts)
	}
	wantPair(t, keys)
	wantSealed(t, folder, secretPrefix)
	wantSealed(t, folder, "c4n4ry")

	// The next process is asked, and a slip is forgiven.
	next, person := typed(folder, nil, "", "wrong one", goodPassphrase)
	wantPair(t, next)
	wantPair(t, next)
	if len(person.prompts) != 3 {
		t.Errorf("the next process asked %d times", len(person.prompts))
	}

	// Killed between its files: the public half comes back out of the private one.
	before, _ := next.folder.read("passphrase.pub")
	if err := os.Remove(filepath.Join(folder, "passphrase.pub")); err != nil {
		t.Fatal(err)
	}
	again, _ := typed(folder, nil, goodPassphrase)
	if err := again.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, _ := next.folder.read("passphrase.pub"); string(after) != string(before) || len(after) == 0 {
		t.Errorf("the public half is %q, was %q", after, before)
	}
}

func TestPassphraseLocked(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	var how *LockedError
	alone := NewPassphrase(folder, "passphrase", nil, nil)
	if err := alone.Create(t.Context()); !errors.Is(err, ErrLocked) || !errors.As(err, &how) || how.How == "" {
		t.Errorf("Create with nobody there: %v", err)
	}
	keys, _ := typed(folder, nil, goodPassphrase, goodPassphrase)
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := alone.Identity(t.Context()); !errors.Is(err, ErrLocked) || !errors.As(err, &how) || !strings.Contains(how.How, "agent unlock") {
		t.Errorf("Identity with nobody there: %v", err)
	}
	// Three wrong ones, and a person who gives up, are each asked for once.
	for _, lines := range [][]string{{"wrong one", "wrong two", "wrong three", goodPassphrase}, {}} {
		keys, person := typed(folder, nil, lines...)
		for range 3 {
			if _, err := keys.Identity(t.Context()); !errors.Is(err, ErrLocked) || strings.Contains(err.Error(), "wrong one") {
				t.Errorf("%q: %v, want ErrLocked", lines, err)
			}
		}
		if want := max(1, min(len(lines), passphraseTries)); len(person.prompts) != want {
			t.Errorf("%q: asked %d times, want %d", lines, len(person.prompts), want)
		}
	}
	// Being told to end is no locked key.
	ended, stop := context.WithCancel(t.Context())
	stop()
	keys = NewPassphrase(folder, "passphrase", nil, func(ctx context.Context, _ string) (secret.String, error) { return secret.String{}, ctx.Err() })
	if _, err := keys.Identity(ended); !errors.Is(err, context.Canceled) || errors.Is(err, ErrLocked) {
		t.Errorf("Identity in an ended context: %v", err)
	}
}

func TestPassphraseIsHeld(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	holder := &Held{}
	keys, _ := typed(folder, holder, goodPassphrase, goodPassphrase)
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Created is unlocked: nobody is asked for what was typed a moment ago.
	alone := NewPassphrase(folder, "passphrase", holder, nil)
	wantPair(t, alone)
	if held, err := alone.Held(t.Context()); err != nil || !held || holder.Count() != 1 {
		t.Errorf("Held = %v, %v, count %d", held, err, holder.Count())
	}
	if n := holder.Forget(); n != 1 {
		t.Errorf("Forget = %d", n)
	}
	if _, err := alone.Identity(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("after Forget: %v, want ErrLocked", err)
	}
	// The first who is asked unlocks it for all.
	asked, _ := typed(folder, holder, goodPassphrase)
	wantPair(t, asked)
	wantPair(t, alone)
	// What the holder says is believed only if it is the key.
	for what, text := range map[string]string{"nonsense": "nonsense", "another key": string(formatIdentity(newIdentity(t)))} {
		if _, err := NewPassphrase(folder, "passphrase", liar(text), nil).Identity(t.Context()); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v, want ErrLocked", what, err)
		}
	}
}

// An agent that is stuck is waited for once in the life of a process.
func TestStuckKeyholder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	keys, _ := typed(folder, nil, goodPassphrase, goodPassphrase)
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	stuck := &stuckHolder{}
	alone := NewPassphrase(folder, "passphrase", stuck, nil)
	for range 3 {
		if _, err := alone.Identity(t.Context()); !errors.Is(err, ErrLocked) {
			t.Errorf("%v, want ErrLocked", err)
		}
	}
	if stuck.asked != 1 {
		t.Errorf("asked %d times", stuck.asked)
	}
}

type stuckHolder struct{ asked int }

func (s *stuckHolder) Key(context.Context, string) ([]byte, error) {
	s.asked++
	return nil, context.DeadlineExceeded
}
func (s *stuckHolder) Hold(context.Context, []byte) error { return context.DeadlineExceeded }

// A liar holds whatever it likes.
type liar string

func (l liar) Key(context.Context, string) ([]byte, error) { return []byte(l), nil }
func (l liar) Hold(context.Context, []byte) error          { return errors.New("no") }

func TestPassphraseDamaged(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	keys, _ := typed(folder, nil, goodPassphrase, goodPassphrase)
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "passphrase.age")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(good)
	changed[len(changed)-1] ^= 1
	for what, data := range map[string][]byte{"empty": {}, "cut": good[:len(good)-20], "changed": changed, "no age": []byte("hello\n")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		keys, _ := typed(folder, nil, goodPassphrase)
		if _, err := keys.Identity(t.Context()); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: %v, want ErrNoKey", what, err)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != string(data) || keys.Create(t.Context()) != nil {
			t.Errorf("%s: Create replaced the file: %v", what, err)
		}
	}
}

// Two sections do not share a key.
func TestSectionsHaveKeysOfTheirOwn(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	var seen []string
	for _, name := range []string{"passphrase", "Work/one", "home"} {
		person := &typist{lines: []string{goodPassphrase, goodPassphrase}}
		keys := NewPassphrase(folder, name, nil, person.ask)
		keys.workFactor = 4
		if err := keys.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		recipient, err := keys.folder.recipient(keys.public)
		if err != nil || slices.Contains(seen, recipient.String()) {
			t.Errorf("%s: %v, %v", name, recipient, err)
		}
		seen = append(seen, recipient.String())
	}
}

func TestHeldIsBounded(t *testing.T) {
	held := &Held{}
	if err := held.Hold(t.Context(), []byte("nonsense")); err == nil {
		t.Error("nonsense was held")
	}
	for range heldLimit {
		if err := held.Hold(t.Context(), formatIdentity(newIdentity(t))); err != nil {
			t.Fatal(err)
		}
	}
	if err := held.Hold(t.Context(), formatIdentity(newIdentity(t))); err == nil {
		t.Error("memory is without bounds")
	}
}

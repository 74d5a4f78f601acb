package tokenstore

import (
	"context"
	"fmt"
	"sync"

	"filippo.io/age"
)

// A Keyholder keeps identities that a person has unlocked, so that nobody is asked
// twice: the agent, the way to it, or this process' memory. Texts are identity files
// as formatIdentity writes them; whoever gets one clears it after use.
type Keyholder interface {
	// Key returns the private half of recipient, nil when it is not held.
	Key(ctx context.Context, recipient string) ([]byte, error)
	// Hold keeps an identity until the process ends or is told to forget it.
	Hold(ctx context.Context, identity []byte) error
}

// Held is a Keyholder in memory; the zero value holds nothing. An identity is filed
// under its own public half, so that nobody can put another in its place.
type Held struct {
	mu   sync.Mutex
	keys map[string]*age.X25519Identity
}

// Key implements Keyholder.
func (h *Held) Key(_ context.Context, recipient string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	identity := h.keys[recipient]
	if identity == nil {
		return nil, nil
	}
	return formatIdentity(identity), nil
}

// heldLimit is far above what one user has key sources.
const heldLimit = 100

// Hold implements Keyholder.
func (h *Held) Hold(_ context.Context, identity []byte) error {
	parsed, err := parseIdentity(identity)
	if err != nil {
		return fmt.Errorf("hold a key: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keys == nil {
		h.keys = map[string]*age.X25519Identity{}
	}
	recipient := parsed.Recipient().String()
	if h.keys[recipient] == nil && len(h.keys) >= heldLimit {
		return fmt.Errorf("hold a key: there are %d already", len(h.keys))
	}
	h.keys[recipient] = parsed
	return nil
}

// Count says how many are held.
func (h *Held) Count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.keys)
}

// Forget drops all of them and says how many there were. Go gives no way to overwrite
// what an age identity keeps: the memory is unreachable now and overwritten when it is
// used again.
func (h *Held) Forget() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	count := len(h.keys)
	h.keys = nil
	return count
}

// Watch tells of each time that a private half was asked for, and what came of it.
func Watch(keys Keys, tell func(error)) Keys { return watchedKeys{keys, tell} }

type watchedKeys struct {
	Keys
	tell func(error)
}

// Identity implements Keys.
func (w watchedKeys) Identity(ctx context.Context) (age.Identity, error) {
	identity, err := w.Keys.Identity(ctx)
	w.tell(err)
	return identity, err
}

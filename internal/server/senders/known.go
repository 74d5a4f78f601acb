package senders

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Standing tells how far what was once read from the store may be trusted;
// credential.Door has it. The epoch changes with every change that may have taken a
// right away; away: the store did not answer when it was asked last; good: what was read
// in this epoch may be used while it is away.
type Standing interface {
	Standing() (epoch uint64, away, good bool)
}

// KnownOptions are what a Known needs.
type KnownOptions struct {
	Store    Store
	Standing Standing
	Log      *slog.Logger
	// Timeout bounds one question to the store; default 3 s. Of several in a row the
	// first that is not answered has the store counted as away.
	Timeout time.Duration
	// Entries are the answers kept, of each kind; default 50,000.
	Entries int
}

// A Known is a Store that outlives the one behind it for a while: whoever signed in by
// what was known can go on sending as themselves while the database is away. It asks the
// store each time, and falls back on what that said last; never on what it said before
// the last change that took a right away.
type Known struct {
	o KnownOptions

	mu    sync.Mutex
	there recent // what was found
	none  recent // what was not, apart: guessing at addresses must not push out people
}

// NewKnown returns a Known on o.Store.
func NewKnown(o KnownOptions) *Known {
	if o.Timeout == 0 {
		o.Timeout = 3 * time.Second
	}
	if o.Entries == 0 {
		o.Entries = 50_000
	}
	return &Known{o: o, there: newRecent(o.Entries), none: newRecent(o.Entries)}
}

// Address implements Store.
func (k *Known) Address(ctx context.Context, address string) (identity.Address, error) {
	return ask(ctx, k, question{"address", address}, func(ctx context.Context) (identity.Address, error) { return k.o.Store.Address(ctx, address) })
}

// Person implements Store.
func (k *Known) Person(ctx context.Context, id identity.PersonID) (identity.Person, error) {
	return ask(ctx, k, question{"person", string(id)}, func(ctx context.Context) (identity.Person, error) { return k.o.Store.Person(ctx, id) })
}

// PersonByAddress implements Store.
func (k *Known) PersonByAddress(ctx context.Context, address string) (identity.Person, error) {
	return ask(ctx, k, question{"person by address", address}, func(ctx context.Context) (identity.Person, error) { return k.o.Store.PersonByAddress(ctx, address) })
}

// Credentials implements Store.
func (k *Known) Credentials(ctx context.Context, id identity.PersonID) ([]identity.Credential, error) {
	return ask(ctx, k, question{"credentials", string(id)}, func(ctx context.Context) ([]identity.Credential, error) { return k.o.Store.Credentials(ctx, id) })
}

// GrantsOf implements Store.
func (k *Known) GrantsOf(ctx context.Context, id identity.PersonID) ([]identity.Grant, error) {
	return ask(ctx, k, question{"grants", string(id)}, func(ctx context.Context) ([]identity.Grant, error) { return k.o.Store.GrantsOf(ctx, id) })
}

// A question is one look-up: its kind and its key.
type question struct{ kind, key string }

// An answer is what the store said to a question, and in which epoch.
type answer struct {
	question question
	epoch    uint64
	value    any
	err      error // nil, or that there is nothing of the kind
}

func ask[T any](ctx context.Context, k *Known, q question, look func(context.Context) (T, error)) (T, error) {
	// From before the question: what comes may be older than the next epoch.
	epoch, away, _ := k.o.Standing.Standing()
	if away {
		if old, ok := k.last(q); ok {
			value, _ := old.value.(T)
			return value, old.err
		}
	}
	asking, cancel := context.WithTimeout(ctx, k.o.Timeout)
	defer cancel()
	value, err := look(asking)
	if err == nil || errors.Is(err, identity.ErrNotFound) {
		k.keep(answer{q, epoch, value, err})
		return value, err
	}
	if old, ok := k.last(q); ok {
		k.o.Log.Warn("store away: the last answer is used", "question", q.kind, "error", err)
		value, _ := old.value.(T)
		return value, old.err
	}
	return value, err
}

// last is what was said to a question in the present epoch, while that may be used.
func (k *Known) last(q question) (answer, bool) {
	epoch, _, good := k.o.Standing.Standing()
	k.mu.Lock()
	defer k.mu.Unlock()
	old, ok := k.there.get(q)
	if !ok {
		old, ok = k.none.get(q)
	}
	return old, ok && good && old.epoch == epoch
}

func (k *Known) keep(a answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a.err != nil {
		k.there.drop(a.question)
		k.none.put(a)
		return
	}
	k.none.drop(a.question)
	k.there.put(a)
}

// Run asks again for what was in use whenever the epoch changes, so that an outage right
// after somebody's revocation finds the others known, until ctx ends.
func (k *Known) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var done uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if epoch, away, _ := k.o.Standing.Standing(); epoch != done && !away {
			done = epoch
			k.refresh(ctx, epoch)
		}
	}
}

// refreshed is how many answers a new epoch asks for ahead of their next use.
const refreshed = 2_000

// refresh asks again for the answers used last; it stops at the first fault, and when
// the epoch is over.
func (k *Known) refresh(ctx context.Context, epoch uint64) {
	k.mu.Lock()
	questions := append(k.there.latest(refreshed), k.none.latest(refreshed)...)
	k.mu.Unlock()
	for _, q := range questions {
		now, away, _ := k.o.Standing.Standing()
		if now != epoch || away || ctx.Err() != nil || !k.again(ctx, q) {
			return
		}
	}
}

func (k *Known) again(ctx context.Context, q question) bool {
	var err error
	switch q.kind {
	case "address":
		_, err = k.Address(ctx, q.key)
	case "person":
		_, err = k.Person(ctx, identity.PersonID(q.key))
	case "person by address":
		_, err = k.PersonByAddress(ctx, q.key)
	case "credentials":
		_, err = k.Credentials(ctx, identity.PersonID(q.key))
	case "grants":
		_, err = k.GrantsOf(ctx, identity.PersonID(q.key))
	}
	return err == nil || errors.Is(err, identity.ErrNotFound)
}

// recent keeps the answers used last, a fixed number of them.
type recent struct {
	limit int
	by    map[question]*list.Element
	order *list.List // front: used last
}

func newRecent(limit int) recent {
	return recent{limit: limit, by: map[question]*list.Element{}, order: list.New()}
}

func (r *recent) get(q question) (answer, bool) {
	element, ok := r.by[q]
	if !ok {
		return answer{}, false
	}
	r.order.MoveToFront(element)
	return element.Value.(answer), true
}

func (r *recent) put(a answer) {
	if element, ok := r.by[a.question]; ok {
		element.Value = a
		r.order.MoveToFront(element)
		return
	}
	if r.order.Len() >= r.limit {
		r.drop(r.order.Back().Value.(answer).question)
	}
	r.by[a.question] = r.order.PushFront(a)
}

func (r *recent) drop(q question) {
	if element, ok := r.by[q]; ok {
		delete(r.by, q)
		r.order.Remove(element)
	}
}

// latest are the questions used last, the oldest of them first: asked again in this
// order they keep it.
func (r *recent) latest(most int) []question {
	questions := make([]question, 0, min(most, r.order.Len()))
	for element := r.order.Front(); element != nil && len(questions) < most; element = element.Next() {
		questions = append(questions, element.Value.(answer).question)
	}
	for i, j := 0, len(questions)-1; i < j; i, j = i+1, j-1 {
		questions[i], questions[j] = questions[j], questions[i]
	}
	return questions
}

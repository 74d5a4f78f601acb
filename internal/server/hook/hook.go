// Package hook runs an administrator's program when a person or an address was made,
// changed, disabled, enabled or deleted, whoever did it: import, directory, sign-in, shell
// or page. It reads the audit trail, which all of them write.
//
//	audit trail --> Runner --(one instance at a time, each event claimed)--> program
//	                                  event and person as JSON on its standard input
//
// An event is run once, by one of the instances that share a database; a second time only
// when the program failed, or when letterlockd was killed before it could note that it had
// not. Events of one person come in their order: while one waits to be tried again, later
// ones of that person wait behind it, and those of others go on. What happened while no
// letterlockd ran is made up for; what happened before the first start with a hook is not.
//
// The program is an argv, never a shell's line, and gets a clean environment; its output
// goes to the log. Nothing secret is handed to it.
package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Claims share the work between instances.
type Claims interface {
	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	// ClaimHook gives identity.ErrExists for an event that is done, not due, or another's.
	ClaimHook(ctx context.Context, e identity.Event, now, until time.Time) (tries int, err error)
	EndHook(ctx context.Context, event string, done bool, at time.Time) error
}

// Trail is what there is to do.
type Trail interface {
	HookMark(ctx context.Context, now time.Time) (time.Time, error)
	MoveHookMark(ctx context.Context, to time.Time) error
	HookEvents(ctx context.Context, since time.Time, limit int) ([]identity.Event, error)
	AddEvent(ctx context.Context, e identity.Event) error
	// Together makes one transaction of all that is asked of the store with the context
	// that do is given. An error of do undoes it and is returned; do may be called again.
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// People are who it is about.
type People interface {
	Person(ctx context.Context, id identity.PersonID) (identity.Person, error)
	AddressesOf(ctx context.Context, id identity.PersonID) ([]identity.Address, error)
}

// Store is all of it; database has it.
type Store interface {
	Claims
	Trail
	People
}

// Options shape a Runner.
type Options struct {
	Store   Store
	Command []string // argv; the program by its absolute path
	Timeout time.Duration
	Holder  string // of this instance, unlike any other
	Now     func() time.Time
	Log     *slog.Logger
}

// A Runner runs the hook.
type Runner struct{ o Options }

const (
	leaseName = "hook"
	// slack is how much later than its own time an event may appear: clocks of instances
	// differ, and transactions take time.
	slack    = 2 * time.Minute
	pageSize = 500
	// margin is added to the timeout when work is claimed.
	margin = time.Minute
)

// New checks the options.
func New(o Options) (*Runner, error) {
	if o.Store == nil || len(o.Command) == 0 || o.Timeout <= 0 || o.Holder == "" || o.Now == nil || o.Log == nil {
		return nil, errors.New("hook: store, command, timeout, holder, clock or log is missing")
	}
	return &Runner{o}, nil
}

// pauses are how long after each failed try the next one comes; after the last it is over.
func pauses() []time.Duration {
	return []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute}
}

// Look runs the hook for everything that waits, unless another instance does.
func (r *Runner) Look(ctx context.Context) error {
	if mine, err := r.lease(ctx); err != nil || !mine {
		return err
	}
	now := r.o.Now()
	mark, err := r.o.Store.HookMark(ctx, now)
	if err != nil {
		return err
	}
	events, err := r.o.Store.HookEvents(ctx, mark, pageSize)
	if err != nil {
		return err
	}
	waiting := map[string]bool{} // people one of whose events is not done
	oldest := now.Add(-slack)
	for _, e := range events {
		about := aboutWhom(e)
		done := false
		if !waiting[about] {
			if done, err = r.one(ctx, e); err != nil {
				return err
			}
		}
		if !done {
			waiting[about] = true
			if e.At.Before(oldest) {
				oldest = e.At
			}
		}
	}
	if len(events) < pageSize && oldest.After(mark.Add(slack)) {
		return r.o.Store.MoveHookMark(ctx, oldest)
	}
	return nil
}

// aboutWhom is what keeps events in order: the person, or else the first address.
func aboutWhom(e identity.Event) string {
	if e.Person != "" {
		return string(e.Person)
	}
	first, _, _ := strings.Cut(e.Detail, " ")
	return strings.TrimSuffix(first, ":")
}

func (r *Runner) lease(ctx context.Context) (bool, error) {
	now := r.o.Now()
	return r.o.Store.Lease(ctx, leaseName, r.o.Holder, now, now.Add(r.o.Timeout+margin))
}

// one claims an event, runs the program, and notes how it ended.
func (r *Runner) one(ctx context.Context, e identity.Event) (done bool, err error) {
	if mine, err := r.lease(ctx); err != nil || !mine {
		return false, err
	}
	now := r.o.Now()
	tries, err := r.o.Store.ClaimHook(ctx, e, now, now.Add(r.o.Timeout+margin))
	if errors.Is(err, identity.ErrExists) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	input, err := r.input(ctx, e)
	if err != nil {
		return false, errors.Join(err, r.o.Store.EndHook(context.WithoutCancel(ctx), e.ID, false, r.o.Now()))
	}
	failed := r.run(ctx, e, input)
	// What was run is noted also when somebody ends the daemon now.
	keep := context.WithoutCancel(ctx)
	now = r.o.Now()
	switch all := pauses(); {
	case failed == nil:
		r.o.Log.Info("hook ran", "event", e.Kind, "id", e.ID)
		return true, r.o.Store.EndHook(keep, e.ID, true, now)
	case ctx.Err() != nil:
		return false, errors.Join(ctx.Err(), r.o.Store.EndHook(keep, e.ID, false, now))
	case tries > len(all):
		r.o.Log.Error("hook given up", "event", e.Kind, "id", e.ID, "tries", tries, "error", failed)
		// One transaction: an event that was given up and not ended would be run once more.
		return true, r.o.Store.Together(keep, func(ctx context.Context) error {
			err := r.o.Store.AddEvent(ctx, identity.Event{At: now, Kind: "hook.failed", Person: e.Person, Actor: "system",
				Detail: fmt.Sprintf("%s of %s, %d tries: %v", e.Kind, e.At.UTC().Format(time.RFC3339), tries, failed)})
			if err != nil {
				return err
			}
			return r.o.Store.EndHook(ctx, e.ID, true, now)
		})
	default:
		pause := all[tries-1]
		r.o.Log.Warn("hook failed", "event", e.Kind, "id", e.ID, "tries", tries, "again in", pause, "error", failed)
		return false, r.o.Store.EndHook(keep, e.ID, false, now.Add(pause))
	}
}

// An input is what the program reads.
type input struct {
	Version int         `json:"version"`
	Event   inputEvent  `json:"event"`
	Person  *inputWho   `json:"person"` // as they are now; null when there is nobody, or nobody any more
	Address []inputAddr `json:"addresses"`
}

type inputEvent struct {
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`
	Actor  string    `json:"actor"`
	Detail string    `json:"detail,omitempty"`
}

type inputWho struct {
	ID       string     `json:"id"`
	Address  string     `json:"address"`
	Name     string     `json:"name,omitempty"`
	Admin    bool       `json:"admin"`
	Active   bool       `json:"active"`
	Created  time.Time  `json:"created"`
	Disabled *time.Time `json:"disabled,omitempty"`
	Reason   string     `json:"reason,omitempty"`
}

type inputAddr struct {
	Address string   `json:"address"`
	Targets []string `json:"targets,omitempty"`
	Roles   []string `json:"roles,omitempty"` // the person's
}

func (r *Runner) input(ctx context.Context, e identity.Event) ([]byte, error) {
	in := input{Version: 1, Address: []inputAddr{},
		Event: inputEvent{ID: e.ID, At: e.At.UTC(), Kind: e.Kind, Actor: e.Actor, Detail: e.Detail}}
	if e.Person == "" {
		// The trail keeps the addresses of who is gone, and of an address its name.
		names, _, _ := strings.Cut(e.Detail, ":")
		for name := range strings.FieldsSeq(names) {
			in.Address = append(in.Address, inputAddr{Address: name})
		}
		return line(in)
	}
	p, err := r.o.Store.Person(ctx, e.Person)
	if errors.Is(err, identity.ErrNotFound) {
		return line(in)
	}
	if err != nil {
		return nil, err
	}
	in.Person = &inputWho{ID: string(p.ID), Address: p.Address, Name: p.Name, Admin: p.Admin, Active: p.Disabled.IsZero(), Created: p.Created.UTC(), Reason: p.Reason}
	if !p.Disabled.IsZero() {
		at := p.Disabled.UTC()
		in.Person.Disabled = &at
	}
	addresses, err := r.o.Store.AddressesOf(ctx, e.Person)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return nil, err
	}
	for _, a := range addresses {
		one := inputAddr{Address: a.Address, Targets: a.Targets}
		if at := slices.IndexFunc(a.Owners, func(o identity.Owner) bool { return o.Person == p.ID }); at >= 0 {
			for _, role := range a.Owners[at].Roles {
				one.Roles = append(one.Roles, string(role))
			}
		}
		in.Address = append(in.Address, one)
	}
	return line(in)
}

func line(in input) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(in)
	return b.Bytes(), err
}

package agent

import (
	"context"
	"errors"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
)

// renew looks at every account each minute by the wall clock: after a suspend, and
// after a clock was set, the next look sees what is due.
func (a *Agent) renew(ctx context.Context) {
	if a.o.Accounts == nil {
		return
	}
	next := map[string]time.Time{}
	for {
		names, err := a.o.Accounts.List()
		if err != nil {
			a.o.Log.Error("list the accounts", "error", err)
		}
		for _, name := range names {
			if now := a.o.Now(); !now.Before(next[name]) {
				next[name] = now.Add(a.renewOne(ctx, name))
			}
		}
		unlocked, going := a.rest(ctx)
		if !going {
			return
		}
		if unlocked {
			if a.o.Unlocked != nil {
				a.o.Unlocked(ctx)
			}
			for _, name := range a.lockedAccounts() {
				delete(next, name)
			}
		}
	}
}

// rest waits for the next look, or for a key.
func (a *Agent) rest(ctx context.Context) (unlocked, going bool) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, true
	case <-a.wake:
		return true, true
	case <-ctx.Done():
		return false, false
	}
}

func (a *Agent) lockedAccounts() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for name, s := range a.states {
		if s.Locked {
			names = append(names, name)
		}
	}
	return names
}

// renewOne asks for a token that lives beyond Ahead, and says when to ask again. Most
// of the time that is one file read.
func (a *Agent) renewOne(ctx context.Context, name string) time.Duration {
	access, err := a.o.Accounts.Token(ctx, name, account.Want{MinValidity: a.o.Ahead})
	var needed *account.SignInNeeded
	switch {
	case err == nil:
		a.setState(name, AccountState{Until: access.Expiry})
		a.o.Notifier.Settle(name)
		left := access.Expiry.Sub(a.o.Now())
		if left > a.o.Ahead {
			return left - a.o.Ahead + tick // when it is certain to be too old
		}
		return max(left/2, tick) // a provider whose tokens live shorter than Ahead
	case ctx.Err() != nil:
		return tick
	case errors.As(err, &needed):
		a.setState(name, AccountState{Problem: err.Error(), SignIn: true})
		a.o.Log.Warn("sign-in needed", "account", name)
		a.o.Notifier.Tell(ctx, SignIn, name, err.Error())
		return time.Hour // by then somebody may have signed in; login is seen at once by whoever asks
	case errors.Is(err, tokenstore.ErrNotFound):
		return 10 * tick
	case errors.Is(err, tokenstore.ErrLocked):
		a.setState(name, AccountState{Problem: err.Error(), Locked: true})
		a.o.Log.Warn("the key is locked", "account", name, "error", err)
		a.o.Notifier.Tell(ctx, Locked, name, "its key is locked: nothing is renewed or sent: "+howToUnlock(err))
		return 5 * tick // by then somebody may have unlocked a keyring; a key given to us wakes us
	}
	a.setState(name, AccountState{Problem: err.Error()})
	a.o.Log.Warn("renew a token", "account", name, "error", err)
	return 5 * tick
}

// howToUnlock is the key source's advice.
func howToUnlock(err error) string {
	var locked *tokenstore.LockedError
	if errors.As(err, &locked) {
		return locked.How
	}
	return err.Error()
}

func (a *Agent) setState(name string, s AccountState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.states[name] = s
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/agent"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

func (p *program) unlockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unlock [KEY]...",
		Short: "type the passphrase once, and the agent has the key until it ends",
		Long: `Ask for the passphrase of each key source "passphrase" that an account uses, or of the
ones named, and give the keys to the running agent. It holds them in memory alone, for
processes of the same user: after a restart they are locked again. What waited for
them, renewals and queued mail, goes on at once.

Any command that asks for the passphrase in a terminal does the same.`,
		Example: `  letterlock agent unlock
  letterlock agent --status`,
		PersistentPreRunE: func(*cobra.Command, []string) error { return p.becomeSystem() },
		RunE:              func(c *cobra.Command, args []string) error { return p.unlock(c.Context(), args) },
	}
}

func (p *program) lockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lock",
		Short: "have the agent forget the keys it holds",
		Long: `Have the running agent forget all keys that it was given. Access tokens that mail
programs have got stay good until they end.`,
		Example:           `  letterlock agent lock`,
		PersistentPreRunE: func(*cobra.Command, []string) error { return p.becomeSystem() },
		Args:              exactly(0),
		RunE:              func(c *cobra.Command, _ []string) error { return p.lock(c.Context()) },
	}
}

func (p *program) unlock(ctx context.Context, names []string) error {
	if err := p.wantAgent(ctx); err != nil {
		return err
	}
	if len(names) == 0 {
		var err error
		if names, err = p.passphraseSources(); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return cli.Faultf(cli.Config, "letterlock login ADDRESS --key passphrase makes one", "no account has a key with a passphrase")
	}
	for _, name := range names {
		keys, err := p.keySource(name)
		if err != nil {
			return err
		}
		locked, ok := keys.(*tokenstore.PassphraseKeys)
		if !ok {
			return cli.Faultf(cli.Usage, "keyring and gpg are unlocked by their own agents", "%s has no passphrase of ours", cli.Line(name))
		}
		if held, err := locked.Held(ctx); err != nil {
			return err
		} else if held {
			p.term.Sayf("%s: the agent holds it already", cli.Line(name))
			continue
		}
		if _, err := locked.Identity(ctx); err != nil {
			return err
		}
		if held, err := locked.Held(ctx); err != nil || !held {
			return cli.Faultf(cli.Unavailable, "letterlock agent --status; one of an older version must be restarted", "the agent did not take the key %s", cli.Line(name))
		}
		p.term.Sayf("%s: %s", cli.Line(name), p.term.Good("unlocked"))
	}
	return nil
}

// passphraseSources are those that accounts use, or that login would use.
func (p *program) passphraseSources() ([]string, error) {
	conf, err := p.config()
	if err != nil {
		return nil, err
	}
	var names []string
	add := func(name string) {
		if conf.Keys[name].Source != "passphrase" && (name != "passphrase" || conf.Keys[name].Source != "") || slices.Contains(names, name) {
			return
		}
		if keys, err := p.keySource(name); err == nil {
			if _, err := keys.Recipient(); err == nil {
				names = append(names, name)
			}
		}
	}
	for _, name := range sortedNames(conf.Accounts) {
		add(conf.Accounts[name].Key)
	}
	add(conf.Key)
	add("passphrase")
	return names, nil
}

func (p *program) lock(ctx context.Context) error {
	if err := p.wantAgent(ctx); err != nil {
		return err
	}
	path, err := p.agentSocket()
	if err != nil {
		return err
	}
	count, err := agent.Keys{Path: path}.Lock(ctx)
	if err != nil {
		return cli.Wrap(cli.Unavailable, err, "restart the agent: it then holds none")
	}
	p.term.Sayf("the agent has forgotten %s", plural(count, "key"))
	return nil
}

func (p *program) wantAgent(ctx context.Context) error {
	path, err := p.agentSocket()
	if err != nil {
		return err
	}
	if _, err := agent.Ask(ctx, path, "ping"); err != nil {
		return p.noAgentFault(err)
	}
	return nil
}

func (p *program) noAgentFault(err error) error {
	switch {
	case errors.Is(err, agent.ErrVersion):
		return cli.Wrap(cli.Config, err, "")
	case errors.Is(err, os.ErrPermission):
		return cli.Wrap(cli.NoPerm, err, "it is another user's")
	}
	p.log().Debug("ask the agent", "error", err)
	return cli.Faultf(cli.Unavailable, "letterlock agent starts one", "no agent is running")
}

// passphrases are this process' sources of that kind, and what they have in common.
type passphrases struct {
	mu      sync.Mutex
	sources map[string]*tokenstore.PassphraseKeys
	agent   *tokenstore.Held // of the agent itself; nil in all other processes
}

// passphrase is one source for the whole process, however many accounts use it: the
// person is asked once.
func (p *program) passphrase(folder, name string) *tokenstore.PassphraseKeys {
	p.typed.mu.Lock()
	defer p.typed.mu.Unlock()
	if keys := p.typed.sources[name]; keys != nil {
		return keys
	}
	var keys *tokenstore.PassphraseKeys
	if p.typed.agent != nil {
		// The agent asks nobody: it is told.
		keys = tokenstore.NewPassphrase(folder, name, p.typed.agent, nil)
	} else {
		var far tokenstore.Keyholder
		if path, err := p.agentSocket(); err == nil {
			far = agent.Keys{Path: path}
		}
		keys = tokenstore.NewPassphrase(folder, name, far, p.asker())
	}
	if p.typed.sources == nil {
		p.typed.sources = map[string]*tokenstore.PassphraseKeys{}
	}
	p.typed.sources[name] = keys
	return keys
}

// asker asks at the terminal that this process belongs to, whatever its standard files
// are: a mail program that fetches a token has pipes there. Nil where nobody sits.
func (p *program) asker() tokenstore.Asker {
	sits := p.term.Interactive
	if !sits && p.surroundings().Terminal == "" {
		return nil
	}
	asked := p.term
	return func(ctx context.Context, prompt string) (secret.String, error) {
		if asked == p.term && p.surroundings().Terminal != "" {
			// Kept open: what is typed ahead of a second question belongs to it.
			if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
				asked = cli.Attach(tty, tty, tty, p.getenv)
			}
		}
		if !asked.Interactive {
			return secret.String{}, cli.ErrNobody
		}
		line, err := asked.AskHidden(ctx, prompt)
		return secret.New(line), err
	}
}

// resume makes mail due that waited for a key, and forgets that it did.
func (p *program) resume(ctx context.Context, q *queue.Queue) {
	names := p.locked.take()
	for e, err := range q.List(ctx) {
		if err != nil || e.State != queue.StateQueued || !slices.Contains(names, e.Envelope.Account) {
			continue
		}
		if err := q.Retry(e.ID); err != nil && !errors.Is(err, queue.ErrNotFound) && !errors.Is(err, queue.ErrActive) {
			p.log().Warn("try mail again that waited for a key", "id", string(e.ID), "error", err)
		}
	}
}

// lockedAccounts are those whose key was asked for in vain.
type lockedAccounts struct {
	mu    sync.Mutex
	names map[string]error
}

func (l *lockedAccounts) note(name string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = map[string]error{}
	}
	if errors.Is(err, tokenstore.ErrLocked) {
		l.names[name] = err
	}
}

// why is the reason that an account's key is locked, nil when it is not.
func (l *lockedAccounts) why(name string) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names[name]
}

func (l *lockedAccounts) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := sortedNames(l.names)
	l.names = nil
	return names
}

func lockedWords(err error) string {
	var locked *tokenstore.LockedError
	if errors.As(err, &locked) {
		return fmt.Sprintf("mail waits: %s: %s", locked.What, locked.How)
	}
	return fmt.Sprintf("mail waits: %v", err)
}

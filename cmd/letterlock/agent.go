package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/agent"
	"github.com/letterlock-mail/letterlock/internal/client/intake"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

func (p *program) agentCommand() *cobra.Command {
	var status, asJSON bool
	c := &cobra.Command{
		Use:   "agent",
		Short: "send queued mail and renew tokens, as a service",
		Long: `Stay in the foreground: send mail as soon as it is queued and again by the schedule, renew
every account's token before it ends, and run the command of [notify] when a person is
needed. It holds the keys that letterlock agent unlock gives it (key source passphrase),
in memory alone. Everything works without it too; sendmail then starts sending by itself, and a
timer must try again later.

With --system it also takes mail from everybody on this machine, on a socket that needs
no setuid program: /run/letterlock/submit.sock. It knows the uid at the other end from
the kernel; users and sender of each account, and the user_ limits of [queue], say what
that one may do (letterlock.toml(5)). What users hand over is acknowledged after it is
synced; each message knows its submitter (letterlock queue list --system).

Systemd units are in dist/systemd: letterlock-agent.service and .socket for a user, and
letterlock-queue.service and .timer for who wants no service that stays; for the
system the former and letterlock-submit.socket.`,
		Example: `  systemctl --user enable --now letterlock-agent.service
  systemctl enable --now letterlock-submit.socket letterlock-agent.service
  letterlock agent --status`,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if !status {
				if err := p.makeRuntimeFolder(); err != nil {
					return err
				}
			}
			return p.becomeSystem()
		},
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if status {
				return p.agentStatus(c.Context(), asJSON)
			}
			return p.agent(c.Context())
		},
	}
	c.Flags().BoolVar(&status, "status", false, "ask the running agent what it knows")
	c.Flags().BoolVar(&asJSON, "json", false, "with --status: print an object")
	c.AddCommand(p.unlockCommand(), p.lockCommand())
	return c
}

func (p *program) agent(ctx context.Context) error {
	p.typed.agent, p.locked = &tokenstore.Held{}, &lockedAccounts{}
	conf, err := p.config()
	if err != nil {
		return err
	}
	q, err := p.openQueue()
	if err != nil {
		return err
	}
	carrier, done, err := p.carrier()
	if err != nil {
		return err
	}
	defer done()
	manager, err := p.manager()
	if err != nil {
		return err
	}
	notifier := p.notifier(conf.Notify.Command)
	options, err := p.drainOptions(notifier)
	if err != nil {
		return err
	}
	options.Notice = func(e queue.Event) { p.noticed(ctx, notifier, e) }
	drains := []func(context.Context) error{draining(q, carrier, options)}
	var services []func(context.Context) error
	listeners, err := p.listenAll(ctx)
	if err != nil {
		return err
	}
	if p.system {
		server, err := p.submissions(conf, q, listeners[submitName])
		if err != nil {
			return err
		}
		services = append(services, server.Run)
	} else if systemPresent() || p.somethingWaits() {
		waiting, options, err := p.waitingDrain(notifier)
		if err != nil {
			return err
		}
		drains = append(drains, draining(waiting, patient(intake.Carrier{Path: intake.SocketPath}), options))
	}
	listener := listeners[agentName]
	a := agent.New(agent.Options{
		Drains: drains, Services: services, Accounts: manager, Listener: listener, Notifier: notifier, Now: p.now, Log: p.log(),
		Keys: p.typed.agent, Unlocked: func(ctx context.Context) { p.resume(ctx, q) },
		Ready: func() {
			p.term.Sayf("letterlock: the agent listens on %s", listener.Addr())
			if err := agent.TellManager(p.getenv, "READY=1"); err != nil {
				p.log().Warn("tell the service manager", "error", err)
			}
		},
	})
	return a.Run(ctx)
}

func draining(q *queue.Queue, carrier queue.Carrier, options queue.DrainOptions) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := q.Drain(ctx, carrier, options)
		return err
	}
}

// noticed writes one line for each thing that an operator asks about, and tells the
// person what only a person can settle.
func (p *program) noticed(ctx context.Context, notifier *agent.Notifier, e queue.Event) {
	for _, o := range e.Outcomes {
		p.term.Sayf("%s", p.progress(e, o))
		switch o.Verdict {
		case queue.SignIn:
			notifier.Tell(ctx, agent.SignIn, e.Account, "mail waits for a sign-in: "+p.loginLine(e.Account))
		case queue.Unknown:
			notifier.Tell(ctx, agent.Asked, e.Account, fmt.Sprintf("message %s to %s may have arrived: letterlock queue show %s", e.ID, cli.Line(o.Recipient), e.ID))
		case queue.Deferred:
			if err := p.locked.why(e.Account); err != nil {
				notifier.Tell(ctx, agent.Locked, e.Account, lockedWords(err))
			}
		}
	}
}

func (p *program) agentStatus(ctx context.Context, asJSON bool) error {
	path, err := p.agentSocket()
	if err != nil {
		return err
	}
	answer, err := agent.Ask(ctx, path, "status")
	switch {
	case err != nil:
		return p.noAgentFault(err)
	case asJSON:
		return p.printJSON(answer)
	}
	fmt.Fprintf(p.term.Out, "running since %s as process %d\n", answer.Started.Local().Format("2006-01-02 15:04"), answer.PID)
	if answer.Keys > 0 {
		fmt.Fprintf(p.term.Out, "holds %s\n", plural(answer.Keys, "unlocked key"))
	}
	var rows [][]string
	for _, name := range sortedNames(answer.Accounts) {
		s := answer.Accounts[name]
		state := "ok"
		if s.Problem != "" {
			state = s.Problem
		}
		rows = append(rows, []string{name, until(point(s.Until), p.now()), state})
	}
	if len(rows) == 0 {
		return nil
	}
	return cli.Table(p.term.Out, []string{"ACCOUNT", "TOKEN", "STATE"}, rows)
}

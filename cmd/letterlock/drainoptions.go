package main

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/agent"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// drainOptions are those of every drain of this queue.
func (p *program) drainOptions(notifier *agent.Notifier) (queue.DrainOptions, error) {
	conf, err := p.config()
	if err != nil {
		return queue.DrainOptions{}, err
	}
	return p.drainOptionsBy(conf, notifier)
}

func (p *program) drainOptionsBy(conf *config.Config, notifier *agent.Notifier) (queue.DrainOptions, error) {
	paths, err := p.where()
	if err != nil {
		return queue.DrainOptions{}, err
	}
	o := queue.DrainOptions{
		Parallel: cmp.Or(conf.Queue.Parallel, defaultParallel), PerDestination: perDestination(conf) + spare,
		OnUnknown: queue.Ask,
		Reporter:  queue.Reporter{Host: hostName()},
		Log:       p.log(), Destination: p.destination,
	}
	if conf.Queue.OnUnknown == "resend" || conf.Queue.OnUnknown == "" && p.system {
		o.OnUnknown = queue.Resend
	}
	if conf.Queue.GiveUp > 0 {
		o.Schedule = queue.DefaultSchedule()
		o.Schedule.GiveUp = conf.Queue.GiveUp
	}
	if notifier == nil {
		notifier = p.notifier(conf.Notify.Command)
	}
	o.Bouncer = p.bouncer(conf, &agent.Bounces{Folder: filepath.Join(paths.State, "reports"), Host: hostName(), Notifier: notifier, Now: p.now})
	return o, nil
}

// spare is how many messages to one destination are worked on beyond its connections,
// which package delivery bounds: while the disk takes the outcomes of some, their
// connections carry others.
const spare = 5

// Standards of [queue], as its manual page has them.
const (
	defaultParallel       = 40
	defaultPerDestination = 5
)

func perDestination(conf *config.Config) int {
	return cmp.Or(conf.Queue.PerDestination, defaultPerDestination)
}

func (p *program) notifier(command []string) *agent.Notifier {
	return &agent.Notifier{Command: command, Now: p.now, Log: p.log(), Line: cli.Line}
}

func (p *program) agentSocket() (string, error) {
	paths, err := p.where()
	if err != nil {
		return "", err
	}
	if p.system {
		return "/run/letterlock/agent.sock", nil
	}
	return agent.SocketPath(p.getenv, paths.State, os.Getuid()), nil
}

// agentListens asks without talking: a connection is enough to know.
func agentListens(path string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return agent.Listens(ctx, path)
}

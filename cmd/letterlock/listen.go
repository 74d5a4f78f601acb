package main

import (
	"context"
	"net"
	"path/filepath"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/agent"
	"github.com/letterlock-mail/letterlock/internal/client/intake"
)

// The sockets of an agent, by the names of their files.
const (
	agentName  = "agent.sock"
	submitName = "submit.sock"
)

// listenAll opens the sockets of the agent that no service manager has opened.
func (p *program) listenAll(ctx context.Context) (map[string]net.Listener, error) {
	path, err := p.agentSocket()
	if err != nil {
		return nil, err
	}
	inherited, err := agent.Inherited(p.getenv)
	if err != nil {
		return nil, cli.Wrap(cli.Config, err, "look at the socket units of the service")
	}
	listeners := map[string]net.Listener{}
	for _, one := range []struct {
		name, path string
		wanted     bool
		listen     func(context.Context, string) (net.Listener, error)
	}{
		{agentName, path, true, agent.Listen},
		{submitName, intake.SocketPath, p.system, intake.Listen},
	} {
		if !one.wanted {
			continue
		}
		listener := inherited[filepath.Base(one.path)]
		if listener == nil {
			if listener, err = one.listen(ctx, one.path); err != nil {
				for _, open := range listeners {
					open.Close()
				}
				return nil, cli.Wrap(cli.CannotWrite, err, "letterlock agent --status shows whether one is running")
			}
		}
		listeners[one.name] = listener
	}
	return listeners, nil
}

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/intake"
	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/peercred"
)

// submissions is the service that takes mail from everybody on this machine.
func (p *program) submissions(conf *config.Config, q *queue.Queue, listener net.Listener) (*intake.Server, error) {
	paths, err := p.where()
	if err != nil {
		return nil, err
	}
	if _, err := rootAddresses(conf); err != nil {
		return nil, err
	}
	limits := intake.Limits{Hourly: conf.Queue.UserMessages, Recipients: conf.Queue.UserRecipients,
		Entries: conf.Queue.UserEntries, Bytes: int64(conf.Queue.UserSize) << 20, Size: int64(conf.Queue.MaxSize) << 20}
	return intake.New(intake.Options{
		Listener: listener, Queue: q, Folder: filepath.Join(paths.State, "intake"), Limits: limits, Now: p.now, Log: p.serviceLog(),
		Take: func(ctx context.Context, peer peercred.Peer, s intake.Submission, message io.Reader, into intake.Putter) error {
			sender, err := p.senderFor(conf, callerOf(peer), s.Account)
			if err != nil {
				return err
			}
			sender.Queue = into
			_, err = sender.Send(ctx, sendmail.Options{Mode: sendmail.Deliver, Recipients: s.Recipients, Sender: s.Sender, Name: s.Name,
				Account: s.Account, Notify: s.Notify, Return: s.Return, EnvelopeID: s.EnvelopeID, NoAliases: s.NoAliases}, message)
			return err
		},
	}), nil
}

// senderFor is what a user of this machine may do with its accounts.
func (p *program) senderFor(conf *config.Config, who caller, account string) (*sendmail.Sender, error) {
	s := p.machineSender(conf)
	s.User, s.Name, s.Submitter = who.login(), who.name, fmt.Sprintf("userid %d", who.uid)
	var err error
	if s.Root, err = rootAddresses(conf); err != nil {
		return nil, err
	}
	s.Ways, s.Default = who.ways(conf, account)
	if len(s.Ways) == 0 && len(conf.Accounts) > 0 {
		what := "with the accounts of this system"
		if account != "" {
			what = fmt.Sprintf("with the account %q of this system", cli.Line(account))
		}
		return nil, cli.Faultf(cli.NoPerm, fmt.Sprintf("its administrator adds %q to users of an account in %s", who.login(), config.SystemPaths().Config),
			"%s (uid %d) may not send %s", who.login(), who.uid, what)
	}
	return s, nil
}

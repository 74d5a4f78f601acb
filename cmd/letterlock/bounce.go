package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/agent"
	"github.com/letterlock-mail/letterlock/internal/mail/delivery"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// bouncer takes delivery reports to where [queue] reports says.
func (p *program) bouncer(reports string, standard *agent.Bounces) queue.Bouncer {
	switch {
	case reports == "":
		return standard
	case filepath.IsAbs(reports):
		own := *standard
		own.Folder = reports
		return &own
	}
	return &mailboxBounces{p: p, account: reports, standard: standard}
}

// mailboxBounces puts reports into the mailbox of the sender, by an account whose way
// ends on this machine. What finds no mailbox there goes where it would without.
type mailboxBounces struct {
	p        *program
	account  string
	standard *agent.Bounces
}

// Bounce implements queue.Bouncer.
func (b *mailboxBounces) Bounce(ctx context.Context, to string, dsn []byte) error {
	ways := &ways{p: b.p}
	carrier := delivery.New(delivery.Options{Routes: ways.route, Hello: b.standard.Host, Now: b.p.now, Log: b.p.log()})
	defer carrier.Close()
	// From "<>": no report about a report (RFC 5321 section 4.5.5).
	outcomes, err := carrier.Carry(ctx, queue.Envelope{Account: b.account, To: []queue.Recipient{{Address: to}}}, bytes.NewReader(dsn))
	if err != nil {
		return fmt.Errorf("deliver a report: %w", err)
	}
	switch o := outcomes[0]; o.Verdict {
	case queue.Delivered, queue.Unknown: // once more than needed would be worse than this
		b.standard.Notifier.Tell(ctx, agent.Failed, to, "a message was not delivered; the report is in the mailbox of "+cli.Line(to))
		return nil
	case queue.Refused:
		return b.standard.Bounce(ctx, to, dsn)
	default:
		return fmt.Errorf("deliver a report: %s: %s", o.Server, o.Reply)
	}
}

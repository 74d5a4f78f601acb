package main

import (
	"bytes"
	"context"
	"fmt"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/agent"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/mail/delivery"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// bouncer takes delivery reports to where [queue] reports says; those of the system's
// queue to the user who submitted the message too.
func (p *program) bouncer(conf *config.Config, standard *agent.Bounces) queue.Bouncer {
	general := p.generalBouncer(conf.Queue.Reports, standard)
	if !p.system {
		return general
	}
	return &submitterBounces{p: p, conf: conf, general: general, handed: map[string]bool{}}
}

func (p *program) generalBouncer(reports string, standard *agent.Bounces) queue.Bouncer {
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
func (b *mailboxBounces) Bounce(ctx context.Context, n queue.Notice) error {
	ways := &ways{p: b.p}
	carrier := delivery.New(delivery.Options{Routes: ways.route, Hello: b.standard.Host, Now: b.p.now, Log: b.p.log()})
	defer carrier.Close()
	defer ways.close()
	// From "<>": no report about a report (RFC 5321 section 4.5.5).
	outcomes, err := carrier.Carry(ctx, queue.Envelope{Account: b.account, To: []queue.Recipient{{Address: n.To}}}, bytes.NewReader(n.DSN))
	if err != nil {
		return fmt.Errorf("deliver a report: %w", err)
	}
	switch o := outcomes[0]; o.Verdict {
	case queue.Delivered, queue.Unknown: // once more than needed would be worse than this
		b.standard.Tell(ctx, n, "the mailbox of "+cli.Line(n.To))
		return nil
	case queue.Refused:
		return b.standard.Bounce(ctx, n)
	default:
		return fmt.Errorf("deliver a report: %s: %s", o.Server, o.Reply)
	}
}

// submitterBounces tells the local user too. The sender of his message is the account,
// so that what goes there reaches the administrator, and never who ran the cron job.
//
// His copy is a message of its own in the system's queue, so that a mail store that is
// down keeps back neither the administrator's nor the queue. It has the null sender: one
// that finds no mailbox ends there, and the administrator's is all there is.
type submitterBounces struct {
	p       *program
	conf    *config.Config
	general queue.Bouncer

	mu     sync.Mutex
	handed map[string]bool // copies in the queue whose other half has failed
}

// Bounce implements queue.Bouncer.
func (b *submitterBounces) Bounce(ctx context.Context, n queue.Notice) error {
	if err := b.copy(ctx, n); err != nil {
		return err
	}
	if err := b.general.Bounce(ctx, n); err != nil {
		return err // asked again: the copy is not made again
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.handed, n.ID)
	return nil
}

// copy queues the report for the submitter, if he has a mailbox here.
func (b *submitterBounces) copy(ctx context.Context, n queue.Notice) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.handed[n.ID] {
		return nil
	}
	e := queue.Envelope{Account: b.localAccount(), EightBit: !isASCII(n.DSN)}
	for _, address := range b.mailboxes(n.Submitter, e.Account) {
		if b.conf.Queue.Reports != e.Account || !strings.EqualFold(address, n.To) { // there it goes anyway
			e.To = append(e.To, queue.Recipient{Address: address, Notify: "NEVER"})
			e.UTF8 = e.UTF8 || !isASCII([]byte(address))
		}
	}
	if len(e.To) == 0 {
		return nil
	}
	q, err := b.p.openQueue()
	if err != nil {
		return fmt.Errorf("report to the submitter: %w", err)
	}
	id, err := q.Put(ctx, e, bytes.NewReader(n.DSN))
	if err != nil {
		return fmt.Errorf("report to the submitter: %w", err)
	}
	b.handed[n.ID] = true
	b.p.log().Info("report to the submitter", "uid", n.Submitter, "id", id)
	return nil
}

// localAccount is the account that keeps mail on this machine: the one that reports are
// for, else the first whose way ends here, else the first that serves local domains.
func (b *submitterBounces) localAccount() string {
	if _, ok := b.conf.Accounts[b.conf.Queue.Reports]; ok {
		return b.conf.Queue.Reports
	}
	names := sortedNames(b.conf.Accounts)
	for _, fits := range []func(config.Account) bool{
		func(a config.Account) bool { return a.Way == "lmtp" || a.Way == "maildir" },
		func(a config.Account) bool { return len(a.LocalDomains) > 0 },
	} {
		if i := slices.IndexFunc(names, func(name string) bool { return fits(b.conf.Accounts[name]) }); i >= 0 {
			return names[i]
		}
	}
	return ""
}

// mailboxes are those on this machine where mail to the user of that uid ends: his login
// name, or what the aliases make of it. A ~/.forward is not read, and an alias that
// leads to another machine is not followed: the way there may be what has failed.
func (b *submitterBounces) mailboxes(uid, account string) []string {
	if uid == "" || account == "" {
		return nil
	}
	who, err := user.LookupId(uid)
	if err != nil || who.Username == "" {
		return nil // nobody has a mailbox without a name
	}
	s := b.p.machineSender(b.conf)
	s.Domain = b.localDomain(account)
	addresses, err := s.Resolve([]string{who.Username}, false)
	if err != nil {
		b.p.log().Warn("no report to the submitter", "user", who.Username, "error", err)
		return nil
	}
	return slices.DeleteFunc(addresses, func(address string) bool {
		_, host, _ := strings.Cut(address, "@")
		return !strings.EqualFold(host, s.Domain)
	})
}

// localDomain is that of the mailboxes which the account serves.
func (b *submitterBounces) localDomain(name string) string {
	a := b.conf.Accounts[name]
	if len(a.LocalDomains) > 0 {
		return a.LocalDomains[0]
	}
	if _, host, ok := strings.Cut(wayOf(name, a).Address, "@"); ok {
		return host
	}
	return firstOf(b.conf.Queue.Domain, mailName(), hostName())
}

func isASCII(text []byte) bool {
	return !slices.ContainsFunc(text, func(c byte) bool { return c >= 0x80 })
}

package main

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/mail/message"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// openQueue opens the queue of the user, or of the system.
func (p *program) openQueue() (*queue.Queue, error) {
	folder, err := p.queueFolder()
	if err != nil {
		return nil, err
	}
	q, err := queue.Open(folder, queue.Options{Now: p.now})
	if p.system && errors.Is(err, fs.ErrPermission) {
		return nil, cli.Wrap(cli.NoPerm, err, "the system's queue is for root and user "+systemUser+"; mailq shows your own mail")
	}
	if err != nil {
		return nil, cli.Wrap(cli.TempFail, err, "nothing was queued: look at the folder and its rights, then try again")
	}
	return q, nil
}

func (p *program) queueFolder() (string, error) {
	paths, err := p.where()
	return filepath.Join(paths.State, "queue"), err
}

// outgoing is what the front ends know of this machine and of its ways out: those of
// the user, else the system's. account is what the caller asked for, mostly nothing.
func (p *program) outgoing(account string) (*sendmail.Sender, error) {
	over, err := p.handsOver(account)
	if err != nil {
		return nil, err
	}
	if over {
		return p.forwardingSender(), nil
	}
	conf, err := p.config()
	if err != nil {
		return nil, err
	}
	q, err := p.openQueue()
	if err != nil {
		return nil, err
	}
	s := p.machineSender(conf)
	s.Queue, s.Default = q, conf.Queue.Account
	s.User, s.Name = sendmail.Caller(p.getenv("LOGNAME"))
	if s.Root, err = rootAddresses(conf); err != nil {
		return nil, err
	}
	for _, name := range sortedNames(conf.Accounts) {
		s.Ways = append(s.Ways, wayOf(name, conf.Accounts[name]))
	}
	return s, nil
}

// machineSender is what every sender knows: this machine.
func (p *program) machineSender(conf *config.Config) *sendmail.Sender {
	s := &sendmail.Sender{
		Domain: conf.Queue.Domain, Host: hostName(),
		Aliases: func() (sendmail.Aliases, error) { return sendmail.LoadAliases(aliasPath(conf)) },
		Limits:  message.Limits{Size: int64(conf.Queue.MaxSize) << 20, Folder: p.getenv("TMPDIR")},
		Now:     p.now, Random: rand.Reader,
	}
	if s.Domain == "" {
		s.Mailname = mailName()
	}
	return s
}

func rootAddresses(conf *config.Config) ([]string, error) {
	var out []string
	for _, text := range conf.Queue.Root {
		addresses, err := message.ParseAddresses(text)
		if err != nil {
			return nil, cli.Wrap(cli.Config, err, "correct root in [queue]")
		}
		out = append(out, addresses...)
	}
	return out, nil
}

func wayOf(name string, a config.Account) sendmail.Way {
	w := sendmail.Way{Account: name, Address: a.Mailbox, Senders: a.Senders, Policy: sendmail.Policy(a.Sender), SendOnly: a.Right == string(provider.SendOnly) || !a.Granted()}
	if w.Address == "" {
		w.Address = a.Login
	}
	if w.Address == "" {
		w.Address = name
	}
	if !strings.Contains(w.Address, "@") {
		// A login that is no address: the first sender is one.
		if i := slices.IndexFunc(a.Senders, func(s string) bool { return strings.Index(s, "@") > 0 }); i >= 0 {
			w.Address = a.Senders[i]
		}
	}
	if w.Policy == "" {
		w.Policy = sendmail.Rewrite
	}
	return w
}

func aliasPath(conf *config.Config) string {
	if conf.Queue.Aliases != "" {
		return conf.Queue.Aliases
	}
	return "/etc/aliases"
}

// mailName is what Debian's policy keeps for all mail programs (section 11.6).
func mailName() string {
	data, err := os.ReadFile("/etc/mailname")
	if err != nil || len(data) > 1024 {
		return ""
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	return cleanHost(name)
}

func hostName() string {
	name, err := os.Hostname()
	if name = cleanHost(name); err != nil || name == "" {
		return "localhost"
	}
	return name
}

// cleanHost drops a name that is none.
func cleanHost(name string) string {
	name = strings.TrimSuffix(strings.TrimSpace(name), ".")
	if strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.')
	}) {
		return ""
	}
	return name
}

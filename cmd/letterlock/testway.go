package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/mail/delivery"
	"github.com/letterlock-mail/letterlock/internal/mail/domain"
)

// A wayCheck is one thing that a way without a sign-in needs.
type wayCheck struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

// testWay tries what can be tried without sending anything.
func (p *program) testWay(ctx context.Context, name string, a config.Account, o testOptions) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	t := &wayTest{p: p, name: name, account: a, resolver: delivery.SystemResolver(nil)}
	if a.Way == "direct" {
		t.hello(ctx)
		t.keys()
		t.port25(ctx)
	}
	if a.LMTP != "" {
		t.lmtp(ctx)
	}
	if a.Maildir != "" {
		t.maildir()
	}
	if err := p.printWay(t.checks, o.asJSON); err != nil {
		return err
	}
	for _, check := range t.checks {
		if !check.OK {
			return cli.Faultf(cli.Unavailable, check.Remedy, "%s: %s", check.What, check.Detail)
		}
	}
	return nil
}

func (p *program) printWay(checks []wayCheck, asJSON bool) error {
	if asJSON {
		return p.printJSON(checks)
	}
	var rows [][]string
	for _, check := range checks {
		word := "ok"
		if !check.OK {
			word = "FAILED"
		}
		rows = append(rows, []string{check.What, word, cli.Line(check.Detail)})
	}
	return cli.Table(p.term.Out, []string{"WHAT", "RESULT", "DETAIL"}, rows)
}

type wayTest struct {
	p        *program
	name     string
	account  config.Account
	resolver delivery.Resolver
	checks   []wayCheck
}

func (t *wayTest) add(what string, err error, detail, remedy string) {
	check := wayCheck{What: what, OK: err == nil, Detail: cli.Line(detail)}
	if err != nil {
		check.Detail, check.Remedy = cli.Line(err.Error()), remedy
	}
	t.checks = append(t.checks, check)
}

// hello: most servers refuse a machine whose name and address do not lead to each other.
func (t *wayTest) hello(ctx context.Context) {
	name := firstOf(t.account.Hello, hostName())
	found, err := t.resolver.Addresses(ctx, name)
	var shown []string
	for _, ip := range found {
		shown = append(shown, ip.String())
	}
	t.add("name "+name, err, strings.Join(shown, " "), "set hello in the account's section to a name that DNS has an address of this machine for")
	for _, ip := range found {
		names, err := net.DefaultResolver.LookupAddr(ctx, ip.String())
		if err == nil && !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(strings.TrimSuffix(n, "."), name) }) {
			err = fmt.Errorf("leads back to %s", strings.Join(names, " "))
		}
		t.add("reverse DNS of "+ip.String(), err, name, "have who gave you the address set its name (PTR) to "+name)
	}
}

// keys: nothing says that mail must be signed, but it is hardly taken when it is not.
func (t *wayTest) keys() {
	s, err := t.p.signer(t.name, t.account)
	var keys *domain.Keys
	if err == nil {
		keys, err = s.keys("")
	}
	what := "DKIM keys of " + s.own
	if errors.Is(err, domain.ErrNoKeys) && !s.must {
		t.add(what, nil, "none: mail goes out unsigned, and large providers refuse such mail (letterlock dkim new)", "")
		return
	}
	var names []string
	if err == nil {
		for _, key := range keys.All() {
			names = append(names, key.Name())
		}
	}
	t.add(what, err, strings.Join(names, " "), "make them with letterlock dkim new "+s.own+", or correct dkim_keys")
}

// port25 is closed to the outside in many networks.
func (t *wayTest) port25(ctx context.Context) {
	_, own, _ := strings.Cut(wayOf(t.name, t.account).Address, "@")
	what, remedy := "port 25", "ask your network's operator to open port 25 to the outside, or send by another way"
	records, err := t.resolver.MX(ctx, own)
	host := own
	if err == nil && records[0].Host != "" {
		host = records[0].Host
	}
	found, err := t.resolver.Addresses(ctx, host)
	if err != nil {
		t.add(what, nil, "not tried: the domain "+own+" has no mail server to try it with", "")
		return
	}
	own25 := false
	for _, ip := range found {
		if ownAddress(ip) {
			own25 = true
			continue
		}
		if err = greeting(ctx, "tcp", netip.AddrPortFrom(ip, 25).String(), "220"); err == nil {
			t.add(what, nil, host+" ("+ip.String()+") answers", "")
			return
		}
	}
	if own25 && err == nil {
		t.add(what, nil, "not tried: the mail server of "+own+" is this machine", "")
		return
	}
	t.add(what, err, "", remedy)
}

// ownAddress: a connection to ourselves says nothing about the way outside.
func ownAddress(ip netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(all, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr().Unmap() == ip
	})
}

func (t *wayTest) lmtp(ctx context.Context) {
	network := "tcp"
	if filepath.IsAbs(t.account.LMTP) {
		network = "unix"
	}
	t.add("LMTP "+t.account.LMTP, greeting(ctx, network, t.account.LMTP, "220"), "answers", "start the mail server, and let it listen there for this user")
}

// greeting connects and looks at the first line.
func greeting(ctx context.Context, network, address, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	line, err := bufio.NewReaderSize(conn, 1024).ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read its greeting: %w", err)
	}
	_, _ = conn.Write([]byte("QUIT\r\n"))
	if !strings.HasPrefix(string(line), want) {
		return fmt.Errorf("it says %q", cli.Line(strings.TrimSpace(string(line))))
	}
	return nil
}

func (t *wayTest) maildir() {
	address := wayOf(t.name, t.account).Address
	folder, err := mailboxes(t.account.Maildir)(address)
	if errors.Is(err, delivery.ErrNoMailbox) {
		t.add("Maildir", nil, address+" has none here", "")
		return
	}
	t.add("Maildir", err, folder, "see maildir in letterlock.toml(5)")
}

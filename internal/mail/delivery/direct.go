package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/letterlock-mail/letterlock/internal/mail/mtasts"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/trust"
)

// Policies finds a domain's MTA-STS policy; nil without error when it has none.
// *mtasts.Cache is one.
type Policies interface {
	Policy(ctx context.Context, domain string) (*mtasts.Policy, error)
}

// Bounds on the work that a stranger's DNS can make for one message.
const (
	maxHosts    = 10 // mail exchangers looked at
	maxTargets  = 6  // addresses connected to
	maxSessions = 2  // servers that were talked to and deferred
	maxParallel = 8  // domains of one message at a time
)

// direct takes mail to the mail exchangers of each recipient's domain (RFC 5321 section
// 5), and to Local what belongs to this machine.
func (c *Carrier) direct(ctx context.Context, r Route, j *job) error {
	var domains []string
	groups := map[string][]*addressee{}
	var local []*addressee
	for _, to := range j.open() {
		_, domain, found := cutDomain(to.Address)
		name, ok := asciiDomain(domain)
		switch {
		case !found || slices.ContainsFunc(r.LocalDomains, func(own string) bool { return strings.EqualFold(own, name) }):
			local = append(local, to)
		case !ok && !strings.HasPrefix(domain, "["):
			to.answer = &answer{verdict: queue.Refused, status: "5.1.2", reply: "the domain cannot be written in DNS"}
		default:
			if groups[name] == nil {
				domains = append(domains, name)
			}
			groups[name] = append(groups[name], to)
		}
	}
	home := j.only(local)
	if err := c.local(ctx, r, home); err != nil || len(domains) == 0 {
		return err
	}
	j.journal.record(home.to)
	outgoing := j.message
	if r.Sign != nil {
		signed, err := j.message.signed(r.Sign)
		if err != nil {
			return fmt.Errorf("sign the message: %w", err)
		}
		outgoing = signed
	}
	parts := make([]*job, len(domains))
	for i, domain := range domains {
		parts[i] = j.only(groups[domain])
		parts[i].message = outgoing
	}
	return c.toDomains(ctx, r, domains, parts)
}

// toDomains serves the domains of one message side by side, so that one whose servers
// hang does not keep the others waiting. What became of a domain is recorded while
// others are under way.
func (c *Carrier) toDomains(ctx context.Context, r Route, domains []string, parts []*job) error {
	parallel := maxParallel
	for i := range parts[1:] {
		view, err := parts[i].message.view()
		if err != nil {
			return err
		}
		if view == nil {
			parallel = 1
			break
		}
		parts[i].message = view
	}
	slots := make(chan struct{}, parallel)
	var left atomic.Int64
	left.Store(int64(len(parts)))
	var running sync.WaitGroup
	for i, part := range parts {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			c.toDomain(ctx, r, domains[i], part)
			if left.Add(-1) > 0 { // the last one's outcomes are recorded by whoever called
				part.journal.record(part.to)
			}
		})
	}
	running.Wait()
	return nil
}

func (c *Carrier) local(ctx context.Context, r Route, j *job) error {
	switch {
	case len(j.to) == 0:
		return nil
	case r.Local == nil:
		j.settle(answer{verdict: queue.Refused, status: "5.1.2", reply: "no mailboxes are kept on this machine"})
		return nil
	}
	return c.carry(ctx, *r.Local, j)
}

// A target is one address of one mail exchanger.
type target struct {
	host string
	ip   netip.Addr
}

// toDomain tries the domain's servers in order. A recipient is done when a server said
// yes or no, or may have said yes; one that was deferred goes on to the next.
func (c *Carrier) toDomain(ctx context.Context, r Route, domain string, j *job) {
	policy, targets, f := c.targets(ctx, r, domain)
	if f != nil {
		j.settle(f.answer)
		return
	}
	last := map[*addressee]*answer{}
	sessions := 0
	for i, at := range targets {
		if sessions == maxSessions || len(j.open()) == 0 || ctx.Err() != nil {
			break
		}
		if c.toTarget(ctx, r, policy, at, j) {
			sessions++
		}
		again := slices.DeleteFunc(slices.Clone(j.to), func(to *addressee) bool {
			return to.answer == nil || !to.answer.retry || to.answer.verdict != queue.Deferred
		})
		if i < len(targets)-1 {
			j.journal.takeBack(again)
		}
		for _, to := range again {
			last[to], to.answer = to.answer, nil
		}
	}
	for _, to := range j.open() {
		to.answer = last[to]
	}
}

// targets finds where the domain's mail goes, in the order to try.
func (c *Carrier) targets(ctx context.Context, r Route, domain string) (*mtasts.Policy, []target, *failure) {
	if ip, ok := literal(domain); ok {
		targets, f := c.permitted(r, []target{{host: domain, ip: ip}})
		return nil, targets, f
	}
	var policy *mtasts.Policy
	if r.Policies != nil {
		var err error
		if policy, err = r.Policies.Policy(ctx, domain); err != nil {
			// RFC 8461 section 3.3: without a policy that could be had, deliver as if
			// there were none. The log is for who wonders.
			c.options.Log.Warn("MTA-STS policy not to be had", "domain", domain, "error", err.Error())
		}
	}
	hosts, f := c.exchangers(ctx, domain)
	if f != nil {
		return nil, nil, f
	}
	if policy.Enforced() {
		hosts = slices.DeleteFunc(hosts, func(host string) bool { return !policy.Matches(host) })
		if len(hosts) == 0 {
			return nil, nil, deferred("4.7.0", "the domain's MTA-STS policy names none of its mail exchangers", domain, nil)
		}
	}
	targets, f := c.addresses(ctx, r, domain, hosts)
	return policy, targets, f
}

// exchangers are the hosts to try: MX by preference, in random order among equals, or
// the domain itself without any MX (RFC 5321 section 5.1).
func (c *Carrier) exchangers(ctx context.Context, domain string) ([]string, *failure) {
	records, err := c.options.Resolver.MX(ctx, domain)
	switch {
	case errors.Is(err, ErrNoName):
		return []string{domain}, nil
	case err != nil:
		return nil, deferred("4.4.3", "look up MX of "+domain+": "+err.Error(), domain, err)
	}
	if len(records) == 1 && records[0].Host == "" {
		// RFC 7505 section 3: the domain takes no mail.
		return nil, refusedDomain("5.1.10", domain, "the domain takes no mail (null MX)")
	}
	rand.Shuffle(len(records), func(i, k int) { records[i], records[k] = records[k], records[i] })
	slices.SortStableFunc(records, func(a, b MX) int { return int(a.Preference) - int(b.Preference) })
	var hosts []string
	for _, record := range records[:min(len(records), maxHosts)] {
		// A literal address, or worse, in an MX record is an error of the domain.
		if record.Host != "" && isDomain(record.Host) && !strings.HasPrefix(record.Host, "[") && !slices.Contains(hosts, record.Host) {
			hosts = append(hosts, record.Host)
		}
	}
	if len(hosts) == 0 {
		return nil, deferred("4.4.4", "the domain's MX records name no host", domain, nil)
	}
	return hosts, nil
}

func (c *Carrier) addresses(ctx context.Context, r Route, domain string, hosts []string) ([]target, *failure) {
	var targets []target
	var failed error
	for _, host := range hosts {
		found, err := c.options.Resolver.Addresses(ctx, host)
		if err != nil && !errors.Is(err, ErrNoName) {
			failed = err
		}
		for _, ip := range found {
			targets = append(targets, target{host: host, ip: ip.Unmap()})
		}
	}
	switch {
	case len(targets) > 0:
		return c.permitted(r, targets)
	case failed != nil:
		return nil, deferred("4.4.3", "look up the servers of "+domain+": "+failed.Error(), domain, failed)
	}
	return nil, refusedDomain("5.1.2", domain, "the domain does not exist, or has no mail server")
}

// permitted leaves out private addresses.
func (c *Carrier) permitted(r Route, targets []target) ([]target, *failure) {
	name := targets[0].host
	if !r.AllowPrivate {
		targets = slices.DeleteFunc(targets, func(t target) bool { return isPrivate(t.ip) })
	}
	if len(targets) == 0 {
		return nil, refusedDomain("5.4.4", name, "the mail server's address is a private one")
	}
	return targets[:min(len(targets), maxTargets)], nil
}

func refusedDomain(status, server, text string) *failure {
	return &failure{answer: answer{verdict: queue.Refused, status: status, reply: text, server: server}}
}

// toTarget delivers to one address, and reports whether a server was there.
func (c *Carrier) toTarget(ctx context.Context, r Route, policy *mtasts.Policy, at target, j *job) bool {
	p := peer{
		network: "tcp", address: net.JoinHostPort(at.ip.String(), strconv.Itoa(c.options.Port)), name: at.host, port: c.options.Port, hello: c.hello(r),
		security: provider.STARTTLS, config: c.tlsConfig(r.TLS, at.host), stranger: true,
	}
	key := strings.Join([]string{"mx", j.envelope.Account, at.host, p.address}, "\x00")
	if policy.Enforced() {
		// RFC 8461 section 4.2: TLS, and a certificate for the MX host's name.
		p.config = trust.Config(p.config)
		c.through(ctx, key+"\x00sts", p, j)
		return c.talked(j)
	}
	// RFC 7435: encryption for all, also for those without a certificate that we
	// could check. It keeps listeners out and nobody else, which is more than nothing.
	p.security = opportunistic
	p.config.InsecureSkipVerify = true
	c.watch(policy, at, p.config)
	c.through(ctx, key, p, j)
	if !c.tlsFailed(j) {
		return c.talked(j)
	}
	c.options.Log.Info("TLS failed, going on without it", "host", at.host, "address", p.address)
	p.security = plainMX
	c.through(ctx, key+"\x00plain", p, j)
	return c.talked(j)
}

// plainMX is opportunistic after TLS has failed.
const plainMX provider.Security = "plain-mx"

// watch notes in the log what a policy in testing mode would have stopped (RFC 8461
// section 5).
func (c *Carrier) watch(policy *mtasts.Policy, at target, config *tls.Config) {
	if policy == nil || policy.Mode != mtasts.Testing {
		return
	}
	if !policy.Matches(at.host) {
		c.options.Log.Warn("MTA-STS in testing mode: not among the policy's hosts", "host", at.host)
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if err := mtasts.Verify(state, at.host, config.RootCAs); err != nil {
			c.options.Log.Warn("MTA-STS in testing mode: certificate not valid", "host", at.host, "error", err.Error())
		}
		return nil
	}
}

// tlsFailed reports, and takes back, an answer that is about TLS alone.
func (c *Carrier) tlsFailed(j *job) bool {
	failed := false
	for _, to := range j.to {
		if to.answer != nil && to.answer.retry && (to.answer.status == "4.7.4" || to.answer.status == "4.7.5") {
			to.answer, failed = nil, true
		}
	}
	return failed
}

// talked reports whether the answers came from a server and not from the lack of one.
func (c *Carrier) talked(j *job) bool {
	return slices.ContainsFunc(j.to, func(to *addressee) bool {
		return to.answer != nil && to.answer.status != "4.4.1"
	})
}

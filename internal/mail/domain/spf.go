package domain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
)

// A Verdict is the result of an evaluation of SPF (RFC 7208 section 2.6).
type Verdict string

// The verdicts.
const (
	None      Verdict = "none"
	Neutral   Verdict = "neutral"
	Pass      Verdict = "pass"
	Fail      Verdict = "fail"
	SoftFail  Verdict = "softfail"
	TempError Verdict = "temperror"
	PermError Verdict = "permerror"
)

// The limits of RFC 7208 section 4.6.4.
const (
	spfLookups = 10
	spfVoids   = 2
)

// An SPF is what a receiver finds when it looks whether a server may send for a domain.
type SPF struct {
	Verdict Verdict
	Record  string // of the domain itself
	Term    string // that decided
	Lookups int    // terms that took DNS, of at most ten
	Problem string // why it is an error
}

// EvaluateSPF asks what a receiver makes of mail from ip with that EHLO name and sender
// (RFC 7208 section 4). The explanation of a failure (exp=) is not fetched.
func EvaluateSPF(ctx context.Context, r Resolver, ip netip.Addr, helo, sender string) SPF {
	if sender == "" {
		sender = helo // RFC 7208 section 2.4
	}
	local, domain, found := cutLast(sender, "@")
	if !found {
		local, domain = "", sender
	}
	if local == "" {
		local = "postmaster" // RFC 7208 section 4.3
	}
	e := &spfRun{resolver: r, ip: ip.Unmap().WithZone(""), helo: helo, local: local, origin: domain}
	verdict, err := e.check(ctx, domain, 0)
	out := SPF{Verdict: verdict, Record: e.record, Term: e.term, Lookups: e.lookups}
	if err != nil {
		out.Problem = err.Error()
		out.Verdict = PermError
		if errors.Is(err, dnsask.ErrDNS) {
			out.Verdict = TempError
		}
	}
	return out
}

func cutLast(text, sep string) (before, after string, found bool) {
	i := strings.LastIndex(text, sep)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(sep):], true
}

type spfRun struct {
	resolver      Resolver
	ip            netip.Addr
	helo          string
	local, origin string // of the sender

	record, term   string
	lookups, voids int
	names          []string // that belong to ip, once asked for
	asked          bool
}

// check is check_host(). An error is a temperror where it wraps dnsask.ErrDNS, else a permerror.
func (e *spfRun) check(ctx context.Context, domain string, depth int) (Verdict, error) {
	domain = strings.TrimSuffix(domain, ".")
	if !strings.Contains(domain, ".") || !isQueryable(domain) {
		return None, nil
	}
	text, err := findSPF(ctx, e.resolver, domain)
	if depth == 0 {
		e.record = text
	}
	if err != nil || text == "" {
		return None, err
	}
	terms, redirect, err := parseSPF(text)
	if err != nil {
		return None, fmt.Errorf("the record of %s: %w", shorten(domain), err)
	}
	for _, t := range terms {
		matched, err := e.match(ctx, t, domain, depth)
		if err != nil {
			return None, err
		}
		if matched {
			if depth == 0 {
				e.term = t.text
			}
			return t.verdict(), nil
		}
	}
	if redirect == "" {
		return Neutral, nil
	}
	if err := e.count(); err != nil {
		return None, err
	}
	target, err := e.expand(ctx, redirect, domain)
	if err != nil {
		return None, err
	}
	if depth == 0 {
		e.term = "redirect=" + redirect
	}
	verdict, err := e.check(ctx, target, depth+1)
	if err == nil && verdict == None {
		return None, fmt.Errorf("redirect leads to %s, which has no SPF record", shorten(target))
	}
	return verdict, err
}

// isQueryable keeps names out of DNS that it cannot carry.
func isQueryable(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return true
}

// findSPF picks the one record (RFC 7208 section 4.5); "" when there is none.
func findSPF(ctx context.Context, r Resolver, domain string) (string, error) {
	texts, err := r.TXT(ctx, domain)
	if errors.Is(err, dnsask.ErrNoName) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var found []string
	for _, text := range texts {
		if len(text) >= 6 && strings.EqualFold(text[:6], "v=spf1") && (len(text) == 6 || text[6] == ' ') {
			found = append(found, text)
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	return strings.Join(found, " | "), fmt.Errorf("%s has %d SPF records, which counts as an error; there must be one", shorten(domain), len(found))
}

// count bounds the terms that take DNS, and void the answers that are empty.
func (e *spfRun) count() error {
	if e.lookups++; e.lookups > spfLookups {
		return fmt.Errorf("it takes more than %d DNS lookups", spfLookups)
	}
	return nil
}

func (e *spfRun) void(err error) error {
	if !errors.Is(err, dnsask.ErrNoName) {
		return err
	}
	if e.voids++; e.voids > spfVoids {
		return fmt.Errorf("more than %d of its lookups find nothing", spfVoids)
	}
	return nil
}

func (e *spfRun) match(ctx context.Context, t spfTerm, domain string, depth int) (bool, error) {
	switch t.name {
	case "all":
		return true, nil
	case "ip4", "ip6":
		return t.prefix.Contains(e.ip), nil
	}
	if err := e.count(); err != nil {
		return false, err
	}
	target := domain
	if t.spec != "" {
		var err error
		if target, err = e.expand(ctx, t.spec, domain); err != nil {
			return false, err
		}
	}
	switch t.name {
	case "include":
		return e.include(ctx, target, depth)
	case "a":
		found, err := e.resolver.Addresses(ctx, target, e.ip.Is4())
		return e.within(found, t), e.void(err)
	case "exists":
		// Always an A record, for IPv6 too (RFC 7208 section 5.7).
		found, err := e.resolver.Addresses(ctx, target, true)
		return len(found) > 0, e.void(err)
	case "mx":
		return e.matchMX(ctx, target, t)
	}
	return e.matchPTR(ctx, target)
}

func (e *spfRun) include(ctx context.Context, target string, depth int) (bool, error) {
	verdict, err := e.check(ctx, target, depth+1)
	if err != nil {
		return false, err
	}
	if verdict == None {
		return false, fmt.Errorf("include:%s has no SPF record", shorten(target))
	}
	return verdict == Pass, nil
}

func (e *spfRun) within(found []netip.Addr, t spfTerm) bool {
	for _, address := range found {
		bits := t.bits6
		if address.Is4() {
			bits = t.bits4
		}
		if prefix, err := address.Prefix(bits); err == nil && prefix.Contains(e.ip) {
			return true
		}
	}
	return false
}

func (e *spfRun) matchMX(ctx context.Context, target string, t spfTerm) (bool, error) {
	hosts, err := e.resolver.MX(ctx, target)
	if err != nil {
		return false, e.void(err)
	}
	if len(hosts) > spfLookups {
		return false, fmt.Errorf("%s has more than %d mail exchangers", shorten(target), spfLookups)
	}
	for _, mx := range hosts {
		if mx.Host == "" {
			continue
		}
		found, err := e.resolver.Addresses(ctx, mx.Host, e.ip.Is4())
		if err != nil && !errors.Is(err, dnsask.ErrNoName) {
			return false, err // what is void are terms, not each host of one
		}
		if e.within(found, t) {
			return true, nil
		}
	}
	return false, nil
}

// matchPTR is the mechanism that nobody should use (RFC 7208 section 5.5). Its outages
// mean no match.
func (e *spfRun) matchPTR(ctx context.Context, target string) (bool, error) {
	names, err := e.validated(ctx)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if isBelow(name, target) {
			return true, nil
		}
	}
	return false, nil
}

// validated are the names of ip that lead back to it.
func (e *spfRun) validated(ctx context.Context) ([]string, error) {
	if e.asked {
		return e.names, nil
	}
	e.asked = true
	found, err := e.resolver.PTR(ctx, Reverse(e.ip))
	if err != nil {
		if errors.Is(err, dnsask.ErrDNS) {
			return nil, nil
		}
		return nil, e.void(err)
	}
	for _, name := range found[:min(len(found), spfLookups)] {
		addresses, err := e.resolver.Addresses(ctx, name, e.ip.Is4())
		if err != nil {
			continue
		}
		for _, address := range addresses {
			if address == e.ip {
				e.names = append(e.names, name)
				break
			}
		}
	}
	return e.names, nil
}

// isBelow reports whether name is domain or stands under it.
func isBelow(name, domain string) bool {
	name, domain = strings.ToLower(name), strings.ToLower(strings.TrimSuffix(domain, "."))
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// Reverse is the name of an address's PTR record.
func Reverse(ip netip.Addr) string {
	suffix := ".ip6.arpa"
	if ip.Is4() {
		suffix = ".in-addr.arpa"
	}
	return reversed(ip) + suffix
}

// reversed is an address as block lists and reverse DNS have it: octets, or nibbles of
// IPv6, backwards.
func reversed(ip netip.Addr) string {
	parts := strings.Split(dotted(ip), ".")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, ".")
}

// dotted is an address as the macro i has it (RFC 7208 section 7.3).
func dotted(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	const digits = "0123456789abcdef"
	var out []byte
	for _, b := range ip.As16() {
		out = append(out, digits[b>>4], '.', digits[b&15], '.')
	}
	return string(out[:len(out)-1])
}

package domain

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
)

// Blocklists are the lists asked when none are named: those that large receivers use,
// that are free to ask for a single machine, and that keep the test entries of RFC 5782.
func Blocklists() []string {
	return []string{"zen.spamhaus.org", "bl.spamcop.net", "psbl.surriel.com", "dnsbl-1.uceprotect.net", "b.barracudacentral.org"}
}

// A listing is what a block list's answer means.
type listing string

const (
	notListed listing = "not listed"
	isListed  listing = "listed"
	refused   listing = "refused"   // the list answers, but not us
	nonsense  listing = "no answer" // addresses that no list gives
)

// readAnswer judges the A records of a query (RFC 5782 section 2.1: a listing is within
// 127.0.0.0/8). Lists say within 127.255.255.0/24 that they refuse to answer: .252 a slip
// in the name, .254 asked through a public resolver, .255 asked too often. Reading those
// as listings has made whole providers bounce all of their mail. 127.0.0.1 means
// nothing in any list either; resolvers that block a name answer with it.
func readAnswer(found []netip.Addr) listing {
	verdict := notListed
	for _, ip := range found {
		ip = ip.Unmap()
		b := ip.As16()
		switch {
		case !ip.Is4() || b[12] != 127:
			return nonsense
		case b[13] == 255 && b[14] == 255, b[13] == 0 && b[14] == 0 && b[15] == 1:
			return refused
		default:
			verdict = isListed
		}
	}
	return verdict
}

func (c *Checker) checkBlocklist(ctx context.Context, list string, ip netip.Addr) Finding {
	f := Finding{Level: OK, Check: "blocklist", Subject: ip.String() + " in " + list}
	trust, why, err := c.trustworthy(ctx, list, ip.Is4())
	switch {
	case err != nil:
		return unknown("blocklist", f.Subject, err)
	case !trust:
		f.Level, f.Problem, f.Remedy = Warning, why, "ask through a resolver of your own, with --server"
		if !ip.Is4() {
			f.Level, f.Problem, f.Remedy = OK, "not asked: "+why, ""
		}
		return f
	}
	name := reversed(ip) + "." + list
	found, err := c.Resolver.Addresses(ctx, name, true)
	if err != nil && !errors.Is(err, dnsask.ErrNoName) {
		return unknown("blocklist", f.Subject, err)
	}
	f.Published = join(found)
	switch readAnswer(found) {
	case notListed:
		f.Problem = "not listed"
	case isListed:
		f.Level, f.Problem, f.Remedy = Wrong, "listed", "find out why at the operator of "+list+", mend it, and only then ask to be taken off"
		if texts, err := c.Resolver.TXT(ctx, name); err == nil && len(texts) > 0 {
			f.Problem = "listed: " + shorten(texts[0])
		}
		if list == "zen.spamhaus.org" && slices.ContainsFunc(found, func(ip netip.Addr) bool { b := ip.As4(); return b[3] == 10 || b[3] == 11 }) {
			f.Remedy = "a range of end users, not a fault of yours: send by submission, or have the address taken off the PBL"
		}
	default:
		f.Level, f.Problem, f.Remedy = Warning, "the list refuses to answer", "ask through a resolver of your own, with --server"
	}
	return f
}

// trustworthy asks for the list's test entries (RFC 5782 section 5): 127.0.0.2 must be
// listed, or we are refused without a word or the list is dead; 127.0.0.1 must not be, or
// the list has been switched off by listing the whole world. Their IPv6 forms are
// ::FFFF:7F00:2 and ::FFFF:7F00:1.
func (c *Checker) trustworthy(ctx context.Context, list string, v4 bool) (bool, string, error) {
	entry := func(last byte) string {
		if v4 {
			return reversed(netip.AddrFrom4([4]byte{127, 0, 0, last}))
		}
		return reversed(netip.AddrFrom16([16]byte{10: 255, 11: 255, 12: 127, 15: last}))
	}
	ask := func(last byte) (listing, error) {
		found, err := c.Resolver.Addresses(ctx, entry(last)+"."+strings.TrimSuffix(list, "."), true)
		if err != nil && !errors.Is(err, dnsask.ErrNoName) {
			return "", err
		}
		return readAnswer(found), nil
	}
	must, err := ask(2)
	if err != nil {
		return false, "", err
	}
	mustNot, err := ask(1)
	if err != nil {
		return false, "", err
	}
	switch {
	case must == refused || mustNot == refused:
		return false, "the list refuses this DNS server: a public resolver, or one that asks too much", nil
	case must == nonsense || mustNot == nonsense:
		return false, "the answers are none of a block list: it has been given up, or DNS is tampered with", nil
	case mustNot == isListed:
		return false, "the list has everybody in it: it has been given up", nil
	case must == notListed && v4:
		return false, "the list does not have its own test entry: it refuses this DNS server, has been given up, or the server drops answers within 127.0.0.0/8", nil
	case must == notListed:
		return false, "the list has no test entry for IPv6", nil
	}
	return true, "", nil
}

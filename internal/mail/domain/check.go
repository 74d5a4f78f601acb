package domain

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
)

// A Level says how a finding stands.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning" // mail arrives; something is weaker than it could be
	Wrong   Level = "wrong"   // mail is refused, or treated as a forgery
	Unknown Level = "unknown" // could not be asked
)

// A Finding is one thing that was looked at. Published, Problem and Remedy may hold
// foreign text.
type Finding struct {
	Level     Level
	Check     string // spf, dkim, dmarc, mta-sts, tlsrpt, mx, ptr, port25, blocklist
	Subject   string // name, address or server
	Published string // what was found there
	Problem   string // what follows from it
	Remedy    string // what to do; empty when it is well
}

// A Checker looks at what is published.
type Checker struct {
	Resolver Resolver
	// HTTP fetches the MTA-STS policy. It must check certificates and follow no redirect.
	HTTP *http.Client
	// Dial opens the connection to Probe.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Blocklists []string // zones (RFC 5782); none: not asked
	Probe      string   // a domain or host[:port] whose port 25 is tried; empty: not tried
}

// atOnce bounds the questions that are open at the same time.
const atOnce = 16

// Check looks at everything and returns the findings in a fixed order. It ends when ctx
// does; what was not answered by then is Unknown.
func (c *Checker) Check(ctx context.Context, s Sender) []Finding {
	var spf, dkim outcome
	stages := []func() []Finding{
		func() []Finding { return c.checkSPF(ctx, s, &spf) },
		func() []Finding { return c.checkDKIM(ctx, s, &dkim) },
		func() []Finding { return c.checkMX(ctx, s) },
		func() []Finding { return c.checkMTASTS(ctx, s) },
		func() []Finding { return c.checkTLSRPT(ctx, s) },
	}
	for _, ip := range s.Addresses {
		stages = append(stages, func() []Finding { return c.checkPTR(ctx, s, ip) })
	}
	stages = append(stages, func() []Finding { return c.checkPort25(ctx) })
	for _, ip := range s.Addresses {
		for _, list := range c.Blocklists {
			stages = append(stages, func() []Finding { return []Finding{c.checkBlocklist(ctx, list, ip)} })
		}
	}
	var dmarc func(spf, dkim outcome) []Finding
	found := make([][]Finding, len(stages))
	slots := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	run := func(do func()) {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			do()
		})
	}
	run(func() { dmarc = c.checkDMARC(ctx, s) })
	for i, stage := range stages {
		run(func() { found[i] = stage() })
	}
	wait.Wait()
	var out []Finding
	for i, part := range found {
		out = append(out, part...)
		if i == 1 { // after SPF and DKIM, on which it stands
			out = append(out, dmarc(spf, dkim)...)
		}
	}
	return out
}

// An outcome is what a check means for DMARC.
type outcome string

const (
	passes outcome = "passes"
	fails  outcome = "fails"
	open   outcome = "" // could not be found out, or nothing is known to look at
)

// unknown is a question that got no answer.
func unknown(check, subject string, err error) Finding {
	problem := "could not be asked: " + strings.TrimPrefix(err.Error(), subject+": ")
	f := Finding{Level: Unknown, Check: check, Subject: subject, Problem: problem, Remedy: "try again, or ask another DNS server with --server"}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		f.Remedy = "try again with a longer --timeout"
	}
	return f
}

func (c *Checker) checkSPF(ctx context.Context, s Sender, to *outcome) []Finding {
	if len(s.Addresses) == 0 {
		return []Finding{{Level: Unknown, Check: "spf", Subject: s.Domain, Problem: "no address that mail is sent from is known", Remedy: "name each with --address"}}
	}
	var out []Finding
	*to = passes
	var refused []netip.Addr
	for _, ip := range s.Addresses {
		r := EvaluateSPF(ctx, c.Resolver, ip, s.Host, "postmaster@"+s.Domain)
		f := Finding{Level: OK, Check: "spf", Subject: ip.String(), Published: r.Record}
		switch r.Verdict {
		case Pass:
			f.Problem = fmt.Sprintf("pass by %s, after %d of %d lookups", shorten(r.Term), r.Lookups, spfLookups)
		case TempError:
			f.Level, f.Problem, f.Remedy = Unknown, r.Problem, "try again: receivers put the mail off meanwhile"
			if *to == passes {
				*to = open
			}
		case PermError:
			f.Level, f.Problem, f.Remedy = Wrong, "the record does not count: "+r.Problem, "mend the record"
			*to = fails
		default:
			f.Level, f.Problem = Wrong, "mail from this address gets "+string(r.Verdict)
			refused = append(refused, ip)
			*to = fails
		}
		out = append(out, f)
	}
	for i := range out {
		if f := &out[i]; f.Level == Wrong && f.Remedy == "" {
			f.Remedy = "publish for " + s.Domain + ": " + quoteTXT(amendSPF(f.Published, refused...))
		}
	}
	return append(out, c.checkSPFRecord(ctx, s)...)
}

// stranger is an address that nobody sends from: evaluating it walks the whole record.
func stranger() netip.Addr { return netip.AddrFrom4([4]byte{0, 0, 0, 1}) }

// checkSPFRecord looks at the record as a whole, and at the one of the EHLO name.
func (c *Checker) checkSPFRecord(ctx context.Context, s Sender) []Finding {
	var out []Finding
	r := EvaluateSPF(ctx, c.Resolver, stranger(), s.Host, "postmaster@"+s.Domain)
	f := Finding{Check: "spf", Subject: s.Domain, Published: r.Record}
	switch r.Verdict {
	case PermError:
		f.Level, f.Problem, f.Remedy = Wrong, "the record does not count for senders that stand late in it: "+r.Problem, "write addresses instead of include:, a and mx"
		out = append(out, f)
	case Pass:
		f.Level, f.Problem, f.Remedy = Wrong, "the record lets everybody send: "+shorten(r.Term), "end it in ~all"
		out = append(out, f)
	case Neutral:
		f.Level, f.Problem, f.Remedy = Warning, "the record does not say that others may not send", "end it in ~all"
		out = append(out, f)
	}
	if terms, _, err := parseSPF(r.Record); err == nil {
		for _, t := range terms {
			if t.name == "ptr" {
				out = append(out, Finding{Level: Warning, Check: "spf", Subject: s.Domain, Published: r.Record, Problem: "ptr is slow, and some receivers do not do it", Remedy: "write addresses instead (RFC 7208 section 5.5)"})
			}
		}
	}
	if s.Host == "" || strings.EqualFold(s.Host, s.Domain) {
		return out
	}
	for _, ip := range s.Addresses {
		r := EvaluateSPF(ctx, c.Resolver, ip, s.Host, "postmaster@"+s.Host)
		if r.Verdict != Pass && r.Verdict != None && r.Verdict != TempError {
			out = append(out, Finding{Level: Warning, Check: "spf", Subject: s.Host, Published: r.Record,
				Problem: fmt.Sprintf("the EHLO name gets %s for %s; bounces carry no other name", r.Verdict, ip), Remedy: "publish for " + s.Host + ": " + quoteTXT("v=spf1 a -all")})
		}
	}
	return out
}

func (c *Checker) checkDKIM(ctx context.Context, s Sender, to *outcome) []Finding {
	if len(s.Keys) == 0 {
		*to = fails
		return []Finding{{Level: Warning, Check: "dkim", Subject: s.Domain, Problem: "this machine has no key for the domain, so that its mail is not signed", Remedy: "letterlock dkim new " + s.Domain}}
	}
	var out []Finding
	*to = fails
	for _, key := range s.Keys {
		f := c.checkKey(ctx, key)
		out = append(out, f)
		switch {
		case key.Signs && f.Level == OK:
			*to = passes
		case key.Signs && f.Level == Unknown && *to == fails:
			*to = open
		}
	}
	return out
}

func (c *Checker) checkKey(ctx context.Context, key Key) Finding {
	f := Finding{Level: Wrong, Check: "dkim", Subject: key.Name(), Remedy: "publish: " + Record{key.Name(), "TXT", key.Record()}.Zone()}
	if !key.Signs {
		// It is not used yet, or no more.
		f.Level = Warning
	}
	texts, err := c.Resolver.TXT(ctx, key.Name())
	switch {
	case errors.Is(err, dnsask.ErrNoName) && !key.Signs:
		f.Problem = "not published; this key does not sign"
		f.Remedy += "; then letterlock dkim use " + key.Domain + " " + key.Selector
		return f
	case errors.Is(err, dnsask.ErrNoName):
		f.Problem = "not published: signatures of this key fail"
		return f
	case err != nil:
		return unknown("dkim", key.Name(), err)
	}
	f.Published = strings.Join(texts, " | ")
	if len(texts) > 1 {
		f.Problem, f.Remedy = fmt.Sprintf("%d TXT records stand there; verifiers may take any of them", len(texts)), "leave only "+quoteTXT(key.Record())
		return f
	}
	published, err := ParseKeyRecord(texts[0])
	if f.Problem = keyProblem(key, published, err); f.Problem != "" {
		return f
	}
	f.Remedy = ""
	switch {
	case published.Testing:
		f.Level, f.Problem, f.Remedy = Warning, "t=y tells verifiers to treat the mail as unsigned", "take t=y out"
	case !key.Signs:
		f.Level, f.Problem = OK, "published; it does not sign: letterlock dkim use "+key.Domain+" "+key.Selector+" makes it sign"
	default:
		f.Level, f.Problem = OK, "matches the key, which signs"
	}
	return f
}

func keyProblem(key Key, published KeyRecord, err error) string {
	same, _ := key.private.Public().(interface{ Equal(x crypto.PublicKey) bool })
	switch {
	case published.Revoked:
		return "the record says that the key is revoked"
	case err != nil:
		return err.Error()
	case published.Kind != key.Algorithm.kind():
		return "the record is for " + shorten(published.Kind) + ", the key is " + key.Algorithm.kind()
	case same == nil || !same.Equal(published.Public):
		return "the record holds another key"
	case published.Hashes != nil && !slices.Contains(published.Hashes, "sha256"):
		return "h= leaves out sha256"
	case published.Services != nil && !slices.Contains(published.Services, "email"):
		return "s= leaves out email"
	}
	return ""
}

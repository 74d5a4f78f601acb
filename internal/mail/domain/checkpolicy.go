package domain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/mail/mtasts"
)

// checkDMARC asks at once and judges when the outcomes of SPF and DKIM are there.
func (c *Checker) checkDMARC(ctx context.Context, s Sender) func(spf, dkim outcome) []Finding {
	at, text, record, err := c.findDMARC(ctx, s.Domain)
	advice := "publish: " + Record{"_dmarc." + s.Domain, "TXT", "v=DMARC1; p=none; rua=mailto:" + s.reports()}.Zone()
	one := func(f Finding) func(spf, dkim outcome) []Finding {
		return func(_, _ outcome) []Finding { return []Finding{f} }
	}
	f := Finding{Check: "dmarc", Subject: "_dmarc." + at, Published: text}
	switch {
	case errors.Is(err, dnsask.ErrNoName):
		f.Level, f.Subject, f.Problem, f.Remedy = Wrong, "_dmarc."+s.Domain, "not published: large receivers refuse bulk mail without it", advice
		return one(f)
	case errors.Is(err, ErrRecord):
		f.Level, f.Problem, f.Remedy = Wrong, err.Error(), "mend the record"
		return one(f)
	case err != nil:
		return one(unknown("dmarc", "_dmarc."+at, err))
	}
	policy := record.Policy
	if at != s.Domain && record.Subdomains != "" {
		policy = record.Subdomains
	}
	reports := c.checkReports(ctx, s, at, record)
	return func(spf, dkim outcome) []Finding {
		f.Level, f.Problem = OK, "p="+policy
		switch {
		case spf != passes && dkim != passes && (spf == fails || dkim == fails):
			// Both are aligned when they pass: MAIL FROM and d= are the domain itself.
			f.Level, f.Problem, f.Remedy = Wrong, "neither SPF nor DKIM passes, so that the mail fails DMARC with p="+policy, "mend one of the two above, better both"
			if spf == open || dkim == open {
				f.Level, f.Problem = Warning, "one of SPF and DKIM does not pass and the other could not be asked; p="+policy
			}
		case spf == open && dkim == open:
			f.Level, f.Problem, f.Remedy = Unknown, "whether mail passes could not be found out; p="+policy, "see SPF and DKIM above"
		case policy == "none" || record.Testing:
			f.Level, f.Problem, f.Remedy = Warning, "forgeries are not refused: p="+policy, "when the reports show no mail but your own, publish p=quarantine, then p=reject"
			if record.Testing {
				f.Problem, f.Remedy = "t=y: receivers do not apply p="+policy, "when the reports show no mail but your own, take t=y out"
			}
		case spf != passes || dkim != passes:
			f.Level, f.Problem, f.Remedy = Warning, "mail passes by one of SPF and DKIM only; p="+policy, "mend the other, above"
		case len(record.Removed) > 0:
			f.Level, f.Problem, f.Remedy = Warning, "RFC 9989 has taken out "+strings.Join(record.Removed, ", ")+"; receivers go by p="+policy+" alone", "take them out of the record"
		}
		return append([]Finding{f}, reports...)
	}
}

// findDMARC walks up the tree (RFC 9989 section 4.10): the domain's own record, else
// that of the organization above it.
func (c *Checker) findDMARC(ctx context.Context, domain string) (at, text string, record DMARC, err error) {
	for at, steps := domain, 0; steps < 8; steps++ {
		texts, err := c.Resolver.TXT(ctx, "_dmarc."+at)
		if err != nil && !errors.Is(err, dnsask.ErrNoName) {
			return at, "", record, err
		}
		var ours []string
		var bad error
		for _, text := range texts {
			found, ok, err := ParseDMARC(text)
			if ok {
				ours, record, bad = append(ours, text), found, err
			}
		}
		switch {
		case len(ours) > 1:
			return at, strings.Join(ours, " | "), record, fmt.Errorf("%w: there are %d, so that receivers take none", ErrRecord, len(ours))
		case len(ours) == 1:
			return at, ours[0], record, bad
		}
		labels := strings.Split(at, ".")
		if len(labels) < 3 {
			break // top-level domains speak for nobody who sends
		}
		if len(labels) > 8 {
			labels = labels[len(labels)-8:]
		}
		at = strings.Join(labels[1:], ".")
	}
	return domain, "", record, dnsask.ErrNoName
}

// checkReports asks whether a foreign domain takes the reports (RFC 9990 section 4, RFC
// 7489 section 7.1).
func (c *Checker) checkReports(ctx context.Context, s Sender, at string, record DMARC) []Finding {
	if len(record.Reports) == 0 {
		return []Finding{{Level: Warning, Check: "dmarc", Subject: "_dmarc." + at, Problem: "no rua=: nobody tells you who sends in your name", Remedy: "add rua=mailto:" + s.reports()}}
	}
	var out []Finding
	for _, uri := range record.Reports[:min(len(record.Reports), 10)] {
		address, isMail := strings.CutPrefix(strings.ToLower(uri), "mailto:")
		address, _, _ = strings.Cut(address, "!")
		_, to, found := cutLast(address, "@")
		if !isMail || !found {
			out = append(out, Finding{Level: Warning, Check: "dmarc", Subject: "_dmarc." + at, Published: uri, Problem: "reports go to mailto: addresses only", Remedy: "write rua=mailto:" + s.reports()})
			continue
		}
		if organization(to) == organization(at) || isBelow(to, at) || isBelow(at, to) {
			continue
		}
		name := at + "._report._dmarc." + to
		texts, err := c.Resolver.TXT(ctx, name)
		if err != nil && !errors.Is(err, dnsask.ErrNoName) {
			out = append(out, unknown("dmarc", name, err))
			continue
		}
		accepted := false
		for _, text := range texts {
			accepted = accepted || strings.HasPrefix(text, "v=DMARC1")
		}
		if !accepted {
			out = append(out, Finding{Level: Warning, Check: "dmarc", Subject: name, Published: strings.Join(texts, " | "), Problem: to + " does not say that it takes reports for " + at,
				Remedy: "have it publish: " + Record{name, "TXT", "v=DMARC1"}.Zone()})
		}
	}
	return out
}

// organization is the domain's last two labels: good enough to leave out a question.
func organization(domain string) string {
	labels := strings.Split(domain, ".")
	return strings.Join(labels[max(0, len(labels)-2):], ".")
}

func (c *Checker) checkTLSRPT(ctx context.Context, s Sender) []Finding {
	name := "_smtp._tls." + s.Domain
	f := Finding{Level: Warning, Check: "tlsrpt", Subject: name, Remedy: "publish: " + Record{name, "TXT", "v=TLSRPTv1; rua=mailto:" + s.reports()}.Zone()}
	texts, err := c.Resolver.TXT(ctx, name)
	if err != nil && !errors.Is(err, dnsask.ErrNoName) {
		return []Finding{unknown("tlsrpt", name, err)}
	}
	count := 0
	for _, text := range texts {
		reports, ok, bad := ParseTLSRPT(text)
		if !ok {
			continue
		}
		count++
		f.Published, err = text, bad
		f.Problem = "reports go to " + strings.Join(reports, ", ")
	}
	switch {
	case count == 0:
		f.Problem = "not published: nobody tells you when mail to the domain fails for TLS"
	case count > 1:
		f.Problem, f.Remedy = fmt.Sprintf("there are %d records, so that senders take none", count), "leave one"
	case err != nil:
		f.Level, f.Problem = Wrong, err.Error()
	default:
		f.Level, f.Remedy = OK, ""
	}
	return []Finding{f}
}

func (c *Checker) checkMTASTS(ctx context.Context, s Sender) []Finding {
	name := "_mta-sts." + s.Domain
	f := Finding{Level: Warning, Check: "mta-sts", Subject: name, Remedy: "publish the record and the policy that this command prints"}
	records := 0
	cache := mtasts.NewCache(mtasts.Options{HTTP: c.HTTP, TXT: func(ctx context.Context, name string) ([]string, error) {
		texts, err := c.Resolver.TXT(ctx, name)
		if errors.Is(err, dnsask.ErrNoName) {
			return nil, nil
		}
		for _, text := range texts {
			if _, ok, _ := mtasts.ParseRecord(text); ok || strings.HasPrefix(text, "v=STSv1") {
				f.Published, records = text, records+1
			}
		}
		return texts, err
	}})
	policy, err := cache.Policy(ctx, s.Domain)
	switch {
	case err != nil && (errors.Is(err, dnsask.ErrDNS) || ctx.Err() != nil):
		return []Finding{unknown("mta-sts", name, err)}
	case records > 1:
		f.Problem, f.Remedy = fmt.Sprintf("there are %d records, so that senders take none", records), "leave one"
		return []Finding{f}
	case err != nil:
		f.Level, f.Problem, f.Remedy = Wrong, "announced, but there is no policy to be had: "+err.Error(), "serve it at "+PolicyURL(s.Domain)+" with a valid certificate, or take the record out"
		return []Finding{f}
	case policy == nil:
		f.Problem = "not published: senders cannot know that they must use TLS to reach the domain"
		return []Finding{f}
	}
	f.Published += fmt.Sprintf(" (mode %s, mx %s)", policy.Mode, strings.Join(policy.MX, " "))
	hosts, err := c.Resolver.MX(ctx, s.Domain)
	if err != nil && !errors.Is(err, dnsask.ErrNoName) {
		return []Finding{unknown("mta-sts", name, err)}
	}
	var strangers []string
	for _, mx := range hosts {
		if mx.Host != "" && !policy.Matches(mx.Host) {
			strangers = append(strangers, mx.Host)
		}
	}
	switch {
	case len(strangers) > 0 && policy.Mode != mtasts.None:
		f.Problem, f.Remedy = "the policy leaves out the mail exchanger "+strings.Join(strangers, ", "), "add it to the policy, then change the record's id"
		if policy.Enforced() {
			f.Level = Wrong
		}
	case policy.Mode != mtasts.Enforce:
		f.Problem, f.Remedy = "mode "+string(policy.Mode)+" protects nobody", "when TLS reports show no failure, take mode: enforce and change the record's id"
	case policy.MaxAge < 24*time.Hour:
		f.Problem, f.Remedy = "senders forget the policy after "+policy.MaxAge.String(), "take max_age: 604800 or more"
	default:
		f.Level, f.Problem, f.Remedy = OK, "the policy fits the mail exchangers", ""
	}
	return []Finding{f}
}

// PolicyClient fetches policies as RFC 8461 section 3.3 wants it: certificates checked,
// no redirect followed. Names go through r, so that the host is the one that the DNS
// server under test knows.
func PolicyClient(r Resolver, roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				found, err := both(ctx, r, host)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", host, err)
				}
				for _, ip := range found {
					var conn net.Conn
					if conn, err = (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(ip.String(), port)); err == nil {
						return conn, nil
					}
				}
				return nil, err
			},
		},
	}
}

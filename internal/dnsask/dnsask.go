// Package dnsask asks DNS servers for the records that mail lives on: TXT, MX, SRV,
// PTR and addresses. It is a stub resolver and nothing else: no cache, no recursion,
// no validation of signatures. Callers are what looks at published records (package
// domain) and what finds a mailbox's servers by them (package discovery).
//
// net.Resolver does not do, because it looks into /etc/hosts first, where Debian
// writes 127.0.1.1 beside the machine's own name, and because it takes an outage and
// "there is no such name" for one thing in LookupSRV. miekg/dns, which the tests use,
// would cost every start of letterlock the set-up of its tables; x/net's dnsmessage
// packs and unpacks, and that is all that is needed.
package dnsask

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var (
	// ErrNoName means that DNS has no such name, or no such record for it: an answer, not
	// an outage.
	ErrNoName = errors.New("not found in DNS")
	// ErrDNS means that no server gave an answer.
	ErrDNS = errors.New("no answer from DNS")
	// ErrName means that a name cannot be written in DNS. It comes with ErrNoName.
	ErrName = errors.New("not a name for DNS")
)

// An MX is one mail exchanger.
type MX struct {
	Host       string // "" is the null MX (RFC 7505)
	Preference uint16
}

// An SRV is one server of a service (RFC 2782).
type SRV struct {
	Target           string // "" says that there is no such service
	Port             uint16
	Priority, Weight uint16
}

// A Client asks DNS servers. Names come and go without a final dot, in lower case. It
// believes what its servers say; DNSSEC is theirs to do.
type Client struct {
	Servers []string      // host:port, asked in turn
	Timeout time.Duration // for one server's answer; 0 means 3 s
}

// SystemServers finds the servers that this machine asks, on every system that Go knows:
// net.Resolver is made to dial, and gets no further.
func SystemServers(ctx context.Context) []string {
	var found []string
	r := net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		if !slices.Contains(found, address) {
			found = append(found, address)
		}
		return nil, errors.New("not needed")
	}}
	// LookupMX never looks into /etc/hosts and asks for one name only.
	_, _ = r.LookupMX(ctx, "example.com.")
	return found
}

// TXT gives the texts of a name. The strings of a record are joined without a blank (RFC 7208
// section 3.3, RFC 6376 section 3.6.2.2).
func (c *Client) TXT(ctx context.Context, name string) ([]string, error) {
	var out []string
	err := c.ask(ctx, name, dnsmessage.TypeTXT, func(body dnsmessage.ResourceBody) {
		if r, ok := body.(*dnsmessage.TXTResource); ok {
			out = append(out, strings.Join(r.TXT, ""))
		}
	})
	return out, err
}

// MX gives the mail exchangers, best first.
func (c *Client) MX(ctx context.Context, name string) ([]MX, error) {
	var out []MX
	err := c.ask(ctx, name, dnsmessage.TypeMX, func(body dnsmessage.ResourceBody) {
		if r, ok := body.(*dnsmessage.MXResource); ok {
			out = append(out, MX{Host: plain(r.MX), Preference: r.Pref})
		}
	})
	slices.SortStableFunc(out, func(a, b MX) int { return int(a.Preference) - int(b.Preference) })
	return out, err
}

// Addresses gives A records with v4, else AAAA records.
func (c *Client) Addresses(ctx context.Context, name string, v4 bool) ([]netip.Addr, error) {
	kind := dnsmessage.TypeAAAA
	if v4 {
		kind = dnsmessage.TypeA
	}
	var out []netip.Addr
	err := c.ask(ctx, name, kind, func(body dnsmessage.ResourceBody) {
		switch r := body.(type) {
		case *dnsmessage.AResource:
			out = append(out, netip.AddrFrom4(r.A))
		case *dnsmessage.AAAAResource:
			out = append(out, netip.AddrFrom16(r.AAAA))
		}
	})
	return out, err
}

// SRV gives the servers of a service, "_imaps._tcp.example.org", best first: by
// priority, and among equals the heavier. RFC 2782 draws lots among them; whoever
// writes one of them down for good is better served by the same one each time.
func (c *Client) SRV(ctx context.Context, name string) ([]SRV, error) {
	var out []SRV
	err := c.ask(ctx, name, dnsmessage.TypeSRV, func(body dnsmessage.ResourceBody) {
		if r, ok := body.(*dnsmessage.SRVResource); ok {
			out = append(out, SRV{Target: plain(r.Target), Port: r.Port, Priority: r.Priority, Weight: r.Weight})
		}
	})
	slices.SortStableFunc(out, func(a, b SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.Target, b.Target))
	})
	return out, err
}

// PTR gives the names of an address that was turned into one.
func (c *Client) PTR(ctx context.Context, name string) ([]string, error) {
	var out []string
	err := c.ask(ctx, name, dnsmessage.TypePTR, func(body dnsmessage.ResourceBody) {
		if r, ok := body.(*dnsmessage.PTRResource); ok {
			out = append(out, plain(r.PTR))
		}
	})
	return out, err
}

func plain(name dnsmessage.Name) string {
	return strings.ToLower(strings.TrimSuffix(name.String(), "."))
}

// ask puts one question to the servers in turn, twice round, and hands over the records
// of the answer.
func (c *Client) ask(ctx context.Context, name string, kind dnsmessage.Type, each func(dnsmessage.ResourceBody)) error {
	full, err := dnsmessage.NewName(name + ".")
	if err != nil || slices.ContainsFunc(strings.Split(name, "."), func(label string) bool { return label == "" || len(label) > 63 }) {
		// Macros of SPF make such names. Nobody can have published anything there.
		return fmt.Errorf("%q: %w: %w", shorten(name), ErrNoName, ErrName)
	}
	question := dnsmessage.Question{Name: full, Type: kind, Class: dnsmessage.ClassINET}
	last := errors.New("no DNS server is set up")
	for range 2 {
		for _, server := range c.Servers {
			bodies, err := c.askServer(ctx, server, question)
			switch {
			case err == nil:
				for _, b := range bodies {
					each(b)
				}
				return nil
			case errors.Is(err, ErrNoName):
				return fmt.Errorf("%s: %w", shorten(name), err)
			case ctx.Err() != nil:
				return fmt.Errorf("%s: %w: %w", shorten(name), ErrDNS, context.Cause(ctx))
			case errors.Is(err, net.ErrClosed):
				err = fmt.Errorf("%s is silent", server)
			}
			last = err
		}
	}
	return fmt.Errorf("%s: %w: %w", shorten(name), ErrDNS, last)
}

// askServer asks by UDP, and by TCP when the answer did not fit (RFC 7766 section 5).
func (c *Client) askServer(ctx context.Context, server string, question dnsmessage.Question) ([]dnsmessage.ResourceBody, error) {
	query, id, err := buildQuery(question, true)
	if err != nil {
		return nil, err
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 3 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := exchangeUDP(ctx, server, query, id, question)
	if err != nil {
		return nil, err
	}
	bodies, err := parseAnswer(answer, id, question)
	if errors.Is(err, errFormat) {
		// A server older than EDNS(0) (RFC 6891 section 7).
		if query, id, err = buildQuery(question, false); err != nil {
			return nil, err
		}
		if answer, err = exchangeUDP(ctx, server, query, id, question); err != nil {
			return nil, err
		}
		bodies, err = parseAnswer(answer, id, question)
	}
	if !errors.Is(err, errTruncated) {
		return bodies, err
	}
	if answer, err = exchangeTCP(ctx, server, query); err != nil {
		return nil, err
	}
	return parseAnswer(answer, id, question)
}

// udpSize is what fits through any path unfragmented (DNS flag day 2020).
const udpSize = 1232

func buildQuery(question dnsmessage.Question, edns bool) ([]byte, uint16, error) {
	var random [2]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, 0, err
	}
	id := binary.BigEndian.Uint16(random[:])
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	b.EnableCompression()
	err := errors.Join(b.StartQuestions(), b.Question(question))
	if edns && err == nil {
		var header dnsmessage.ResourceHeader
		err = errors.Join(b.StartAdditionals(), header.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false), b.OPTResource(header, dnsmessage.OPTResource{}))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("build a DNS query: %w", err)
	}
	query, err := b.Finish()
	return query, id, err
}

func exchangeUDP(ctx context.Context, server string, query []byte, id uint16, question dnsmessage.Question) ([]byte, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		// Somebody else's answer, or a forged one: go on waiting for ours.
		if answers(buffer[:n], id, question) {
			return buffer[:n], nil
		}
	}
}

func exchangeTCP(ctx context.Context, server string, query []byte) ([]byte, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err = io.ReadFull(conn, answer)
	return answer, err
}

var (
	errTruncated = errors.New("truncated")
	errFormat    = errors.New("the server does not understand the query")
)

// answers reports whether a packet is about our question.
func answers(packet []byte, id uint16, question dnsmessage.Question) bool {
	var p dnsmessage.Parser
	header, err := p.Start(packet)
	if err != nil || header.ID != id || !header.Response {
		return false
	}
	q, err := p.Question()
	if errors.Is(err, dnsmessage.ErrSectionDone) {
		return header.RCode == dnsmessage.RCodeFormatError // such an answer may leave it out
	}
	return err == nil && q.Type == question.Type && q.Class == question.Class && strings.EqualFold(q.Name.String(), question.Name.String())
}

// parseAnswer gives the records of the asked type at the end of the CNAME chain.
func parseAnswer(packet []byte, id uint16, question dnsmessage.Question) ([]dnsmessage.ResourceBody, error) {
	if !answers(packet, id, question) {
		return nil, errors.New("the answer is about something else")
	}
	var p dnsmessage.Parser
	header, err := p.Start(packet)
	if err != nil {
		return nil, fmt.Errorf("read a DNS answer: %w", err)
	}
	switch {
	case header.RCode == dnsmessage.RCodeFormatError || header.RCode == dnsmessage.RCodeNotImplemented:
		return nil, errFormat
	case header.Truncated:
		return nil, errTruncated
	case header.RCode == dnsmessage.RCodeNameError:
		return nil, fmt.Errorf("%w: there is no such name", ErrNoName)
	case header.RCode != dnsmessage.RCodeSuccess:
		return nil, fmt.Errorf("the server says %s", strings.TrimPrefix(header.RCode.String(), "RCode"))
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, fmt.Errorf("read a DNS answer: %w", err)
	}
	records, err := p.AllAnswers()
	if err != nil {
		return nil, fmt.Errorf("read a DNS answer: %w", err)
	}
	owner := strings.ToLower(question.Name.String())
	for range 16 {
		next := ""
		var out []dnsmessage.ResourceBody
		for _, r := range records {
			if !strings.EqualFold(r.Header.Name.String(), owner) || r.Header.Class != dnsmessage.ClassINET {
				continue
			}
			if r.Header.Type == question.Type {
				out = append(out, r.Body)
			} else if alias, ok := r.Body.(*dnsmessage.CNAMEResource); ok {
				next = strings.ToLower(alias.CNAME.String())
			}
		}
		switch {
		case len(out) > 0:
			return out, nil
		case next == "":
			return nil, fmt.Errorf("%w: there is no such record", ErrNoName)
		}
		owner = next
	}
	return nil, fmt.Errorf("%w: its aliases go in circles", ErrNoName)
}

// shorten keeps foreign text in errors short.
func shorten(text string) string {
	const limit = 100
	if len(text) > limit {
		return text[:limit] + "..."
	}
	return text
}

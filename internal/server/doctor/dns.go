package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
)

// A Resolver answers from DNS; *dnsask.Client is one. An error that wraps dnsask.ErrNoName
// is an answer, every other one is an outage.
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
	SRV(ctx context.Context, name string) ([]dnsask.SRV, error)
	Addresses(ctx context.Context, name string, v4 bool) ([]netip.Addr, error)
}

// DNS says what should be published for mail programs, and whom to ask.
type DNS struct {
	Records  []Record
	Resolver Resolver
	// Host is that of the pages, where settings are fetched.
	Host string
	// Documents are the settings, by the address where programs fetch them.
	Documents []Document
}

// A Record is one that should be there.
type Record struct {
	Name, Type string
	Value      string // of SRV "0 1 993 imap.example.org.", of TXT the text
	Absent     bool   // it says that there is no such service
	Line       string // of a zone file, to be entered
}

// A Document is what an address should answer with.
type Document struct {
	URL string
	// Body is the whole of it; nil: it has to hold Part.
	Body []byte
	Part string
}

// dnsTraps are the rows about DNS. Nothing that is missing is wrong: a domain may do
// without. What stands there and leads elsewhere is.
func dnsTraps() []trap[*DNS] {
	return []trap[*DNS]{
		{id: "dns-settings", level: Wrong, live: true, why: "mail programs ask at this name for their settings", look: ofType((*DNS).address, "CNAME", "A", "AAAA")},
		{id: "dns-digest", level: Wrong, live: true, why: "without the digest of today's document its settings count for nothing (PACC)", look: ofType((*DNS).text, "TXT")},
		{id: "dns-servers", level: Wrong, live: true, why: "mail programs find the servers by this, and guess where nothing says that there is none (RFC 6186, RFC 8314)", look: ofType((*DNS).service, "SRV")},
		{id: "dns-documents", level: Wrong, live: true, why: "settings come by https, and count only with a certificate of that name",
			mend: "have the certificate of [web] cover the name and letterlockd answer there; after a change of [portal]: systemctl restart letterlockd", look: fetchAll},
	}
}

func (d *DNS) place() *strings.Replacer { return strings.NewReplacer() }

// ofType asks about all records of some types at once.
func ofType(look func(*DNS, context.Context, Record) (sighting, bool), types ...string) func(context.Context, *DNS) []sighting {
	return func(ctx context.Context, d *DNS) []sighting {
		return sideBySide(ctx, d.Records, func(r Record) (sighting, bool) {
			if !slices.Contains(types, r.Type) {
				return sighting{}, false
			}
			s, bad := look(d, ctx, r)
			s.where = r.Name
			if s.mend == "" {
				s.mend = "enter: " + r.Line
			}
			return s, bad
		})
	}
}

// sideBySide looks at all at once: what does not answer costs its own patience and nobody
// else's. What is seen after the time is over counts for nothing.
func sideBySide[T any](ctx context.Context, all []T, look func(T) (sighting, bool)) []sighting {
	seen := make([]*sighting, len(all))
	var looks []func() error
	for i, one := range all {
		looks = append(looks, func() error {
			if s, bad := look(one); bad && ctx.Err() == nil {
				seen[i] = &s
			}
			return nil
		})
	}
	_ = together(looks...)
	var found []sighting
	for _, s := range seen {
		if s != nil {
			found = append(found, *s)
		}
	}
	return found
}

// unasked is a sighting of what nobody could say, or of what is not there.
func unasked(err error) sighting {
	if errors.Is(err, dnsask.ErrNoName) {
		return sighting{level: Warning, what: "it is not in DNS"}
	}
	return sighting{level: Skipped, what: "unknown: " + err.Error()}
}

// addresses are all of a name. An outage of one kind is one of both.
func addresses(ctx context.Context, resolver Resolver, name string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{ip}, nil
	}
	v4, err4 := resolver.Addresses(ctx, name, true)
	v6, err6 := resolver.Addresses(ctx, name, false)
	for _, err := range []error{err4, err6} {
		if err != nil && !errors.Is(err, dnsask.ErrNoName) {
			return nil, err
		}
	}
	if all := append(v4, v6...); len(all) > 0 {
		return all, nil
	}
	return nil, fmt.Errorf("%s: %w", name, dnsask.ErrNoName)
}

// address wants a name to lead to the pages. One address in common is enough: a name with
// many may show others to each who asks. Who has something else in front of the name is
// right as long as the settings come from there.
func (d *DNS) address(ctx context.Context, r Record) (sighting, bool) {
	got, err := addresses(ctx, d.Resolver, r.Name)
	if err != nil {
		return unasked(err), true
	}
	want, err := addresses(ctx, d.Resolver, d.Host)
	switch {
	case errors.Is(err, dnsask.ErrNoName):
		return sighting{what: "the host of public_url, " + d.Host + ", has no address", mend: "enter an address for " + d.Host}, true
	case err != nil:
		return unasked(err), true
	case slices.ContainsFunc(got, func(ip netip.Addr) bool { return slices.Contains(want, ip) }):
		return sighting{}, false
	case d.served(ctx, r.Name):
		return sighting{}, false
	}
	return sighting{what: fmt.Sprintf("it leads to %s, and %s is %s", got[0], d.Host, want[0])}, true
}

// served reports whether the settings that belong at a name come from there.
func (d *DNS) served(ctx context.Context, name string) bool {
	client := browser(d.Resolver)
	defer client.CloseIdleConnections()
	for _, doc := range d.Documents {
		if u, err := url.Parse(doc.URL); err != nil || u.Hostname() != name {
			continue
		}
		_, bad := fetch(ctx, client, doc)
		return !bad
	}
	return false
}

// text wants the one text, among others perhaps: the digest of before stays for a while.
func (d *DNS) text(ctx context.Context, r Record) (sighting, bool) {
	texts, err := d.Resolver.TXT(ctx, r.Name)
	if err != nil {
		return unasked(err), true
	}
	bare := func(text string) string { return strings.ReplaceAll(text, " ", "") }
	other := false
	for _, text := range texts {
		if bare(text) == bare(r.Value) {
			return sighting{}, false
		}
		other = other || strings.HasPrefix(bare(text), "v=UAAC1;")
	}
	if !other {
		return sighting{level: Warning, what: "it is not in DNS"}, true
	}
	return sighting{what: "the digest there is of another document"}, true
}

// service wants ours among the servers that programs take first. Several of one priority
// share the work by weight, and those of the next are taken when none of them answers; one
// record alone with the target "." says that there is no such service (RFC 2782).
func (d *DNS) service(ctx context.Context, r Record) (sighting, bool) {
	found, err := d.Resolver.SRV(ctx, r.Name)
	if err != nil {
		s := unasked(err)
		if r.Absent && s.level == Warning {
			s.what = "nothing says that there is no such service"
		}
		return s, true
	}
	fields := strings.Fields(r.Value)
	want, port := strings.ToLower(strings.TrimSuffix(fields[3], ".")), fields[2]
	servers := slices.DeleteFunc(slices.Clone(found), func(s dnsask.SRV) bool { return s.Target == "" })
	if len(servers) == 0 {
		return sighting{what: "it says that there is no such service"}, want != ""
	}
	first := servers[0]
	s := sighting{what: fmt.Sprintf("it names %s, port %d", first.Target, first.Port)}
	// They come in the order of their priority: the first that is ours is the best.
	ours := slices.IndexFunc(servers, func(s dnsask.SRV) bool { return s.Target == want && strconv.Itoa(int(s.Port)) == port })
	switch {
	case ours < 0:
	case servers[ours].Priority == first.Priority:
		return sighting{}, false
	default:
		s.level = Warning
		s.what += fmt.Sprintf(", and %s only as a backup (priority %d after %d)", want, servers[ours].Priority, first.Priority)
	}
	return s, true
}

// fetchAll asks for each document as a program does.
func fetchAll(ctx context.Context, d *DNS) []sighting {
	client := browser(d.Resolver)
	defer client.CloseIdleConnections()
	return sideBySide(ctx, d.Documents, func(doc Document) (sighting, bool) {
		s, bad := fetch(ctx, client, doc)
		s.where = doc.URL
		return s, bad
	})
}

// maxPage bounds what is read of a document or a page.
const maxPage = 256 << 10

func fetch(ctx context.Context, client *http.Client, doc Document) (sighting, bool) {
	res, body, err := get(ctx, client, doc.URL, nil)
	switch {
	case err == nil:
	case errors.Is(err, dnsask.ErrNoName):
		return sighting{}, false // dns-settings tells
	case isCertificate(err):
		return sighting{what: err.Error()}, true
	default:
		return sighting{level: Skipped, what: "it cannot be reached from here: " + err.Error()}, true
	}
	switch {
	case res.StatusCode != http.StatusOK:
		return sighting{what: "the answer is " + strconv.Itoa(res.StatusCode)}, true
	case doc.Body != nil && !bytes.Equal(body, doc.Body), !bytes.Contains(body, []byte(doc.Part)):
		return sighting{what: "it is another document than the configuration makes"}, true
	}
	return sighting{}, false
}

// browser is a client that finds hosts by the resolver, follows nothing and keeps nothing.
func browser(resolver Resolver) *http.Client {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		all, err := addresses(ctx, resolver, host)
		if err != nil {
			return nil, err
		}
		var conn net.Conn
		for _, ip := range all {
			var dialer net.Dialer
			if conn, err = dialer.DialContext(ctx, network, net.JoinHostPort(ip.String(), port)); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}
	return &http.Client{
		Transport:     &http.Transport{DialContext: dial, TLSHandshakeTimeout: patience, ResponseHeaderTimeout: patience, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       2 * patience,
	}
}

// get asks for a page and reads the beginning of it.
func get(ctx context.Context, client *http.Client, address string, head http.Header) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	for name, values := range head {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "letterlockd doctor")
	res, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	return res, body, err
}

// isCertificate reports whether the other side is there and proves nothing.
func isCertificate(err error) bool {
	var wrong *tls.CertificateVerificationError
	return errors.As(err, &wrong)
}

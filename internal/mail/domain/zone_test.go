package domain

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
	labzone "github.com/letterlock-mail/letterlock/internal/lab/zone"
)

// A zone is DNS in the memory of a test. Keys are a name in lower case and a type, as in
// "example.org TXT"; the value FAIL is an outage. "*" as a type is an outage of the name.
type zone map[string][]string

func (z zone) lookup(name, kind string) ([]string, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for range 8 {
		found := z[name+" "+kind]
		if len(found) > 0 && found[0] == "FAIL" || len(z[name+" *"]) > 0 {
			return nil, fmt.Errorf("%s: %w: SERVFAIL", name, dnsask.ErrDNS)
		}
		if len(found) > 0 {
			return found, nil
		}
		alias := z[name+" CNAME"]
		if len(alias) == 0 {
			break
		}
		name = strings.ToLower(strings.TrimSuffix(alias[0], "."))
	}
	return nil, fmt.Errorf("%s: %w", name, dnsask.ErrNoName)
}

func (z zone) TXT(_ context.Context, name string) ([]string, error) { return z.lookup(name, "TXT") }

func (z zone) PTR(_ context.Context, name string) ([]string, error) { return z.lookup(name, "PTR") }

func (z zone) MX(_ context.Context, name string) ([]MX, error) {
	found, err := z.lookup(name, "MX")
	var out []MX
	for _, text := range found {
		var mx MX
		if _, err := fmt.Sscanf(text, "%d %s", &mx.Preference, &mx.Host); err != nil {
			return nil, err
		}
		mx.Host = strings.TrimSuffix(mx.Host, ".")
		out = append(out, mx)
	}
	return out, err
}

func (z zone) Addresses(_ context.Context, name string, v4 bool) ([]netip.Addr, error) {
	kind := "AAAA"
	if v4 {
		kind = "A"
	}
	found, err := z.lookup(name, kind)
	var out []netip.Addr
	for _, text := range found {
		out = append(out, netip.MustParseAddr(text))
	}
	return out, err
}

// serve runs a real DNS server with the zone and returns its address.
func (z zone) serve(t testing.TB) string { return labzone.Zone(z).Serve(t) }

// patient is a client of server that waits as long as a loaded machine needs.
func patient(server string) *dnsask.Client {
	return &dnsask.Client{Servers: []string{server}, Timeout: 30 * time.Second}
}

//go:build lab

package domain

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// TestPublishedAtNSD gives a real name server what Publish prints, adds enough to the
// domain's TXT records that they need TCP, and checks through it.
func TestPublishedAtNSD(t *testing.T) {
	s := newSite(t)
	_, folder := newKeys(t)
	if _, err := Create(t.Context(), folder, "example.org", "r3", RSA3072, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if err := Use(t.Context(), folder, "example.org", "r3"); err != nil {
		t.Fatal(err)
	}
	keys, err := List(folder, "example.org")
	if err != nil {
		t.Fatal(err)
	}
	s.sender.Keys, s.sender.DMARC = keys, "reject"
	records, policy := Publish(s.sender, []MX{{Host: "mx.example.org", Preference: 10}}, time.Now())
	s.policy.Store(&policy)
	zones := map[string]string{"list.example": "2.0.0.127.list.example. IN A 127.0.0.2\n66.2.0.192.list.example. IN A 127.0.0.4\n"}
	for _, r := range records {
		name := "example.org"
		if r.Type == "PTR" {
			name = r.Name[strings.Index(r.Name, ".")+1:]
		}
		zones[name] += r.Zone() + "\n"
	}
	zones["example.org"] += "example.org. IN MX 10 mx.example.org.\nmx.example.org. IN A 192.0.2.26\n"
	for i := range 12 {
		zones["example.org"] += Record{"example.org", "TXT", fmt.Sprintf("site-verification-%d=%s", i, strings.Repeat("x", 200))}.Zone() + "\n"
	}
	s.check.Resolver = patient(lab.RunNSD(t, lab.NSDOptions{Zones: zones}).Addr)
	// NSD has no IPv6 test entry in this list: nothing is asked for that address.
	findings := s.check.Check(t.Context(), s.sender)
	if i := slices.IndexFunc(findings, func(f Finding) bool { return f.Level != OK }); i >= 0 {
		t.Errorf("%s", show(findings))
	}
	s.sender.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.66")}
	if got := show(s.check.Check(t.Context(), s.sender)); !strings.Contains(got, "wrong blocklist 192.0.2.66") || !strings.Contains(got, "wrong spf 192.0.2.66") {
		t.Errorf("%s", got)
	}
}

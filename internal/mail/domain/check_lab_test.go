//go:build lab

package domain

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	labzone "github.com/letterlock-mail/letterlock/internal/lab/zone"
)

// runNSD serves zone files with NSD, which reads them as any name server does, and
// returns its address.
func runNSD(t *testing.T, zones map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	var conf strings.Builder
	for name, text := range zones {
		fmt.Fprintf(&conf, "zone:\n name: %s\n zonefile: %s.zone\n", name, name)
		write(t, filepath.Join(folder, name+".zone"),
			fmt.Sprintf("%s. 60 IN SOA ns.%s. postmaster.%s. 1 3600 600 86400 60\n%s. 60 IN NS ns.invalid.\n%s", name, name, name, name, text))
	}
	for range 5 {
		tcp, packets := labzone.Listen(t)
		address := tcp.Addr().String()
		_, port, _ := net.SplitHostPort(address)
		tcp.Close()
		packets.Close()
		write(t, filepath.Join(folder, "nsd.conf"), strings.NewReplacer("FOLDER", folder, "PORT", port).Replace(
			"server:\n ip-address: 127.0.0.1@PORT\n username: \"\"\n chroot: \"\"\n zonesdir: FOLDER\n database: \"\"\n pidfile: \"\"\n xfrdfile: \"\"\n"+
				" zonelistfile: FOLDER/zonelist\n xfrdir: FOLDER\n server-count: 1\nremote-control:\n control-enable: no\n")+conf.String())
		server, err := lab.StartProcess(lab.ProcessOptions{Path: "/usr/sbin/nsd", Args: []string{"-d", "-c", filepath.Join(folder, "nsd.conf")}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Stop)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		line, err := server.WaitLog(ctx, func(line string) bool {
			return strings.Contains(line, "nsd started") || strings.Contains(line, "in use")
		})
		cancel()
		if err != nil {
			t.Fatalf("nsd: %v\n%s", err, strings.Join(server.Log(), "\n"))
		}
		if strings.Contains(line, "nsd started") {
			return address
		}
		server.Stop()
	}
	t.Fatal("nsd finds no free port")
	return ""
}

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
	s.check.Resolver = patient(runNSD(t, zones))
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

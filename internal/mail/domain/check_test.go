package domain

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
)

const (
	four = "192.0.2.25"
	six  = "2001:db8::25"
)

// A site is a domain that is well in every respect, to be broken by the cases.
type site struct {
	zone   zone
	sender Sender
	keys   map[string]Key
	check  *Checker
	policy atomic.Pointer[string] // body of the MTA-STS policy; nil: 404
}

func newSite(t *testing.T) *site {
	t.Helper()
	keys, _ := newKeys(t)
	return siteWith(t, keys.All())
}

// siteWith does without making keys, which takes long.
func siteWith(t *testing.T, keys []Key) *site {
	t.Helper()
	s := &site{keys: map[string]Key{}, sender: Sender{
		Domain: "example.org", Host: "mail.example.org", Keys: keys,
		Addresses: []netip.Addr{netip.MustParseAddr(four), netip.MustParseAddr(six)},
	}}
	s.zone = zone{
		"example.org TXT":                          {"unrelated", "v=spf1 ip4:192.0.2.25 ip6:2001:db8::25 ~all"},
		"example.org MX":                           {"10 mx.example.org"},
		"mx.example.org A":                         {"192.0.2.26"},
		"mail.example.org A":                       {four},
		"mail.example.org AAAA":                    {six},
		"_dmarc.example.org TXT":                   {"v=DMARC1; p=reject; rua=mailto:postmaster@example.org"},
		"_smtp._tls.example.org TXT":               {"v=TLSRPTv1; rua=mailto:postmaster@example.org"},
		"_mta-sts.example.org TXT":                 {"v=STSv1; id=1"},
		"25.2.0.192.in-addr.arpa PTR":              {"mail.example.org"},
		Reverse(netip.MustParseAddr(six)) + " PTR": {"mail.example.org"},
		"2.0.0.127.list.example A":                 {"127.0.0.2"},
		"2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.list.example A": {"127.0.0.2"},
	}
	for _, k := range keys {
		s.keys[k.Selector] = k
		s.zone[k.Name()+" TXT"] = []string{k.Record()}
	}
	text := "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmax_age: 604800\r\n"
	s.policy.Store(&text)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := s.policy.Load()
		if body == nil || r.URL.Path != "/.well-known/mta-sts.txt" || r.Host != "mta-sts.example.org" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(w, *body)
	}))
	server.StartTLS()
	t.Cleanup(server.Close)
	// httptest's certificate is for example.com and 127.0.0.1.
	client := server.Client()
	transport := client.Transport.(*http.Transport)
	transport.TLSClientConfig.ServerName = "example.com"
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	s.check = &Checker{Resolver: s.zone, HTTP: client, Blocklists: []string{"list.example"}, Dial: (&net.Dialer{}).DialContext}
	return s
}

func show(findings []Finding) string {
	var out strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&out, "%s %s %s: %s [%s] -> %s\n", f.Level, f.Check, f.Subject, f.Problem, f.Published, f.Remedy)
	}
	return out.String()
}

func TestAllWell(t *testing.T) {
	s := newSite(t)
	// The same through real DNS.
	s.check.Resolver = patient(s.zone.serve(t))
	findings := s.check.Check(t.Context(), s.sender)
	checks := map[string]int{}
	for _, f := range findings {
		checks[f.Check]++
		if f.Level != OK || f.Remedy != "" {
			t.Errorf("%s", show([]Finding{f}))
		}
	}
	for check, want := range map[string]int{"spf": 2, "dkim": 2, "dmarc": 1, "mta-sts": 1, "tlsrpt": 1, "mx": 1, "ptr": 2, "blocklist": 2} {
		if checks[check] != want {
			t.Errorf("%d findings of %s, want %d", checks[check], check, want)
		}
	}
}

// TestPublishedIsWell: what Publish says is what Check wants.
func TestPublishedIsWell(t *testing.T) {
	s := newSite(t)
	s.sender.DMARC = "reject"
	clear(s.zone)
	mx := []MX{{Host: "mx.example.org", Preference: 10}}
	s.zone["example.org MX"], s.zone["mx.example.org A"] = []string{"10 mx.example.org"}, []string{"192.0.2.26"}
	records, policy := Publish(s.sender, mx, time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC))
	for _, r := range records {
		key := r.Name + " " + r.Type
		s.zone[key] = append(s.zone[key], strings.TrimSuffix(r.Value, "."))
	}
	s.policy.Store(&policy)
	s.check.Blocklists = nil
	for _, f := range s.check.Check(t.Context(), s.sender) {
		if f.Level != OK {
			t.Errorf("%s", show([]Finding{f}))
		}
	}
}

func TestFindings(t *testing.T) {
	keys, _ := newKeys(t)
	const spf, dmarc, txt = "example.org TXT", "_dmarc.example.org TXT", " TXT"
	set := func(key string, values ...string) func(*site) {
		return func(s *site) {
			if delete(s.zone, key); len(values) > 0 {
				s.zone[key] = values
			}
		}
	}
	key := func(selector, record string) func(*site) {
		return func(s *site) { s.zone[s.keys[selector].Name()+txt] = []string{record} }
	}
	policy := func(text string) func(*site) {
		return func(s *site) {
			if s.policy.Store(nil); text != "" {
				s.policy.Store(&text)
			}
		}
	}
	with := func(changes ...func(*site)) func(*site) {
		return func(s *site) {
			for _, change := range changes {
				change(s)
			}
		}
	}
	const listed4 = "25.2.0.192.list.example A"
	for name, c := range map[string]struct {
		breaks func(*site)
		want   string // level, check, and words of what is said
	}{
		"no spf":            {set(spf), `wrong spf 192.0.2.25: mail from this address gets none [] -> publish for example.org: "v=spf1 ip4:192.0.2.25 ip6:2001:db8::25 ~all"`},
		"spf without ip6":   {set(spf, "v=spf1 ip4:192.0.2.25 -all"), `wrong spf 2001:db8::25: mail from this address gets fail [v=spf1 ip4:192.0.2.25 -all] -> publish for example.org: "v=spf1 ip6:2001:db8::25 ip4:192.0.2.25 -all"`},
		"spf soft":          {set(spf, "v=spf1 ip4:192.0.2.25 ~all"), "wrong spf 2001:db8::25: mail from this address gets softfail"},
		"spf twice":         {set(spf, "v=spf1 -all", "v=spf1 +all"), "2 SPF records"},
		"spf everybody":     {set(spf, "v=spf1 +all"), "wrong spf example.org: the record lets everybody send"},
		"spf open end":      {set(spf, "v=spf1 ip4:192.0.2.25 ip6:2001:db8::25"), "warning spf example.org: the record does not say that others may not send"},
		"spf mistyped":      {set(spf, "v=spf1 ipv4:192.0.2.25 ~all"), "no such mechanism"},
		"spf too long":      {set(spf, "v=spf1 ip4:192.0.2.25 ip6:2001:db8::25 "+strings.Repeat("include:inc.example ", 11)+"~all"), "does not count for senders that stand late in it"},
		"spf ptr":           {set(spf, "v=spf1 ip4:192.0.2.25 ip6:2001:db8::25 ptr ~all"), "warning spf example.org: ptr is slow"},
		"spf outage":        {set(spf, "FAIL"), "unknown spf 192.0.2.25"},
		"ehlo's spf":        {set("mail.example.org TXT", "v=spf1 -all"), "warning spf mail.example.org: the EHLO name gets fail"},
		"no key":            {func(s *site) { s.sender.Keys = nil }, "warning dkim example.org: this machine has no key"},
		"key not published": {func(s *site) { delete(s.zone, s.keys["r1"].Name()+txt) }, "wrong dkim r1._domainkey.example.org: not published"},
		"other key": {func(s *site) {
			s.zone[s.keys["e1"].Name()+txt] = []string{strings.Replace(s.keys["e1"].Record(), "p=", "p=AAAA", 1)}
		}, "wrong dkim e1._domainkey.example.org: not a valid record"},
		"another's key":         {key("e1", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="), "the record holds another key"},
		"key of another kind":   {key("r1", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="), "the record is for ed25519, the key is rsa"},
		"key revoked":           {key("r1", "v=DKIM1; k=rsa; p="), "says that the key is revoked"},
		"key under test":        {func(s *site) { s.zone[s.keys["r1"].Name()+txt] = []string{s.keys["r1"].Record() + "; t=y:s"} }, "warning dkim r1._domainkey.example.org: t=y"},
		"key for sha1":          {func(s *site) { s.zone[s.keys["r1"].Name()+txt] = []string{s.keys["r1"].Record() + "; h=sha1"} }, "h= leaves out sha256"},
		"key for other service": {func(s *site) { s.zone[s.keys["r1"].Name()+txt] = []string{s.keys["r1"].Record() + "; s=tlsrpt"} }, "s= leaves out email"},
		"key twice":             {func(s *site) { n := s.keys["r1"].Name() + txt; s.zone[n] = append(s.zone[n], "v=DKIM1; p=") }, "2 TXT records"},
		"key outage":            {key("r1", "FAIL"), "unknown dkim r1._domainkey.example.org"},
		"key waits":             {func(s *site) { s.sender.Keys[0].Signs = false; delete(s.zone, s.sender.Keys[0].Name()+txt) }, "not published; this key does not sign"},
		"no dmarc":              {set(dmarc), "wrong dmarc _dmarc.example.org: not published"},
		"dmarc above": {func(s *site) {
			s.sender.Domain = "sub.example.org"
			s.sender.Keys = nil
			s.zone["sub.example.org TXT"] = s.zone[spf]
		}, "dmarc _dmarc.example.org"},
		"dmarc twice":        {set(dmarc, "v=DMARC1; p=none", "v=DMARC1; p=reject"), "wrong dmarc _dmarc.example.org: not a valid record: there are 2"},
		"dmarc only watches": {set(dmarc, "v=DMARC1; p=none; rua=mailto:a@example.org"), "warning dmarc _dmarc.example.org: forgeries are not refused"},
		"dmarc tests":        {set(dmarc, "v=DMARC1; p=reject; t=y; rua=mailto:a@example.org"), "t=y: receivers do not apply"},
		"dmarc pct":          {set(dmarc, "v=DMARC1; p=reject; pct=20; rua=mailto:a@example.org"), "RFC 9989 has taken out pct"},
		"dmarc mistyped":     {set(dmarc, "v=DMARC1; p=rejct"), "p=rejct is neither"},
		"dmarc nobody reads": {set(dmarc, "v=DMARC1; p=reject"), "no rua="},
		"dmarc elsewhere":    {set(dmarc, "v=DMARC1; p=reject; rua=mailto:a@reports.example!10m"), `reports.example does not say that it takes reports for example.org [] -> have it publish: example.org._report._dmarc.reports.example. IN TXT "v=DMARC1"`},
		"dmarc by web":       {set(dmarc, "v=DMARC1; p=reject; rua=https://reports.example/"), "mailto: addresses only"},
		"dmarc outage":       {set(dmarc, "FAIL"), "unknown dmarc"},
		"dmarc fails":        {with(set(spf), func(s *site) { s.sender.Keys = nil }), "wrong dmarc _dmarc.example.org: neither SPF nor DKIM passes"},
		"dmarc fails with keys": {with(set(spf), func(s *site) {
			for _, k := range s.sender.Keys {
				delete(s.zone, k.Name()+txt)
			}
		}), "wrong dmarc _dmarc.example.org: neither SPF nor DKIM passes"},
		"dmarc by one":       {set(spf), "warning dmarc _dmarc.example.org: mail passes by one of SPF and DKIM only"},
		"no mx":              {set("example.org MX"), "wrong mx example.org: the domain takes no mail"},
		"address instead":    {with(set("example.org MX"), set("example.org A", four)), "warning mx example.org: no MX"},
		"null mx":            {set("example.org MX", "0 ."), "wrong mx example.org: the null MX"},
		"mx without address": {set("mx.example.org A"), "wrong mx mx.example.org: this mail exchanger has no address"},
		"mx outage":          {set("example.org MX", "FAIL"), "unknown mx"},
		"no mta-sts":         {set("_mta-sts.example.org TXT"), "warning mta-sts _mta-sts.example.org: not published"},
		"mta-sts twice":      {set("_mta-sts.example.org TXT", "v=STSv1; id=1", "v=STSv1; id=2"), "there are 2 records"},
		"mta-sts no id":      {set("_mta-sts.example.org TXT", "v=STSv1;"), "wrong mta-sts"},
		"no policy":          {policy(""), "wrong mta-sts _mta-sts.example.org: announced, but there is no policy"},
		"policy is no one":   {policy("<html>"), "wrong mta-sts"},
		"policy for others":  {policy("version: STSv1\nmode: enforce\nmx: other.example\nmax_age: 604800\n"), "wrong mta-sts _mta-sts.example.org: the policy leaves out the mail exchanger mx.example.org"},
		"policy tests":       {policy("version: STSv1\nmode: testing\nmx: *.example.org\nmax_age: 604800\n"), "warning mta-sts _mta-sts.example.org: mode testing protects nobody"},
		"policy is short":    {policy("version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 60\n"), "senders forget the policy after 1m0s"},
		"mta-sts outage":     {set("_mta-sts.example.org TXT", "FAIL"), "unknown mta-sts"},
		"no tlsrpt":          {set("_smtp._tls.example.org TXT"), "warning tlsrpt"},
		"tlsrpt to nowhere":  {set("_smtp._tls.example.org TXT", "v=TLSRPTv1; rua=ftp://x"), "wrong tlsrpt"},
		"tlsrpt twice":       {set("_smtp._tls.example.org TXT", "v=TLSRPTv1; rua=mailto:a@b.c", "v=TLSRPTv1; rua=mailto:a@b.c"), "there are 2 records"},
		"no ptr":             {set("25.2.0.192.in-addr.arpa PTR"), "wrong ptr 192.0.2.25: no reverse DNS"},
		"ptr leads away":     {set("25.2.0.192.in-addr.arpa PTR", "mx.example.org"), "wrong ptr 192.0.2.25: the name does not lead back"},
		"ptr of another":     {with(set("25.2.0.192.in-addr.arpa PTR", "www.example.org"), set("www.example.org A", four)), "warning ptr 192.0.2.25: leads back to the address, but EHLO says mail.example.org"},
		"ptr of a pool":      {with(func(s *site) { s.sender.Host = "" }, set("25.2.0.192.in-addr.arpa PTR", "host-192-0-2-25.isp.example"), set("host-192-0-2-25.isp.example A", four)), "warning ptr 192.0.2.25: the name looks like"},
		"ptr outage":         {set("25.2.0.192.in-addr.arpa PTR", "FAIL"), "unknown ptr"},
		"listed":             {with(set(listed4, "127.0.0.4"), set("25.2.0.192.list.example TXT", "see https://list.example/why")), "wrong blocklist 192.0.2.25 in list.example: listed: see https://list.example/why"},
		"list refuses":       {set(listed4, "127.255.255.254"), "warning blocklist 192.0.2.25 in list.example: the list refuses"},
		"list refuses all":   {with(set("2.0.0.127.list.example A", "127.255.255.254"), set("1.0.0.127.list.example A", "127.255.255.254"), set(listed4, "127.255.255.254")), "warning blocklist 192.0.2.25 in list.example: the list refuses this DNS server"},
		"list is silent":     {set("2.0.0.127.list.example A"), "warning blocklist 192.0.2.25 in list.example: the list does not have its own test entry"},
		"list has everybody": {with(set("1.0.0.127.list.example A", "127.0.0.2"), set(listed4, "127.0.0.2")), "the list has everybody in it"},
		"list is parked":     {with(set("2.0.0.127.list.example A", "198.51.100.7"), set("1.0.0.127.list.example A", "198.51.100.7"), set(listed4, "198.51.100.7")), "the answers are none of a block list"},
		"list outage":        {set(listed4, "FAIL"), "unknown blocklist"},
		"no address":         {func(s *site) { s.sender.Addresses = nil }, "unknown spf example.org: no address"},
	} {
		t.Run(name, func(t *testing.T) {
			s := siteWith(t, keys.All())
			s.zone["inc.example TXT"] = []string{"v=spf1 -all"}
			c.breaks(s)
			if got := show(s.check.Check(t.Context(), s.sender)); !strings.Contains(got, c.want) {
				t.Errorf("want %q in\n%s", c.want, got)
			}
		})
	}
}

// TestRefusalIsNoListing is the fault that this exists to prevent, over all answers.
func TestRefusalIsNoListing(t *testing.T) {
	for a := range 256 {
		for _, c := range []struct {
			ip   [4]byte
			want listing
		}{
			{[4]byte{127, 255, 255, byte(a)}, refused},
			{[4]byte{127, 0, 1, byte(a)}, isListed},
			{[4]byte{byte(a), 1, 2, 3}, nonsense},
		} {
			if a == 127 && c.want == nonsense {
				continue
			}
			if got := readAnswer([]netip.Addr{netip.AddrFrom4(c.ip)}); got != c.want {
				t.Errorf("%v: %s, want %s", c.ip, got, c.want)
			}
		}
	}
}

func TestPort25(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	said := make(chan string, 1)
	greetings := make(chan string, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, <-greetings)
			line, _ := bufio.NewReader(conn).ReadString('\n')
			said <- line
			conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s := newSite(t)
	s.zone["peer.example MX"], s.zone["mx.peer.example A"] = []string{"10 mx.peer.example"}, []string{"127.0.0.1"}
	s.check.Probe = "peer.example:" + port
	greetings <- "220 mx.peer.example ESMTP\r\n"
	if got := show(s.check.checkPort25(t.Context())); !strings.HasPrefix(got, "ok port25 127.0.0.1:"+port+": port 25 is open [220 mx.peer.example ESMTP]") {
		t.Errorf("%s", got)
	}
	if line := <-said; line != "QUIT\r\n" {
		t.Errorf("said %q", line)
	}
	greetings <- "554 not from there\r\n"
	if got := show(s.check.checkPort25(t.Context())); !strings.HasPrefix(got, "warning port25") {
		t.Errorf("%s", got)
	}
	<-said
	listener.Close()
	if got := show(s.check.checkPort25(t.Context())); !strings.HasPrefix(got, "wrong port25") {
		t.Errorf("%s", got)
	}
	s.check.Probe = "nobody.example"
	if got := show(s.check.checkPort25(t.Context())); !strings.HasPrefix(got, "unknown port25 nobody.example") {
		t.Errorf("%s", got)
	}
}

// TestCheckEnds: with a context that has ended, everything is unknown and nothing hangs.
func TestCheckEnds(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.check.Resolver = patient(s.zone.serve(t))
	s.check.Probe = "peer.example"
	for _, f := range s.check.Check(ctx, s.sender) {
		if f.Level != Unknown {
			t.Errorf("%s", show([]Finding{f}))
		}
	}
}

// TestPolicyClient: names go through the resolver, redirects are not followed, strangers'
// certificates are refused.
func TestPolicyClient(t *testing.T) {
	server := httptest.NewTLSServer(http.RedirectHandler("https://example.com/elsewhere", http.StatusFound))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	z := zone{"example.com A": {"127.0.0.1"}}
	response, err := PolicyClient(z, roots).Get("https://example.com:" + port + "/")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusFound {
		t.Errorf("status %d", response.StatusCode)
	}
	if _, err := PolicyClient(z, x509.NewCertPool()).Get("https://example.com:" + port + "/"); err == nil {
		t.Error("a certificate of nobody is taken")
	}
	if _, err := PolicyClient(maps.Clone(zone{}), roots).Get("https://example.com:" + port + "/"); !errors.Is(err, dnsask.ErrNoName) {
		t.Errorf("a name that DNS does not have: %v", err)
	}
}

package web

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func proxies(t testing.TB, texts ...string) Proxies {
	t.Helper()
	var p Proxies
	for _, text := range texts {
		p = append(p, netip.MustParsePrefix(text))
	}
	return p
}

func TestClient(t *testing.T) {
	for _, c := range []struct {
		name, trusted, remote string
		forwarded             []string
		want                  string
	}{
		{"nobody trusted", "", "192.0.2.1:99", []string{"203.0.113.5"}, "192.0.2.1"},
		{"one proxy", "192.0.2.1/32", "192.0.2.1:99", []string{"203.0.113.5"}, "203.0.113.5"},
		{"invented to the left", "192.0.2.1/32", "192.0.2.1:99", []string{"10.0.0.1, 203.0.113.5"}, "203.0.113.5"},
		{"invented in a line before", "192.0.2.1/32", "192.0.2.1:99", []string{"10.0.0.1", "203.0.113.5"}, "203.0.113.5"},
		{"two proxies", "192.0.2.0/24", "192.0.2.1:99", []string{"10.0.0.1, 203.0.113.5, 192.0.2.7"}, "203.0.113.5"},
		{"all trusted", "192.0.2.0/24", "192.0.2.1:99", []string{"192.0.2.9, 192.0.2.7"}, "192.0.2.9"},
		{"no header", "192.0.2.1/32", "192.0.2.1:99", nil, "192.0.2.1"},
		{"not an address", "192.0.2.1/32", "192.0.2.1:99", []string{"203.0.113.5, unknown"}, "192.0.2.1"},
		{"empty element", "192.0.2.1/32", "192.0.2.1:99", []string{"203.0.113.5,"}, "192.0.2.1"},
		{"with a port", "192.0.2.1/32", "192.0.2.1:99", []string{"203.0.113.5:1234"}, "203.0.113.5"},
		{"IPv6 with a port", "192.0.2.1/32", "192.0.2.1:99", []string{"[2001:db8::5]:1234"}, "2001:db8::5"},
		{"mapped proxy", "192.0.2.1/32", "[::ffff:192.0.2.1]:99", []string{"::ffff:203.0.113.5"}, "203.0.113.5"},
		{"zone", "", "[fe80::1%eth0]:99", nil, "fe80::1"},
		{"an outsider that claims to be a proxy", "192.0.2.1/32", "203.0.113.9:99", []string{"192.0.2.1"}, "203.0.113.9"},
		{"no address at all", "0.0.0.0/0", "@", []string{"203.0.113.5"}, "invalid IP"},
	} {
		var p Proxies
		if c.trusted != "" {
			p = proxies(t, c.trusted)
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		for _, line := range c.forwarded {
			r.Header.Add("X-Forwarded-For", line)
		}
		// None of these is anybody's word here.
		r.Header["X_forwarded_for"] = []string{"198.51.100.1"}
		r.Header.Set("X-Real-Ip", "198.51.100.2")
		r.Header.Set("Forwarded", "for=198.51.100.3")
		if got := p.Client(r).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// FuzzClient: what an outsider sends before a proxy's own word never changes the answer,
// and no answer is IPv4 in disguise.
func FuzzClient(f *testing.F) {
	for _, seed := range []string{"", "10.0.0.1", ",,,", "[::1]:5, x", "::ffff:1.2.3.4", strings.Repeat("192.0.2.1,", 50)} {
		f.Add(seed)
	}
	p := proxies(f, "192.0.2.0/24")
	f.Fuzz(func(t *testing.T, header string) {
		at := netip.MustParseAddr("192.0.2.1")
		if got := p.walk(at, []string{header, "203.0.113.5"}); got.String() != "203.0.113.5" {
			t.Fatalf("%q moved the client to %s", header, got)
		}
		got := p.walk(at, []string{header})
		if !got.IsValid() || got.Is4In6() || got.Zone() != "" {
			t.Fatalf("%q: %s", header, got)
		}
		if outside := netip.MustParseAddr("198.51.100.7"); p.walk(outside, []string{header}) != outside {
			t.Fatalf("%q was believed from an outsider", header)
		}
	})
}

func TestAgent(t *testing.T) {
	for header, want := range map[string]string{
		"": "an unknown program",
		"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0":                                                                  "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36 Edg/120.0":                   "Edge on Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"<script>alert(1)</script>": "an unknown program",
		"curl/8.0":                  "curl",
	} {
		if got := Agent(header); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

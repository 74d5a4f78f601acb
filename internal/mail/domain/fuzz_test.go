package domain

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func FuzzKeyRecord(f *testing.F) {
	for _, seed := range []string{
		"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "v=DKIM1; k=rsa; p=", "p=AAAA", "k=rsa; p=MFwwDQYJ; t=y:s; s=email:*; h=sha1:sha256",
		"v=DKIM1; p=AA; p=BB", "x; v=DKIM1", "v=DKIM2; p=", " v = DKIM1 ; k = ed25519 ; p = 11qY AYKx ", strings.Repeat("a=b;", 5000),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKeyRecord(text)
		if err != nil {
			if !errors.Is(err, ErrRecord) || len(err.Error()) > 400 {
				t.Errorf("%v", err)
			}
			return
		}
		if k.Revoked == (k.Public != nil) {
			t.Errorf("%q: revoked %v with key %v", text, k.Revoked, k.Public)
		}
	})
}

func FuzzDMARC(f *testing.F) {
	for _, seed := range []string{
		"v=DMARC1; p=reject; sp=none; np=reject; adkim=s; aspf=r; t=y; psd=n; rua=mailto:a@b.c!10m,mailto:d@e.f", "v=DMARC1", "v=DMARC1;p=nonsense", "v=DMARC10; p=none",
		"v=dmarc1; p=none", "V=DMARC1; p=none", " v=DMARC1 ; p=none", "v=DMARC1; p=none; p=none", "v=spf1 -all",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, ok, err := ParseDMARC(text)
		if err != nil && (!ok || !errors.Is(err, ErrRecord) || len(err.Error()) > 400) {
			t.Errorf("%v, %v", ok, err)
		}
		if ok && err == nil && d.Policy != "none" && d.Policy != "quarantine" && d.Policy != "reject" {
			t.Errorf("%q: policy %q", text, d.Policy)
		}
		// What is read once is read again from its canonical form.
		if ok && err == nil {
			again, ok, err := ParseDMARC("v=DMARC1; p=" + d.Policy + "; rua=" + strings.Join(d.Reports, ","))
			if !ok || err != nil || again.Policy != d.Policy || len(again.Reports) != len(d.Reports) {
				t.Errorf("%q: %v, %v, %v", text, again, ok, err)
			}
		}
	})
}

func FuzzTLSRPT(f *testing.F) {
	for _, seed := range []string{"v=TLSRPTv1; rua=mailto:a@b.c,https://d.e/f", "v=TLSRPTv1", "v=TLSRPTv1;", "v=TLSRPTv10; rua=mailto:a@b.c", "v=TLSRPTv1; rua=ftp://x", "v=TLSRPTv1 ; rua = mailto:a@b.c ; x=y", "v=TLSRPTv1; rua=%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		reports, ok, err := ParseTLSRPT(text)
		if err != nil && (!ok || !errors.Is(err, ErrRecord) || len(err.Error()) > 400) {
			t.Errorf("%v, %v", ok, err)
		}
		if ok && err == nil && len(reports) == 0 {
			t.Errorf("%q goes nowhere", text)
		}
	})
}

// FuzzSPF evaluates any record for an address, in a zone where names that it may come to
// exist: it must end, within its limits, with one of the seven verdicts.
func FuzzSPF(f *testing.F) {
	for _, seed := range []string{
		"v=spf1 a:%{h} mx//64 mx/24//64 ptr:example.org exists:%{l1r-}.%{d2}.%{p} include:self.example redirect=self.example", "v=spf1 redirect=self.example", "v=spf1 include:self.example -all",
		"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ?all exp=%{c}.self.example", "v=spf1 %{", "v=spf1 a:%%%_%-.example", "v=spf1 ip4:1.2.3.4/33", "v=spf1 moo", "v=spf1 a:" + strings.Repeat("%{s}", 2000) + ".org",
	} {
		f.Add(seed, "192.0.2.25")
		f.Add(seed, "2001:db8::25")
	}
	f.Fuzz(func(t *testing.T, text, address string) {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return
		}
		z := zone{
			"self.example TXT": {text}, "self.example A": {"192.0.2.25"}, "self.example AAAA": {"2001:db8::25"}, "self.example MX": {"1 self.example"},
			Reverse(netip.MustParseAddr("192.0.2.25")) + " PTR": {"self.example"},
		}
		r := EvaluateSPF(t.Context(), z, ip, "self.example", "o'brien+x@self.example")
		switch r.Verdict {
		case None, Neutral, Pass, Fail, SoftFail, TempError:
		case PermError:
			if r.Problem == "" {
				t.Error("an error without a reason")
			}
		default:
			t.Errorf("verdict %q", r.Verdict)
		}
		if r.Lookups > spfLookups+1 {
			t.Errorf("%d lookups", r.Lookups)
		}
	})
}

// FuzzListing: no answer outside 127.0.0.0/8 and none that refuses is ever a listing.
func FuzzListing(f *testing.F) {
	f.Add([]byte{127, 0, 0, 2})
	f.Add([]byte{127, 255, 255, 254})
	f.Add([]byte{127, 0, 0, 1, 127, 0, 0, 4})
	f.Add([]byte{198, 51, 100, 7})
	f.Fuzz(func(t *testing.T, data []byte) {
		var found []netip.Addr
		odd := false
		for ; len(data) >= 4; data = data[4:] {
			ip := netip.AddrFrom4([4]byte(data[:4]))
			odd = odd || data[0] != 127 || data[1] == 255 && data[2] == 255
			found = append(found, ip)
		}
		got := readAnswer(found)
		if odd && (got == isListed || got == notListed) || len(found) == 0 && got != notListed {
			t.Errorf("%v: %s", found, got)
		}
	})
}

// FuzzSign: whatever the message, a signature that is made verifies.
func FuzzSign(f *testing.F) {
	for _, message := range shapes() {
		f.Add([]byte(message))
	}
	keys, _ := newKeys(f)
	f.Fuzz(func(t *testing.T, message []byte) {
		// As delivery hands it over: line ends are CRLF, and there is an empty line.
		text := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(string(message))
		if !strings.Contains(text, "\r\n\r\n") {
			text += "\r\n\r\n"
		}
		fields, err := keys.Sign(strings.NewReader(text))
		if errors.Is(err, ErrHeader) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range verify(t, keys, string(fields)+text) {
			if problem != nil && !strings.Contains(text, "ignature") {
				t.Errorf("%q: %v", text, problem)
			}
		}
	})
}

package domain

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestParseDMARC(t *testing.T) {
	for text, want := range map[string]struct {
		policy string
		ok     bool
		bad    bool
	}{
		"v=DMARC1; p=reject":                          {"reject", true, false},
		"v=DMARC1;p=Quarantine;":                      {"quarantine", true, false},
		" v = DMARC1 ; p = none ; rua = mailto:a@b.c": {"none", true, false},
		"v=DMARC1; p=reject; x-ours=1; unknown=y":     {"reject", true, false},
		"v=DMARC1; rua=mailto:a@b.c":                  {"none", true, true},
		"v=DMARC1":                                    {"none", true, true},
		"v=DMARC1; p=none; p=reject":                  {"", true, true},
		"v=DMARC1; p=reject; adkim=x":                 {"reject", true, true},
		"v=DMARC1; p=reject; sp":                      {"", true, true},
		"v=dmarc1; p=reject":                          {"", false, false},
		"v=DMARC10; p=reject":                         {"", false, false},
		"p=reject; v=DMARC1":                          {"", false, false},
		"v=spf1 -all":                                 {"", false, false},
		"":                                            {"", false, false},
		"v=DMARC1; p=reject; x=" + strings.Repeat("a", recordLimit): {"", true, true},
	} {
		d, ok, err := ParseDMARC(text)
		if d.Policy != want.policy || ok != want.ok || (err != nil) != want.bad || err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("%.60q: %q, %v, %v", text, d.Policy, ok, err)
		}
	}
	d, _, err := ParseDMARC("v=DMARC1; p=none; sp=reject; adkim=s; aspf=s; t=y; pct=50; rua=mailto:a@b.c!10m , mailto:d@e.f")
	if err != nil || d.Subdomains != "reject" || !d.StrictDKIM || !d.StrictSPF || !d.Testing || !slices.Equal(d.Removed, []string{"pct"}) || !slices.Equal(d.Reports, []string{"mailto:a@b.c!10m", "mailto:d@e.f"}) {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestParseKeyRecord(t *testing.T) {
	const p = "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	for text, bad := range map[string]bool{
		"v=DKIM1; k=ed25519; " + p:             false,
		"k=ed25519; " + p:                      false,
		"v=DKIM1;k=ed25519;" + p + ";n=a note": false,
		"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcv PapiMlrwIaa\r\n PcHURo=": false,
		"v=DKIM1; p=":                         false,
		"k=ed25519; v=DKIM1; " + p:            true,
		"v=DKIM2; k=ed25519; " + p:            true,
		"v=DKIM1; k=ed25519; p=AAAA":          true,
		"v=DKIM1; k=rsa; " + p:                true,
		"v=DKIM1; k=dsa; " + p:                true,
		"v=DKIM1; k=ed25519; p=*":             true,
		"v=DKIM1; k=ed25519":                  true,
		"v=DKIM1; k=ed25519; k=ed25519; " + p: true,
		"":                                    true,
	} {
		if k, err := ParseKeyRecord(text); (err != nil) != bad || err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("%q: %+v, %v", text, k, err)
		}
	}
}

// TestZoneLines: what is printed is read back as it was by somebody else's parser, in
// strings that fit.
func TestZoneLines(t *testing.T) {
	for _, size := range []int{0, 1, 254, 255, 256, 510, 511, 2000} {
		value := strings.Repeat("a", size)
		rr, err := dns.NewRR(Record{"x.example.org", "TXT", value}.Zone())
		if err != nil {
			t.Fatalf("%d: %v", size, err)
		}
		parts := rr.(*dns.TXT).Txt
		if strings.Join(parts, "") != value || len(parts) != max(1, (size+254)/255) {
			t.Errorf("%d bytes come back as %d strings", size, len(parts))
		}
	}
	rr, err := dns.NewRR(Record{"x.example.org", "TXT", `a "b" \ ; c`}.Zone())
	if err != nil || rr.(*dns.TXT).Txt[0] != `a \"b\" \\ ; c` { // that parser keeps the escapes
		t.Errorf("%q, %v", rr, err)
	}
}

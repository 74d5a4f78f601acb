package identity

import (
	"strings"
	"testing"
	"unicode"
)

func TestCanonicalAddress(t *testing.T) {
	for in, want := range map[string]string{
		"ann@example.org":           "ann@example.org",
		"Ann@Example.ORG":           "ann@example.org",
		"ann+shop@example.org":      "ann+shop@example.org",
		`"ann"@example.org`:         "ann@example.org",
		"jörg@bücher.example":       "jörg@xn--bcher-kva.example",
		"jo\u0308rg@example.org":    "jörg@example.org",
		"ann@XN--BCHER-KVA.example": "ann@xn--bcher-kva.example",
		"ann@a-b.c-d.example":       "ann@a-b.c-d.example",
		"o'neil@example.org":        "o'neil@example.org",

		"": "", "ann": "", "@example.org": "", "ann@": "", "ann@.org": "", "ann@example..org": "", "ann@-a.org": "", "ann@a-.org": "",
		".ann@example.org": "", "ann.@example.org": "", "a..n@example.org": "", `"a n"@example.org`: "", `"a@b"@example.org`: "",
		"ann @example.org": "", "ann\t@example.org": "", "ann\x00@example.org": "", "ann\n@example.org": "", "ann@exa\nmple.org": "",
		"a\u200bnn@example.org": "", "a\u202enn@example.org": "", "=?utf-8?q?ann?=@example.org": "", "a,b@example.org": "",
		"ann@[192.0.2.1]": "", "ann@exa_mple.org": "", "\xff@example.org": "", "ann@example.org.": "",
		strings.Repeat("a", 129) + "@example.org": "", "ann@" + strings.Repeat("a", 64) + ".org": "",
		"ann@" + strings.Repeat("a.", 127) + "org": "",
	} {
		got, err := CanonicalAddress(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzCanonicalAddress(f *testing.F) {
	f.Add("Ann@Example.org")
	f.Add("jörg@bücher.example")
	f.Add(`"x"@xn--a--b.example`)
	f.Fuzz(func(t *testing.T, in string) {
		got, err := CanonicalAddress(in)
		if err != nil {
			return
		}
		if strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) || r == '"' }) || strings.Count(got, "@") != 1 {
			t.Fatalf("%q became %q", in, got)
		}
		if again, err := CanonicalAddress(got); err != nil || again != got {
			t.Fatalf("%q is not stable: %q, %v", got, again, err)
		}
	})
}

func TestNameFrom(t *testing.T) {
	for label, want := range map[string]string{
		"Ann's phone": "anns-phone", "Ann’s phone": "anns-phone", "  Büro / PC!  ": "b-ro-pc", "": "device", "日本": "device", "--": "device",
		strings.Repeat("ab", 40): strings.Repeat("ab", 16), strings.Repeat("a", 31) + " b": strings.Repeat("a", 31),
	} {
		if got := NameFrom(label); got != want {
			t.Errorf("NameFrom(%q) = %q, want %q", label, got, want)
		}
	}
}

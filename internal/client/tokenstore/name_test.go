package tokenstore

import (
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEncodeName(t *testing.T) {
	table := []struct{ name, encoded string }{
		{"you@example.org", "you@example.org"},
		{"first.last+tag=x_y-z@example.org", "first.last+tag=x_y-z@example.org"},
		{"You@Example.ORG", "%59ou@%45xample.%4f%52%47"},
		{"..", "%2e%2e"},
		{".hidden", "%2ehidden"},
		{"end.", "end%2e"},
		{".", "%2e"},
		{"../../etc/passwd", "%2e.%2f..%2fetc%2fpasswd"},
		{`a\b:c`, "a%5cb%3ac"},
		{"100%", "100%25"},
		{"nul\x00line\n\x1b[2J", "nul%00line%0a%1b%5b2%4a"},
		{"jürgen", "j%c3%bcrgen"},
		{"con", "%63on"},
		{"aux.mail", "%61ux.mail"},
		{"com7", "%63om7"},
		{"common@example.org", "common@example.org"},
		{"", "%"},
		{"%", "%25"},
	}
	for _, row := range table {
		if got := EncodeName(row.name); got != row.encoded {
			t.Errorf("EncodeName(%q) = %q, want %q", row.name, got, row.encoded)
		}
		if got, err := DecodeName(row.encoded); err != nil || got != row.name {
			t.Errorf("DecodeName(%q) = %q, %v, want %q", row.encoded, got, err, row.name)
		}
	}
}

func TestDecodeNameRefusesOtherForms(t *testing.T) {
	for _, encoded := range []string{"", "A", "%41b%", "%4", "%zz", "%C3", "%61", ".x", "x.", "a/b", "..", "con", "a b", "ü", "%%"} {
		if name, err := DecodeName(encoded); err == nil {
			t.Errorf("DecodeName(%q) = %q, want an error", encoded, name)
		}
	}
}

// checkEncoding states what every encoding must keep.
func checkEncoding(t interface{ Errorf(string, ...any) }, name string) {
	encoded := EncodeName(name)
	back, err := DecodeName(encoded)
	if err != nil || back != name {
		t.Errorf("DecodeName(EncodeName(%q)) = %q, %v", name, back, err)
	}
	if strings.ToLower(encoded) != encoded {
		t.Errorf("EncodeName(%q) = %q: not safe where case is ignored", name, encoded)
	}
	if filepath.Base(encoded) != encoded || encoded[0] == '.' || strings.HasSuffix(encoded, ".") {
		t.Errorf("EncodeName(%q) = %q: no plain file name", name, encoded)
	}
	for _, c := range []byte(encoded) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`/\:*?"<>|`, c) >= 0 {
			t.Errorf("EncodeName(%q) = %q: byte %#x", name, encoded, c)
		}
	}
}

func TestEncodeNameProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkEncoding(t, string(rapid.SliceOf(rapid.Byte()).Draw(t, "name")))
	})
	rapid.Check(t, func(t *rapid.T) {
		checkEncoding(t, rapid.StringOf(rapid.RuneFrom([]rune(".%/\\aAünulcom1"))).Draw(t, "name"))
	})
}

func FuzzDecodeName(f *testing.F) {
	for _, seed := range []string{"you@example.org", "%2e%2e", "%", "%4", "A", "%c3%bc", "con", "../x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		checkEncoding(t, encoded)
		name, err := DecodeName(encoded)
		if err == nil && EncodeName(name) != encoded {
			t.Errorf("DecodeName takes %q, which is not the form of %q", encoded, name)
		}
	})
}

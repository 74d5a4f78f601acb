package cli

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzLine: whatever a peer says becomes one line that does nothing to a terminal,
// and what LineWriter prints becomes lines of that kind.
func FuzzLine(f *testing.F) {
	for _, text := range []string{"plain", "a\x1b[2J\x07b", "x\r\ny\tz", "\u202eevil", "\xff\xfe", strings.Repeat("ä", 2000), "\u2028\ufeff\u009b31m"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line := Line(text)
		if strings.ContainsFunc(line, hostile) || !utf8.ValidString(line) || utf8.RuneCountInString(line) > 1002 {
			t.Fatalf("%q became %q", text, line)
		}
		var out bytes.Buffer
		w := LineWriter(&out, "> ")
		for _, half := range []string{text[:len(text)/2], text[len(text)/2:], "\n"} {
			if n, err := w.Write([]byte(half)); n != len(half) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
		}
		for written := range strings.Lines(out.String()) {
			if !strings.HasPrefix(written, "> ") || !strings.HasSuffix(written, "\n") || strings.ContainsFunc(strings.TrimSuffix(written, "\n"), hostile) {
				t.Fatalf("%q was written as %q", text, written)
			}
		}
	})
}

// hostile characters move the cursor, hide or reverse text.
func hostile(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == 0x2028 || r == 0x2029
}

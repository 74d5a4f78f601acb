package login

import (
	"strings"
	"testing"
)

// FuzzQR: what a provider wants scanned is drawn within a terminal's width, in its own
// colours and nothing else, or refused.
func FuzzQR(f *testing.F) {
	for _, text := range []string{"https://login.example.org/device?user_code=ABCD-EFGH", "", "\x1b[2J", "\xff\x00", strings.Repeat("0", 300), strings.Repeat("ä", 200)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		code, err := QR(text)
		if err != nil {
			return
		}
		for line := range strings.Lines(code) {
			line = strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[38;5;16;48;5;231m"), "\x1b[0m\n")
			if strings.Trim(line, "█▀▄ ") != "" || len([]rune(line)) > maxWidth {
				t.Fatalf("%q is drawn with %q", text, line)
			}
		}
	})
}

package secret

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
)

// FuzzVeil: what is hidden is not there any more, in whatever text it stood, and
// nothing else is lost from a text without it.
func FuzzVeil(f *testing.F) {
	f.Add("a-secret-of-some-length", "before ", " after")
	f.Add("aaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaa", "aaaaaaaaaaaaaaa")
	f.Add("x%/+=\"\\<>&", "\x00", "\xff")
	f.Fuzz(func(t *testing.T, hidden, before, after string) {
		if len(hidden) < telling || strings.Contains(Redacted, hidden[:telling]) {
			return
		}
		var v Veil
		v.Hide(hidden)
		for _, form := range []string{hidden, url.QueryEscape(hidden), base64.StdEncoding.EncodeToString([]byte(hidden)), hidden[:telling]} {
			text := v.Text(before + form + after)
			if strings.Contains(text, form[:telling]) && !strings.Contains(text, Redacted) {
				t.Fatalf("%q is left in %q", form, text)
			}
			// The mark and its neighbours may spell it by accident, once.
			if rest := strings.ReplaceAll(text, Redacted, "\x00\x00"); !strings.Contains(hidden, "\x00") && strings.Contains(rest, hidden) {
				t.Fatalf("%q is left in %q", hidden, text)
			}
		}
	})
}

package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestVeil(t *testing.T) {
	const token = `9/C4n4ry+&%'"<7>=abcdefgh`
	var v Veil
	v.Hide(token, "", "abc", "short")
	asJSON, _ := json.Marshal(token)
	for name, text := range map[string]string{
		"raw":            token,
		"escaped":        url.QueryEscape(token),
		"escaped path":   url.PathEscape(token),
		"quoted":         fmt.Sprintf("%q", token),
		"JSON":           string(asJSON),
		"base64":         base64.StdEncoding.EncodeToString([]byte(token)),
		"base64url":      base64.RawURLEncoding.EncodeToString([]byte(token)),
		"base64 after 1": base64.StdEncoding.EncodeToString([]byte("x" + token)),
		"base64 after 2": base64.StdEncoding.EncodeToString([]byte("xy" + token)),
		"hex":            hex.EncodeToString([]byte(token)),
		"HEX":            fmt.Sprintf("%X", token),
		"cut":            token[:16],
		"cut escaped":    url.QueryEscape(token)[:20],
		"twice":          token + token[:13] + " " + token,
		"short":          "short",
	} {
		got := v.Text("before " + text + " after")
		if !strings.Contains(got, Redacted) || !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") {
			t.Errorf("%s: %q", name, got)
		}
		for _, part := range []string{"C4n4ry", "abcdef", "short", "JlY2Rl", "YWJjZGVm", "616263", "QzRuN"} {
			if strings.Contains(got, part) {
				t.Errorf("%s: %q is left in %q", name, part, got)
			}
		}
	}
	for _, text := range []string{"", "abc", "9/C4n4ry+&%", "nothing of it"} {
		if got := v.Text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := (Veil{}).Text(token); got != token {
		t.Errorf("no secrets: %q", got)
	}
}

// A server that repeats beginnings without end must not keep us busy.
func BenchmarkVeil(b *testing.B) {
	var v Veil
	v.Hide(strings.Repeat("a", 2000), "code-c4n4ry-"+strings.Repeat("b", 200))
	text := strings.Repeat("aaaaaaaaaaaa!", 1<<16)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		v.Text(text)
	}
}

package probe

import (
	"encoding/base64"
	"strings"
	"testing"
)

func jwt(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".sig"
}

func TestAudience(t *testing.T) {
	for _, c := range []struct{ token, want string }{
		{jwt(`{"aud":"https://graph.microsoft.com/"}`), "https://graph.microsoft.com/"},
		{jwt(`{"aud":["a","b"]}`), "a, b"},
		{jwt(`{"aud":7}`), ""},
		{jwt(`{}`), ""},
		{jwt(`[]`), ""},
		{jwt(`{"aud":"` + strings.Repeat("x", maxClaims) + `"}`), ""},
		{"ya29.opaque", ""},
		{"a.b!.c", ""},
		{"", ""},
	} {
		if got := audience(c.token); got != c.want {
			t.Errorf("audience(%.40q) = %q, want %q", c.token, got, c.want)
		}
	}
}

// What a token says must not lengthen the output beyond reason, nor break it.
func FuzzAudience(f *testing.F) {
	f.Add(jwt(`{"aud":"https://graph.microsoft.com/"}`))
	f.Add(jwt(`{"aud":["a","b"]}`))
	f.Add("ya29.opaque")
	f.Fuzz(func(t *testing.T, token string) {
		if got := audience(token); len(got) > 3*maxClaims {
			t.Errorf("%d bytes out of %d", len(got), len(token))
		}
	})
}

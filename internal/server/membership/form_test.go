package membership

import (
	"strings"
	"testing"
)

func FuzzLogoutForm(f *testing.F) {
	f.Add("logout_token=eyJ.x.y", "application/x-www-form-urlencoded; charset=utf-8")
	f.Add("logout_token=a&logout_token=b", "application/x-www-form-urlencoded")
	f.Add("logout_token=%zz;x", "application/json")
	f.Fuzz(func(t *testing.T, body, kind string) {
		token, err := logoutToken(strings.NewReader(body), kind)
		if err == nil && strings.Count(body, "logout_token") == 0 && !strings.Contains(body, "%") && !strings.Contains(body, "+") {
			t.Fatalf("%q is in %q", token, body)
		}
	})
}

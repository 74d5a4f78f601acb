//go:build lab

package mailauth_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// TestHowDovecotReads gives Dovecot 2.3 every form of answer and looks what it makes of
// it: the reasons for the forms that package mailauth uses. Where it says "danger", that
// answer lets somebody in.
func TestHowDovecotReads(t *testing.T) {
	var mu sync.Mutex
	status, body := 200, ""
	asked := 0
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	defer endpoint.Close()
	d := &dovecot{t: t, ca: lab.RunCA(t)}
	d.server = lab.RunDovecot(t, lab.DovecotOptions{
		CA: d.ca, Introspection: endpoint.URL, ClientID: "dovecot", ClientSecret: "x", NameClaim: "username", Scope: "mail",
	})
	const ok, no, later = "OK", "[AUTHENTICATIONFAILED]", "[UNAVAILABLE]"
	const name = `"username":"ann@try.test"`
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"active, right user and scope: our yes", 200, `{"active":true,` + name + `,"sub":"p1","scope":"imap mail","aud":"mail","client_id":"mutt","token_type":"Bearer"}`, ok},
		{"bare inactive: our no", 200, `{"active":false}`, no},
		{"inactive with a name", 200, `{"active":false,` + name + `,"scope":"mail"}`, no},
		{"no active: danger", 200, `{` + name + `,"scope":"mail"}`, ok},
		{"scope missing, aud a string: danger", 200, `{"active":true,` + name + `,"aud":"mail"}`, ok},
		{"aud as an array", 200, `{"active":true,` + name + `,"aud":["mail"]}`, no},
		{"another scope", 200, `{"active":true,` + name + `,"scope":"calendar"}`, no},
		{"name in other case", 200, `{"active":true,"username":"Ann@Try.Test","scope":"mail"}`, ok},
		{"another name", 200, `{"active":true,"username":"bob@try.test","scope":"mail"}`, no},
		{"DPoP", 200, `{"active":true,` + name + `,"scope":"mail","token_type":"DPoP"}`, later},
		{"error object", 200, `{"error":"invalid_token"}`, later},
		{"401", 401, `{"error":"invalid_token"}`, later},
		{"401 with a name: danger", 401, `{"active":true,` + name + `,"scope":"mail"}`, ok},
		{"500", 500, `{"active":false}`, later},
		{"503: our later", 503, `{"error":"temporarily_unavailable"}`, later},
		{"not JSON", 200, `<html>`, later},
		{"no name", 200, `{"active":true,"scope":"mail"}`, later},
	} {
		mu.Lock()
		status, body, asked = c.status, c.body, 0
		mu.Unlock()
		out := d.login("XOAUTH2", "ann@try.test", "llat_some-token")
		mu.Lock()
		if asked == 0 {
			t.Errorf("%s: Dovecot did not ask", c.name)
		}
		mu.Unlock()
		if !strings.Contains(out, c.want) || c.want != ok && strings.Contains(out, "OK (") {
			t.Errorf("%s: want %s\n%s", c.name, c.want, out)
		}
	}
}

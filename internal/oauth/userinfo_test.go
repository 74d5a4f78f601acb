package oauth

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

func TestUserInfo(t *testing.T) {
	body, status, kind := `{"sub":"1001","email":"ann@example.org"}`, http.StatusOK, "application/json"
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.RawQuery != "" || r.Header.Get("Authorization") != "Bearer the-token" {
			t.Errorf("%s %s with %q", r.Method, r.URL, r.Header.Get("Authorization"))
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
	conn := connTo(server.URL)
	if _, err := conn.UserInfo(t.Context(), secret.New("the-token"), "1001"); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("without an endpoint: %v", err)
	}
	conn.Endpoints.UserInfo = server.URL + "/userinfo"
	claims, err := conn.UserInfo(t.Context(), secret.New("the-token"), "1001")
	if err != nil || string(claims["email"]) != `"ann@example.org"` {
		t.Errorf("%s, %v", claims, err)
	}
	for name, c := range map[string]struct {
		body   string
		status int
		kind   string
		want   string
	}{
		"another subject":   {`{"sub":"1002"}`, 200, "application/json", "another account"},
		"no subject":        {`{"email":"ann@example.org"}`, 200, "application/json", "another account"},
		"subject, a number": {`{"sub":1001}`, 200, "application/json", "another account"},
		"two subjects":      {`{"sub":"1001","sub":"1002"}`, 200, "application/json", "twice"},
		"signed":            {`eyJhbGciOiJSUzI1NiJ9.e30.AAAA`, 200, "application/jwt", "application/jwt, not JSON"},
		"token not good":    {`{"error":"invalid_token","error_description":"the-token has expired"}`, 401, "application/json", "invalid_token"},
		"refused by a page": {`<html>`, 403, "text/html", "text/html, not JSON"},
		"nothing":           {"", 401, "", "empty answer"},
	} {
		body, status, kind = c.body, c.status, c.kind
		_, err := conn.UserInfo(t.Context(), secret.New("the-token"), "1001")
		t.Run(name, func(t *testing.T) {
			wantError(t, err, c.want)
			if text := fault(t, err).Error(); strings.Contains(text, "the-token") {
				t.Errorf("the token is in %q", text)
			}
		})
	}
}

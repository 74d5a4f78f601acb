//go:build unix

package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A rudeness is a way for an authorization server to refuse a request and to repeat
// what it was sent.
type rudeness struct {
	name   string
	answer func(w http.ResponseWriter, repeat string, form url.Values)
}

// repetition is what was sent, in the forms that servers write into errors and logs.
func repetition(form url.Values) string {
	var parts []string
	for _, name := range []string{"refresh_token", "code", "code_verifier", "client_secret", "authorization", "device_code", "token"} {
		if value := form.Get(name); value != "" {
			parts = append(parts, fmt.Sprintf("%s=%s (%s) (%q) (%s) (%.20s...)", name, value, url.QueryEscape(value), value, base64.StdEncoding.EncodeToString([]byte(value)), value))
		}
	}
	return strings.Join(parts, "; ")
}

func rudenesses() []rudeness {
	jsonFault := func(status int, code string) func(http.ResponseWriter, string, url.Values) {
		return func(w http.ResponseWriter, repeat string, _ url.Values) {
			answer(w, status, object{"error": code, "error_description": repeat, "error_uri": "https://e.example/?" + repeat, "suberror": repeat, "correlation_id": repeat})
		}
	}
	plain := func(status int, kind, text string) func(http.ResponseWriter, string, url.Values) {
		return func(w http.ResponseWriter, repeat string, form url.Values) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			fmt.Fprint(w, text, repeat, form.Encode())
		}
	}
	return []rudeness{
		{"invalid_grant", jsonFault(400, "invalid_grant")},
		{"invalid_client", jsonFault(401, "invalid_client")},
		{"server_error", jsonFault(500, "server_error")},
		{"the secret is the code of the error", func(w http.ResponseWriter, _ string, form url.Values) {
			answer(w, 400, object{"error": firstSecret(form), "error_description": "x"})
		}},
		{"500 with the request", plain(500, "text/plain", "trace: ")},
		{"404 with the request", plain(404, "text/html", "<p>")},
		{"429 with the request", plain(429, "application/json", "")},
		{"200 with the request", plain(200, "text/html", "<p>")},
		{"200, broken JSON", plain(200, "application/json", `{"access_token":"`)},
		{"the request as type of content", plain(200, "text/x", "")},
		{"a redirect", func(w http.ResponseWriter, repeat string, _ url.Values) {
			w.Header().Set("Location", "https://evil.example/?"+url.QueryEscape(repeat))
			w.WriteHeader(302)
		}},
		{"Google's form", func(w http.ResponseWriter, repeat string, _ url.Values) {
			answer(w, 403, object{"error": object{"code": 403, "message": repeat, "status": "PERMISSION_DENIED"}})
		}},
		{"a token twice", func(w http.ResponseWriter, _ string, form url.Values) {
			fmt.Fprintf(w, `{"access_token":%q,"access_token":%q,"token_type":"Bearer"}`, firstSecret(form), firstSecret(form))
		}},
		{"a member called like the token", func(w http.ResponseWriter, _ string, form url.Values) {
			fmt.Fprintf(w, `{%q:1,%q:2}`, firstSecret(form), firstSecret(form))
		}},
		{"a type called like the token", func(w http.ResponseWriter, _ string, form url.Values) {
			answer(w, 200, object{"access_token": "x", "token_type": firstSecret(form)})
		}},
		{"a number called like the token", func(w http.ResponseWriter, repeat string, _ url.Values) {
			answer(w, 200, object{"access_token": object{"x": repeat}, "token_type": "Bearer", "expires_in": repeat})
		}},
		{"no HTTP", raw(func(repeat string) string { return repeat + "\r\n\r\n" })},
		{"no header", raw(func(repeat string) string { return "HTTP/1.1 200 OK\r\n" + repeat + "\r\n\r\n" })},
		{"no status", raw(func(repeat string) string { return "HTTP/1.1 " + repeat + "\r\n\r\n" })},
		{"no length", raw(func(repeat string) string { return "HTTP/1.1 200 OK\r\nContent-Length: " + repeat + "\r\n\r\n" })},
		{"no coding", raw(func(repeat string) string { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + repeat + "\r\n\r\n" })},
		{"no chunk", raw(func(repeat string) string {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + repeat + "\r\n\r\n"
		})},
		{"cut off", raw(func(repeat string) string {
			return "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\nContent-Type: application/json\r\n\r\n{\"error\":\"" + repeat
		})},
	}
}

// someRudenesses is every third one where time is short: `make quick`.
func someRudenesses() []rudeness {
	var some []rudeness
	for n, rude := range rudenesses() {
		if thorough || n%3 == 0 {
			some = append(some, rude)
		}
	}
	return some
}

func firstSecret(form url.Values) string {
	for _, name := range []string{"refresh_token", "code", "device_code", "token", "client_secret"} {
		if value := form.Get(name); value != "" {
			return value
		}
	}
	return "nothing"
}

// raw answers with bytes that net/http would not let out.
func raw(text func(repeat string) string) func(http.ResponseWriter, string, url.Values) {
	return func(w http.ResponseWriter, repeat string, _ url.Values) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		fmt.Fprint(conn, text(repeat))
		_ = conn.Close()
	}
}

// at makes the rudeness happen at these endpoints.
func (r rudeness) at(endpoints ...string) func(http.ResponseWriter, string, url.Values) bool {
	return func(w http.ResponseWriter, endpoint string, form url.Values) bool {
		if !slices.Contains(endpoints, endpoint) {
			return false
		}
		r.answer(w, repetition(form), form)
		return true
	}
}

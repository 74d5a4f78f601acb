package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"testing"
)

func TestRevoke(t *testing.T) {
	for _, test := range []struct {
		status    int
		body      string
		want      string
		temporary bool
	}{
		{200, "", "", false},
		{200, "<html>ok</html>", "", false},
		{204, "", "", false},
		{400, `{"error":"invalid_token"}`, "", false},
		{400, `{"error":"unsupported_token_type"}`, "unsupported_token_type", false},
		{401, `{"error":"invalid_client"}`, "invalid_client", false},
		{503, ``, "503", true},
	} {
		conn := connTo(serve(t, func(w http.ResponseWriter, r *http.Request) {
			if f := form(t, r); f.Encode() != "client_id=client&token=rt&token_type_hint=refresh_token" {
				t.Errorf("sent %s", f.Encode())
			}
			w.WriteHeader(test.status)
			if test.status != 204 {
				fmt.Fprint(w, test.body)
			}
		}).URL)
		err := conn.Revoke(t.Context(), hidden("rt"), "refresh_token")
		if test.want == "" {
			if err != nil {
				t.Errorf("%d %s: %v", test.status, test.body, err)
			}
			continue
		}
		wantError(t, err, test.want)
		if fault(t, err).Temporary() != test.temporary {
			t.Errorf("%d: temporary = %v", test.status, !test.temporary)
		}
	}
	conn := connTo("https://idp.example")
	conn.Endpoints.Revocation = ""
	if err := conn.Revoke(t.Context(), hidden("rt"), ""); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("no endpoint: %v", err)
	}
}

func TestRegister(t *testing.T) {
	req := RegisterRequest{RedirectURIs: []string{"http://127.0.0.1/cb"}, Scopes: []string{"mail", "offline_access"}}
	for _, test := range []struct {
		name, body string
		want       Client
		fault      string
	}{
		{"public", `{"client_id":"abc","token_endpoint_auth_method":"none","redirect_uris":["http://127.0.0.1/cb"],
			"registration_client_uri":"https://idp.example/reg/abc","registration_access_token":"rat"}`,
			Client{ID: "abc", Auth: AuthNone, Registration: &Registered{"https://idp.example/reg/abc", hidden("rat")}}, ""},
		{"bare", `{"client_id":"abc"}`, Client{ID: "abc", Auth: AuthNone}, ""},
		{"secret nobody asked for", `{"client_id":"abc","client_secret":"s","token_endpoint_auth_method":"none"}`, Client{ID: "abc", Auth: AuthNone}, ""},
		{"secret, silent", `{"client_id":"abc","client_secret":"s"}`, Client{ID: "abc", Secret: hidden("s"), Auth: AuthBasic}, ""},
		{"secret by post", `{"client_id":"abc","client_secret":"s","token_endpoint_auth_method":"client_secret_post"}`, Client{ID: "abc", Secret: hidden("s"), Auth: AuthPost}, ""},
		{"post without secret", `{"client_id":"abc","token_endpoint_auth_method":"client_secret_post"}`, Client{}, "cannot do"},
		{"key", `{"client_id":"abc","client_secret":"s","token_endpoint_auth_method":"private_key_jwt"}`, Client{}, "cannot do"},
		{"redirect replaced", `{"client_id":"abc","redirect_uris":["https://evil.example/"]}`, Client{}, "another redirect URI"},
		{"redirect added", `{"client_id":"abc","redirect_uris":["http://127.0.0.1/cb","https://evil.example/"]}`, Client{}, "another redirect URI"},
		{"no id", `{"client_secret":"s"}`, Client{}, "client_id"},
		{"id with newline", `{"client_id":"a\nb"}`, Client{}, "client_id"},
		{"registration in the clear", `{"client_id":"abc","registration_client_uri":"http://idp.example/","registration_access_token":"rat"}`, Client{}, "registration_client_uri"},
		{"refused", `{"error":"invalid_redirect_uri","error_description":"no loopback"}`, Client{}, "invalid_redirect_uri: no loopback"},
		{"HTML", `<html>`, Client{}, "not JSON"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sent map[string]any
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if err := json.NewDecoder(r.Body).Decode(&sent); err != nil || r.Header.Get("Content-Type") != "application/json" {
					t.Errorf("request: %v", err)
				}
				w.WriteHeader(http.StatusCreated)
				fmt.Fprint(w, test.body)
			})
			got, err := Register(t.Context(), NewHTTPClient(HTTPOptions{}), server.URL, req)
			want := map[string]any{
				"client_name": "Letterlock", "application_type": "native", "token_endpoint_auth_method": "none", "scope": "mail offline_access",
				"redirect_uris": []any{"http://127.0.0.1/cb"}, "response_types": []any{"code"}, "grant_types": []any{"authorization_code", "refresh_token"},
			}
			if !reflect.DeepEqual(sent, want) {
				t.Errorf("sent %v", sent)
			}
			if test.fault != "" {
				wantError(t, err, test.fault)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			same := got.ID == test.want.ID && got.Auth == test.want.Auth && got.Secret.Equal(test.want.Secret) && (got.Registration == nil) == (test.want.Registration == nil)
			if same && got.Registration != nil {
				same = got.Registration.ClientURI == test.want.Registration.ClientURI && got.Registration.AccessToken.Equal(test.want.Registration.AccessToken)
			}
			if !same {
				t.Errorf("got %+v", got)
			}
		})
	}
	if _, err := Register(t.Context(), nil, "", req); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("no endpoint: %v", err)
	}
}

func TestUnregister(t *testing.T) {
	for status, ok := range map[int]bool{204: true, 404: true, 410: true, 401: false, 405: false, 500: false} {
		server := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodDelete || r.Header.Get("Authorization") != "Bearer rat-canary" || r.URL.RawQuery != "client=abc" {
				t.Errorf("%s %s with %v", r.Method, r.URL, r.Header)
			}
			w.WriteHeader(status)
			if status != 204 {
				fmt.Fprintf(w, `{"error":"no","error_description":"%s"}`, r.Header.Get("Authorization"))
			}
		})
		err := Unregister(t.Context(), NewHTTPClient(HTTPOptions{}), Registered{server.URL + "/reg?client=abc", hidden("rat-canary")})
		if (err == nil) != ok {
			t.Errorf("%d: %v", status, err)
		}
		if err != nil {
			wantError(t, err, "[redacted]")
		}
	}
	if err := Unregister(t.Context(), nil, Registered{ClientURI: "http://idp.example/", AccessToken: hidden("x")}); err == nil {
		t.Error("registration token would go in the clear")
	}
}

// A server elsewhere cannot have the removal of its registration knock at a port of this
// machine; one that is here can.
func TestRegistrationElsewhere(t *testing.T) {
	for _, test := range []struct {
		endpoint, uri string
		good          bool
	}{
		{"https://idp.example/register", "https://idp.example/reg/abc", true},
		{"https://idp.example/register", "https://api.idp.example/reg/abc", true},
		{"https://idp.example/register", "http://127.0.0.1:631/printers/abc", false},
		{"https://idp.example/register", "http://localhost/abc", false},
		{"http://127.0.0.1:9/register", "http://127.0.0.1:9/reg/abc", true},
	} {
		o, err := parseObject(fmt.Appendf(nil, `{"registration_client_uri":%q,"registration_access_token":"rat"}`, test.uri))
		if err != nil {
			t.Fatal(err)
		}
		got, err := o.registered(test.endpoint)
		if (err == nil) != test.good || test.good && got.ClientURI != test.uri {
			t.Errorf("%s registers at %s: %+v, %v", test.endpoint, test.uri, got, err)
		}
	}
}

package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// site answers by path; what it does not know is a web page, as at so many servers.
type site struct {
	mu    sync.Mutex
	pages map[string]string // path to body; "%s" in it is the site's own address
	asked []string
	fault int // status for what is unknown; 0: 200 with HTML
	home  string
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.URL.Path)
	page, known := s.pages[r.URL.Path]
	if !known {
		w.Header().Set("Content-Type", "text/html")
		if s.fault != 0 {
			w.WriteHeader(s.fault)
		}
		_, _ = io.WriteString(w, "<html>")
		return
	}
	_, _ = io.WriteString(w, strings.ReplaceAll(page, "%s", s.home))
}

const (
	oidcPath  = "/.well-known/openid-configuration"
	oauthPath = "/.well-known/oauth-authorization-server"
	minimal   = `{"issuer":"%s","authorization_endpoint":"%s/a","token_endpoint":"%s/t"}`
)

func TestDiscover(t *testing.T) {
	full := `{"issuer":"%s","authorization_endpoint":"%s/a","token_endpoint":"%s/t","device_authorization_endpoint":"%s/d",
		"revocation_endpoint":"%s/r","registration_endpoint":"%s/g","userinfo_endpoint":"%s/u","jwks_uri":"%s/k",
		"authorization_response_iss_parameter_supported":true,"scopes_supported":["openid","mail"],
		"grant_types_supported":["authorization_code"],"token_endpoint_auth_methods_supported":["none"],"code_challenge_methods_supported":["S256"]}`
	for _, test := range []struct {
		name, path string // path of the issuer
		pages      map[string]string
		fault      int
		token      string // path of the token endpoint that must be found
		revoke     string
		asked      []string
		want       string // part of the error
		temporary  bool
	}{
		{name: "OpenID, all there", pages: map[string]string{oidcPath: full}, token: "/t", revoke: "/r", asked: []string{oidcPath}},
		{name: "OpenID alone", pages: map[string]string{oidcPath: minimal}, fault: 404, token: "/t", asked: []string{oidcPath, oauthPath}},
		{name: "RFC 8414 alone", pages: map[string]string{oauthPath: full}, fault: 404, token: "/t", revoke: "/r", asked: []string{oidcPath, oauthPath}},
		{name: "RFC 8414 behind a catch-all page", pages: map[string]string{oauthPath: full}, token: "/t", revoke: "/r", asked: []string{oidcPath, oauthPath}},
		{name: "second fills, first wins", pages: map[string]string{oidcPath: minimal, oauthPath: strings.Replace(full, "%s/t", "%s/other", 1)},
			token: "/t", revoke: "/r", asked: []string{oidcPath, oauthPath}},
		{name: "second is of another issuer", pages: map[string]string{oidcPath: minimal, oauthPath: strings.Replace(full, `"%s"`, `"https://evil.example"`, 1)},
			token: "/t", asked: []string{oidcPath, oauthPath}},
		{name: "path", path: "/realms/mail", pages: map[string]string{"/realms/mail" + oidcPath: minimal, oauthPath + "/realms/mail": full},
			token: "/t", revoke: "/r", asked: []string{"/realms/mail" + oidcPath, oauthPath + "/realms/mail"}},
		{name: "slash at the end", path: "/", pages: map[string]string{oidcPath: full}, token: "/t", revoke: "/r", asked: []string{oidcPath}},
		{name: "another issuer", pages: map[string]string{oidcPath: strings.Replace(full, `"%s"`, `"https://evil.example"`, 1), oauthPath: full},
			asked: []string{oidcPath}, want: "names another issuer: \"https://evil.example\""},
		{name: "issuer with a slash more", path: "/", pages: map[string]string{oidcPath: strings.Replace(full, `"%s"`, `"%s/"`, 1)},
			asked: []string{oidcPath}, want: "another issuer"},
		{name: "document with a slash more", pages: map[string]string{oidcPath: strings.Replace(full, `"%s"`, `"%s/"`, 1)},
			asked: []string{oidcPath}, want: "another issuer"},
		{name: "no issuer", pages: map[string]string{oidcPath: `{"token_endpoint":"%s/t"}`}, asked: []string{oidcPath}, want: "another issuer"},
		{name: "no token endpoint", pages: map[string]string{oidcPath: `{"issuer":"%s","authorization_endpoint":"%s/a"}`}, asked: []string{oidcPath}, want: "no token endpoint"},
		{name: "http elsewhere", pages: map[string]string{oidcPath: strings.Replace(full, "%s/t", "http://evil.example/t", 1)}, asked: []string{oidcPath}, want: "token_endpoint"},
		{name: "script", pages: map[string]string{oidcPath: strings.Replace(full, "%s/a", "javascript:alert(1)", 1)}, asked: []string{oidcPath}, want: "authorization_endpoint"},
		{name: "endpoint is a list", pages: map[string]string{oidcPath: strings.Replace(full, `"%s/t"`, `["%s/t"]`, 1)}, asked: []string{oidcPath}, want: "not a string"},
		{name: "issuer twice", pages: map[string]string{oidcPath: `{"issuer":"https://evil.example",` + full[1:]}, fault: 404,
			asked: []string{oidcPath, oauthPath}, want: "twice", temporary: true},
		{name: "nothing there", fault: 404, asked: []string{oidcPath, oauthPath}, want: "404", temporary: true},
		{name: "in trouble", fault: 503, asked: []string{oidcPath}, want: "503", temporary: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			pages := maps.Clone(test.pages)
			s := &site{pages: pages, fault: test.fault}
			server := serve(t, s.ServeHTTP)
			s.home = server.URL + test.path
			found, err := Discover(t.Context(), NewHTTPClient(HTTPOptions{}), Issuer(s.home))
			if !slices.Equal(s.asked, test.asked) {
				t.Errorf("asked %q, want %q", s.asked, test.asked)
			}
			if test.want != "" {
				wantError(t, err, test.want)
				var f *Error
				if temporary := errors.As(err, &f) && f.Temporary(); temporary != test.temporary {
					t.Errorf("temporary = %v: %v", temporary, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			revoke := found.Revocation
			if revoke != "" {
				revoke = strings.TrimPrefix(revoke, s.home)
			}
			if string(found.Issuer) != s.home || found.Token != s.home+test.token || revoke != test.revoke {
				t.Errorf("found %+v", found)
			}
			if test.revoke != "" && (!found.IssParameter || len(found.PKCE) != 1 || len(found.ScopesSupported) != 2 || len(found.AuthMethods) != 1) {
				t.Errorf("lists or iss are missing: %+v", found)
			}
		})
	}
}

// TestDiscoverTemplatedIssuer is Microsoft's common, whose document is for all tenants.
func TestDiscoverTemplatedIssuer(t *testing.T) {
	for _, test := range []struct {
		issuer string // in the document
		ok     bool
	}{
		{"%s/{tenantid}/v2.0", true},
		{"%s/x/{tenantid}/v2.0", false},
		{"%s/{tenantid}/v1.0", false},
		{"%s/{tenantid}/{tenantid}", false},
		{"https://evil.example/{tenantid}/v2.0", false},
		{"{tenantid}", false},
		{"%s{tenantid}/v2.0", false},
	} {
		s := &site{fault: 404, pages: map[string]string{
			"/common/v2.0" + oidcPath: fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":"%%s/a","token_endpoint":"%%s/t"}`, test.issuer),
		}}
		server := serve(t, s.ServeHTTP)
		s.home = server.URL
		found, err := Discover(t.Context(), NewHTTPClient(HTTPOptions{}), Issuer(server.URL+"/common/v2.0"))
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.issuer, err)
		}
		if test.ok && (!found.TemplatedIssuer || string(found.Issuer) != server.URL+"/{tenantid}/v2.0") {
			t.Errorf("%s: %+v", test.issuer, found)
		}
	}
}

func TestDiscoverRefusesHostileMetadata(t *testing.T) {
	for name, body := range map[string]string{
		"large": `{"issuer":"%s","x":"` + strings.Repeat("x", maxBody) + `"}`,
		"deep":  `{"issuer":"%s","x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
	} {
		s := &site{pages: map[string]string{oidcPath: body}, fault: 404}
		server := serve(t, s.ServeHTTP)
		s.home = server.URL
		if _, err := Discover(t.Context(), NewHTTPClient(HTTPOptions{}), Issuer(server.URL)); err == nil {
			t.Errorf("%s metadata was accepted", name)
		}
	}
	if _, err := Discover(context.Background(), nil, "http://idp.example"); err == nil {
		t.Error("http issuer was accepted")
	}
}

// TestRemoteMetadataMayNotPointHere: an issuer out there cannot have tokens sent to a
// port of this machine in the clear.
func TestRemoteMetadataMayNotPointHere(t *testing.T) {
	o, err := parseObject([]byte(`{"issuer":"https://idp.example","authorization_endpoint":"https://idp.example/a","token_endpoint":"http://127.0.0.1:25/t"}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parseMetadata(o, "https://idp.example")
	wantError(t, err, "plain http")
}

func TestParseIssuer(t *testing.T) {
	for text, want := range map[string]Issuer{
		"https://idp.example":                  "https://idp.example",
		" https://IDP.Example/Realms/Mail/ ":   "https://idp.example/Realms/Mail/",
		"idp.example/realms/mail":              "https://idp.example/realms/mail",
		"HTTPS://idp.example:8443":             "https://idp.example:8443",
		"http://127.0.0.1:8080":                "http://127.0.0.1:8080",
		"http://[::1]:8080/x":                  "http://[::1]:8080/x",
		"https://login.example/{tenantid}/v2":  "https://login.example/{tenantid}/v2",
		"":                                     "",
		"http://idp.example":                   "",
		"ftp://idp.example":                    "",
		"https://idp.example/?a=b":             "",
		"https://idp.example?":                 "",
		"https://idp.example/#x":               "",
		"https://idp.example#":                 "",
		"https://me@idp.example":               "",
		"https://me:pw@idp.example":            "",
		"https:///path":                        "",
		"https://idp.example/a b":              "",
		"https://idp.example/\x00":             "",
		"https://idp.example/%zz":              "",
		"https://idp\u202e.example":            "",
		"https://" + strings.Repeat("a", 3000): "",
	} {
		got, err := ParseIssuer(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q gives %q, %v; want %q", text, got, err, want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x00\n") {
			t.Errorf("%q: unclean error %q", text, err)
		}
		if again, err := ParseIssuer(string(got)); want != "" && (err != nil || again != got) {
			t.Errorf("%q does not stay as it is: %q, %v", got, again, err)
		}
	}
}

// FuzzMetadata: whatever a document says, what is accepted is https at the issuer asked.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte(strings.ReplaceAll(minimal, "%s", "https://idp.example")))
	f.Add([]byte(`{"issuer":"https://idp.example","token_endpoint":"http://127.0.0.1/t","device_authorization_endpoint":"https://idp.example/d"}`))
	f.Add([]byte(`{"issuer":"https://idp.example","token_endpoint":null}`))
	f.Add([]byte(`{"a":{"a":1,"a":2}}`))
	f.Add([]byte("\xef\xbb\xbf{}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseObject(body)
		if err != nil {
			return
		}
		if !json.Valid(body) && !strings.HasPrefix(string(body), "\xef\xbb\xbf") {
			t.Fatalf("accepted what is not JSON: %q", body)
		}
		m, err := parseMetadata(o, "https://idp.example")
		if err != nil {
			return
		}
		if m.Issuer != "https://idp.example" || m.Token == "" {
			t.Fatalf("accepted %+v", m)
		}
		for _, place := range []string{m.Token, m.Authorization, m.DeviceAuthorization, m.Revocation, m.Registration, m.UserInfo, m.JWKS} {
			if place != "" && !strings.HasPrefix(strings.ToLower(place), "https://") {
				t.Fatalf("accepted endpoint %q", place)
			}
		}
	})
}

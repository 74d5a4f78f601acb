package authserver_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
)

func (b *bench) registerClient(body string) answer {
	b.t.Helper()
	return b.postRaw(http.DefaultClient, "/register", body, "Content-Type", "application/json; charset=utf-8")
}

func TestRegistration(t *testing.T) {
	b := newBench(t)
	got := b.registerClient(`{"client_name":"Letterlock","redirect_uris":["http://127.0.0.1/x","http://[::1]/x"],
		"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none","logo_uri":"http://169.254.169.254/","scope":"imap"}`)
	if got.status != http.StatusCreated {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	id := got.text(t, "client_id")
	code := b.allow(authQuery("client_id", id, "redirect_uri", "http://[::1]:5/x"))
	tokens := b.post("/token", codeForm(code, "client_id", id, "redirect_uri", "http://[::1]:5/x"))
	if tokens.status != http.StatusOK || !b.active(tokens.text(t, "access_token")) {
		t.Errorf("tokens of a registered client: %d", tokens.status)
	}
	got = b.post("/token", refreshForm(tokens.text(t, "refresh_token"), "client_id", "mutt"))
	b.wantError(got, 400, "invalid_grant")
	for name, forged := range map[string]string{
		"cut": id[:len(id)-1], "longer": id + "A", "another body": "llc_e30" + id[strings.Index(id, "."):], "no signature": strings.SplitN(id, ".", 2)[0],
	} {
		if got := b.get(b.browser("p1"), "/authorize?"+authQuery("client_id", forged, "redirect_uri", "http://[::1]:5/x").Encode()); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, got.status)
		}
	}
}

func TestRegistrationRefused(t *testing.T) {
	b := newBench(t)
	redirect := func(uri string) string { return `{"redirect_uris":["` + uri + `"]}` }
	for body, want := range map[string]string{
		``:                                     "invalid_client_metadata",
		`[]`:                                   "invalid_client_metadata",
		`{}`:                                   "invalid_redirect_uri",
		redirect("http://app.example/cb"):      "invalid_redirect_uri",
		redirect("http://127.0.0.1/cb#f"):      "invalid_redirect_uri",
		redirect("http://u@127.0.0.1/"):        "invalid_redirect_uri",
		redirect("http://127.0.0.1.evil/"):     "invalid_redirect_uri",
		redirect("https:///cb"):                "invalid_redirect_uri",
		redirect("myapp:/cb"):                  "invalid_redirect_uri",
		redirect("javascript:alert(1)"):        "invalid_redirect_uri",
		redirect("com.example.app://host/x"):   "invalid_redirect_uri",
		redirect("https://*.example/cb"):       "invalid_redirect_uri",
		redirect("https://a.example;sandbox/"): "invalid_redirect_uri",
		redirect("https://a.example,x/"):       "invalid_redirect_uri",
		redirect("https://a b/"):               "invalid_redirect_uri",
		redirect(""):                           "invalid_redirect_uri",
		`{"grant_types":["urn:ietf:params:oauth:grant-type:device_code"],"redirect_uris":["http://127.0.0.1/"]}`: "invalid_redirect_uri",
		`{"redirect_uris":["http://127.0.0.1/"],"grant_types":["password"]}`:                                     "invalid_client_metadata",
		`{"redirect_uris":["http://127.0.0.1/"],"response_types":["token"]}`:                                     "invalid_client_metadata",
		`{"redirect_uris":["http://127.0.0.1/"],"token_endpoint_auth_method":"client_secret_basic"}`:             "invalid_client_metadata",
		`{"redirect_uris":["http://127.0.0.1/"],"client_name":"a\u202eb"}`:                                       "invalid_client_metadata",
		`{"redirect_uris":["http://127.0.0.1/"],"client_name":"a\nb"}`:                                           "invalid_client_metadata",
		`{"redirect_uris":["http://127.0.0.1/"],"client_name":"` + strings.Repeat("n", 101) + `"}`:               "invalid_client_metadata",
		`{"redirect_uris":["https://e.example/` + strings.Repeat("n", 1024) + `"]}`:                              "invalid_redirect_uri",
		`{"client_name":"` + strings.Repeat("n", 20<<10) + `"}`:                                                  "invalid_client_metadata",
	} {
		if got := b.registerClient(body); got.status != 400 || got.text(t, "error") != want {
			t.Errorf("%.100s: got %d %s, want %s", body, got.status, got.body, want)
		}
	}
	if got := b.registerClient(redirect("com.example.app:/cb")); got.status != http.StatusCreated {
		t.Errorf("a private-use scheme: %d %s", got.status, got.body)
	}
}

// TestRegistrationOff: without it neither the endpoint nor earlier ids are there.
func TestRegistrationOff(t *testing.T) {
	id := newBench(t).registerClient(`{"redirect_uris":["http://127.0.0.1/cb"]}`).text(t, "client_id")
	off := newBench(t, func(o *authserver.Options) { o.Registration = false })
	if got := off.registerClient(`{}`); got.status != http.StatusNotFound {
		t.Errorf("registration: %d", got.status)
	}
	if got := off.get(http.DefaultClient, "/.well-known/oauth-authorization-server"); got.text(t, "registration_endpoint") != "" {
		t.Error("the metadata names an endpoint that is not there")
	}
	if got := off.get(off.browser("p1"), "/authorize?"+authQuery("client_id", id).Encode()); got.status != http.StatusBadRequest {
		t.Errorf("an earlier id: %d", got.status)
	}
	otherKey := newBench(t, func(o *authserver.Options) { o.Key = bytes.Repeat([]byte{8}, 32) })
	if got := otherKey.get(otherKey.browser("p1"), "/authorize?"+authQuery("client_id", id).Encode()); got.status != http.StatusBadRequest {
		t.Errorf("an id signed with another key: %d", got.status)
	}
}

func TestMetadata(t *testing.T) {
	b := newBench(t)
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		got := b.get(http.DefaultClient, path)
		body := got.json(t)
		if got.status != http.StatusOK || body["issuer"] != b.url || body["authorization_response_iss_parameter_supported"] != true {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
		for name, value := range body {
			endpoint, _ := value.(string)
			if !strings.HasSuffix(name, "_endpoint") {
				continue
			}
			// 404 is what is not there; the others answer 405 or an error of their own.
			if a := b.get(http.DefaultClient, strings.TrimPrefix(endpoint, b.url)); a.status == http.StatusNotFound {
				t.Errorf("%s: %s is not there", path, endpoint)
			}
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, issuer := range []string{"", "http://mail.example", "https://mail.example/", "https://mail.example?x", "https://mail.example#", "https://u@mail.example", "mail.example", "ftp://127.0.0.1"} {
		if _, err := authserver.New(authserver.Options{Issuer: issuer}); err == nil || !strings.Contains(err.Error(), "issuer") {
			t.Errorf("issuer %q: %v", issuer, err)
		}
	}
	if _, err := authserver.New(authserver.Options{Issuer: "https://mail.example/auth", Key: []byte("short")}); err == nil || !strings.Contains(err.Error(), "32 bytes") {
		t.Errorf("short key: %v", err)
	}
}

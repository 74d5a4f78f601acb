package oauth

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// patience is how long a machine that does many other things may take: a guard against
// waiting for ever.
const patience = 5 * time.Minute

// noon is the time of all tests that need one.
func noon() time.Time { return time.Date(2026, 11, 10, 12, 0, 0, 0, time.UTC) }

// serve starts a server on loopback for one test.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// connTo is a public client with every endpoint at one place.
func connTo(place string) *Conn {
	return &Conn{
		HTTP: NewHTTPClient(HTTPOptions{Timeout: patience}),
		Endpoints: Endpoints{
			Issuer: Issuer(place), Authorization: place + "/authorize", Token: place + "/token",
			DeviceAuthorization: place + "/device", Revocation: place + "/revoke", JWKS: place + "/keys",
		},
		Client: Client{ID: "client", Auth: AuthNone},
		Now:    noon,
	}
}

// reply answers everything with one JSON text.
func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func form(t *testing.T, r *http.Request) url.Values {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Errorf("read request: %v", err)
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		t.Errorf("request is not a form: %v", err)
	}
	return values
}

// fault is the *Error in err, which must be one.
func fault(t *testing.T, err error) *Error {
	t.Helper()
	var fault *Error
	if !errors.As(err, &fault) {
		t.Fatalf("error is %T %v, want *Error", err, err)
	}
	if text := fault.Error(); strings.ContainsAny(text, "\r\n\x1b") || text == "" {
		t.Errorf("error is not one clean line: %q", text)
	}
	return fault
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("error is %v, want one with %q", err, part)
	}
}

func hidden(text string) secret.String { return secret.New(text) }

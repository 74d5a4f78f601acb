package login

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A deviceServer answers within the process, so that synctest's clock runs: first
// the device request, then one answer a poll.
type deviceServer struct {
	first string
	polls []string // last one again and again
	seen  []url.Values
}

func (s *deviceServer) RoundTrip(r *http.Request) (*http.Response, error) {
	_ = r.ParseForm()
	s.seen = append(s.seen, r.PostForm)
	answer := s.first
	if r.URL.Path == "/token" {
		answer = s.polls[min(len(s.seen)-2, len(s.polls)-1)]
	}
	status, body, _ := strings.Cut(answer, " ")
	recorder := httptest.NewRecorder()
	recorder.Header().Set("Content-Type", "application/json")
	recorder.WriteHeader(map[string]int{"200": 200, "400": 400, "500": 500}[status])
	_, _ = recorder.WriteString(body)
	return recorder.Result(), nil
}

func (s *deviceServer) request() Request {
	return Request{
		Conn: &oauth.Conn{
			HTTP: &http.Client{Transport: s},
			Endpoints: oauth.Endpoints{
				Token: "https://login.test/token", DeviceAuthorization: "https://login.test/device",
			},
			Client: oauth.Client{ID: "the-client", Secret: secret.String{}, Auth: oauth.AuthNone},
			Now:    time.Now,
		},
		Scopes: []string{"mail", "offline_access"},
		Extra:  url.Values{"resource": {"https://mail.test/"}, "prompt": {"consent"}, "access_type": {"offline"}},
		App:    "Letterlock",
	}
}

const (
	deviceAnswer = `200 {"device_code":"dc","user_code":"WDJB-MJHT","verification_uri":"https://login.test/d",` +
		`"verification_uri_complete":"https://login.test/d?c=WDJB-MJHT","expires_in":600,"interval":5}`
	pending = `400 {"error":"authorization_pending"}`
	granted = `200 {"token_type":"Bearer","access_token":"a","refresh_token":"r","expires_in":3600}`
)

func TestDevice(t *testing.T) {
	tests := []struct {
		name    string
		first   string
		polls   []string
		timeout time.Duration
		stop    time.Duration // the person interrupts
		want    string        // error text, "" for a token
		code    cli.Code      // of the fault
		after   time.Duration
		asked   int
	}{
		{"at once", deviceAnswer, []string{granted}, 0, 0, "", 0, 5 * time.Second, 2},
		{"after a while", deviceAnswer, []string{pending, pending, granted}, 0, 0, "", 0, 15 * time.Second, 4},
		{"slow down, for good", deviceAnswer, []string{`400 {"error":"slow_down"}`, pending, granted}, 0, 0, "", 0, 25 * time.Second, 4},
		{"server stumbles", deviceAnswer, []string{`500 oops`, granted}, 0, 0, "", 0, 15 * time.Second, 3},
		{"declined", deviceAnswer, []string{pending, `400 {"error":"access_denied"}`}, 0, 0, "declined", cli.NoPerm, 10 * time.Second, 3},
		{"declined, Microsoft's way", deviceAnswer, []string{`400 {"error":"authorization_declined"}`}, 0, 0, "declined", cli.NoPerm, 5 * time.Second, 2},
		{"run out", deviceAnswer, []string{pending, `400 {"error":"expired_token"}`}, 0, 0, "ran out", cli.NoPerm, 10 * time.Second, 3},
		{"run out by our clock", deviceAnswer, []string{pending}, 0, 0, "ran out", cli.NoPerm, 600 * time.Second, 120},
		{"other error", deviceAnswer, []string{`400 {"error":"invalid_grant"}`}, 0, 0, "sign in by device code: token endpoint: invalid_grant", 0, 5 * time.Second, 2},
		{"our time-out", deviceAnswer, []string{pending}, 12 * time.Second, 0, "no answer", cli.NoPerm, 12 * time.Second, 3},
		{"interrupted", deviceAnswer, []string{pending}, 0, 7 * time.Second, "sign in by device code: context canceled", 0, 7 * time.Second, 2},
		{"not for these scopes", `400 {"error":"invalid_scope"}`, nil, 0, 0, "ask for a device code: device authorization endpoint: invalid_scope", 0, 0, 1},
		{"bad page", `200 {"device_code":"dc","user_code":"A","verification_uri":"javascript:x"}`, nil, 0, 0, "ask for a device code", 0, 0, 1},
		{"bad code", `200 {"device_code":"dc","user_code":"A\u001b[2J","verification_uri":"https://login.test/"}`, nil, 0, 0, "ask for a device code", 0, 0, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &deviceServer{first: test.first, polls: test.polls}
				req := server.request()
				req.Timeout = test.timeout
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.stop > 0 {
					defer time.AfterFunc(test.stop, cancel).Stop()
				}
				began := time.Now()
				token, err := Device(ctx, req, newFakePerson())
				if took := time.Since(began); took != test.after || len(server.seen) != test.asked {
					t.Errorf("took %s and %d requests, want %s and %d", took, len(server.seen), test.after, test.asked)
				}
				checkDeviceEnd(t, token, err, test.want, test.code)
			})
		})
	}
}

func checkDeviceEnd(t *testing.T, token oauth.Token, err error, want string, code cli.Code) {
	t.Helper()
	if want == "" {
		if err != nil || token.Access.Reveal() != "a" || token.Refresh.Reveal() != "r" {
			t.Errorf("token %v, error %v", token, err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), want) || !token.Access.IsZero() {
		t.Errorf("error %v, want %q", err, want)
	}
	var fault *cli.Fault
	if errors.As(err, &fault) && (fault.Hint == "" || fault.Code != code) || fault == nil && code != 0 {
		t.Errorf("fault %+v, want code %d", fault, code)
	}
	var answer *oauth.Error
	ours := errors.Is(err, ErrNobody) || errors.Is(err, context.Canceled)
	if !ours && !errors.As(err, &answer) {
		t.Errorf("no *oauth.Error in %v", err)
	}
}

func TestDeviceShowsAndWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &deviceServer{first: deviceAnswer, polls: []string{granted}}
		person := newFakePerson()
		if _, err := Device(t.Context(), server.request(), person); err != nil {
			t.Fatal(err)
		}
		shown := <-person.devices
		if shown.UserCode != "WDJB-MJHT" || shown.VerificationURIComplete != "https://login.test/d?c=WDJB-MJHT" || shown.Expiry.IsZero() {
			t.Errorf("shown %+v", shown)
		}
		told := person.told()
		for _, want := range []string{"Letterlock", "mail offline_access", "never one that somebody sent you"} {
			if !strings.Contains(told, want) {
				t.Errorf("told %q, not %q", told, want)
			}
		}
		first := server.seen[0]
		if first.Get("scope") != "mail offline_access" || first.Get("resource") != "https://mail.test/" || first.Has("prompt") || first.Has("access_type") {
			t.Errorf("device request %v", first)
		}
	})
}

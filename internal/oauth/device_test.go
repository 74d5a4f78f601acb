package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStartDevice(t *testing.T) {
	const rest = `,"user_code":"ABCD-EFGH","verification_uri":"https://idp.example/device"`
	for _, test := range []struct {
		name, body     string
		life, interval time.Duration
		complete       string
		want           string
	}{
		{name: "full", body: `{"device_code":"d"` + rest + `,"verification_uri_complete":"https://idp.example/device?c=1","expires_in":900,"interval":7}`,
			life: 15 * time.Minute, interval: 7 * time.Second, complete: "https://idp.example/device?c=1"},
		{name: "defaults", body: `{"device_code":"d"` + rest + `}`, life: defaultLife, interval: 5 * time.Second},
		{name: "strings", body: `{"device_code":"d"` + rest + `,"expires_in":"60","interval":"1"}`, life: time.Minute, interval: time.Second},
		{name: "Google's name", body: `{"device_code":"d","user_code":"X","verification_url":"https://idp.example/device","expires_in":60}`, life: time.Minute, interval: 5 * time.Second},
		{name: "no pause", body: `{"device_code":"d"` + rest + `,"expires_in":60,"interval":0}`, life: time.Minute, interval: 5 * time.Second},
		{name: "tiny pause", body: `{"device_code":"d"` + rest + `,"expires_in":60,"interval":0.001}`, life: time.Minute, interval: time.Second},
		{name: "for ever", body: `{"device_code":"d"` + rest + `,"expires_in":1e12,"interval":1e12}`, life: maxLife, interval: maxInterval},
		{name: "no device code", body: `{"user_code":"A","verification_uri":"https://x/"}`, want: "device_code"},
		{name: "no user code", body: `{"device_code":"d","verification_uri":"https://x/"}`, want: "user_code"},
		{name: "escapes in the user code", body: `{"device_code":"d","user_code":"A\u001b[2J","verification_uri":"https://x/"}`, want: "user_code"},
		{name: "no page", body: `{"device_code":"d","user_code":"A"}`, want: "verification_uri"},
		{name: "plain page", body: `{"device_code":"d","user_code":"A","verification_uri":"http://idp.example/"}`, want: "verification_uri"},
		{name: "script page", body: `{"device_code":"d","user_code":"A","verification_uri":"https://x/","verification_uri_complete":"javascript:1"}`, want: "verification_uri_complete"},
		{name: "error with 200", body: `{"error":"invalid_scope"}`, want: "invalid_scope"},
		{name: "HTML", body: `<html>`, want: "not JSON"},
		{name: "empty", body: ``, want: "empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sent url.Values
			conn := connTo(serve(t, func(w http.ResponseWriter, r *http.Request) {
				sent = form(t, r)
				fmt.Fprint(w, test.body)
			}).URL)
			auth, err := conn.StartDevice(t.Context(), []string{"a", "b"}, url.Values{"resource": {"r"}})
			if sent.Encode() != "client_id=client&resource=r&scope=a+b" {
				t.Errorf("sent %s", sent.Encode())
			}
			if test.want != "" {
				wantError(t, err, test.want)
				if fault(t, err).Endpoint != "device authorization" {
					t.Errorf("endpoint of %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if auth.DeviceCode.Reveal() != "d" || !auth.Expiry.Equal(noon().Add(test.life)) || auth.Interval != test.interval || auth.VerificationURIComplete != test.complete {
				t.Errorf("%+v", auth)
			}
		})
	}
	conn := connTo("https://idp.example")
	conn.Endpoints.DeviceAuthorization = ""
	if _, err := conn.StartDevice(t.Context(), nil, nil); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("no endpoint: %v", err)
	}
}

// TestPollDevice is the table of RFC 8628 section 3.5. Each answer is a status and a
// body; the pauses are those before each poll.
func TestPollDevice(t *testing.T) {
	const (
		pending = `400 {"error":"authorization_pending"}`
		slow    = `400 {"error":"slow_down"}`
		good    = `200 {"access_token":"at","token_type":"bearer"}`
	)
	for _, test := range []struct {
		name    string
		answers []string
		life    time.Duration
		pauses  []int // seconds
		code    string
	}{
		{"at once", []string{good}, 0, []int{5}, ""},
		{"pending", []string{pending, pending, good}, 0, []int{5, 5, 5}, ""},
		{"slow down, for good", []string{pending, slow, pending, slow, good}, 0, []int{5, 5, 10, 10, 15}, ""},
		{"denied", []string{pending, `400 {"error":"access_denied"}`}, 0, []int{5, 5}, "access_denied"},
		{"expired there", []string{`400 {"error":"expired_token"}`}, 0, []int{5}, "expired_token"},
		{"expired here", []string{pending, pending, good}, 12 * time.Second, []int{5, 5, 2}, "expired_token"},
		{"no poll at the end", []string{good}, 5 * time.Second, []int{5}, "expired_token"},
		{"unknown error", []string{`400 {"error":"invalid_grant"}`}, 0, []int{5}, "invalid_grant"},
		{"hang-up doubles", []string{"hangup", "hangup", pending, good}, 0, []int{5, 10, 20, 5}, ""},
		{"5xx doubles", []string{"500 {}", `503 {"error":"invalid_grant"}`, good}, 0, []int{5, 10, 20}, ""},
		{"page of a proxy", []string{"200 <html>", good}, 0, []int{5, 10}, ""},
		{"fault after slow down", []string{slow, "hangup", good}, 0, []int{5, 10, 20}, ""},
		{"Retry-After", []string{`429 {"error":"rate"}`, good}, 0, []int{5, 40}, ""},
		{"error with 200", []string{`200 {"error":"authorization_pending"}`, good}, 0, []int{5, 5}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			now, polls := noon(), 0
			conn := connTo(serve(t, func(w http.ResponseWriter, r *http.Request) {
				if f := form(t, r); f.Get("grant_type") != "urn:ietf:params:oauth:grant-type:device_code" || f.Get("device_code") != "dc" || f.Get("client_id") != "client" {
					t.Errorf("sent %v", f)
				}
				next := test.answers[polls]
				polls++
				if next == "hangup" {
					panic(http.ErrAbortHandler)
				}
				status, body, _ := strings.Cut(next, " ")
				if status == "429" {
					w.Header().Set("Retry-After", "40")
				}
				code := 0
				fmt.Sscan(status, &code)
				w.WriteHeader(code)
				fmt.Fprint(w, body)
			}).URL)
			conn.Now = func() time.Time { return now }
			auth := DeviceAuth{DeviceCode: hidden("dc")}
			if test.life > 0 {
				auth.Expiry = now.Add(test.life)
			}
			var pauses []int
			token, err := conn.PollDevice(t.Context(), auth, func(_ context.Context, pause time.Duration) error {
				pauses = append(pauses, int(pause/time.Second))
				now = now.Add(pause)
				return nil
			})
			if !slices.Equal(pauses, test.pauses) {
				t.Errorf("paused %v, want %v", pauses, test.pauses)
			}
			if test.code == "" && (err != nil || token.Access.Reveal() != "at") {
				t.Errorf("token %q, %v", token.Access.Reveal(), err)
			}
			if test.code != "" && fault(t, err).Code != test.code {
				t.Errorf("error %v, want %s", err, test.code)
			}
		})
	}
}

func TestPollDeviceEnds(t *testing.T) {
	polls := 0
	conn := connTo(serve(t, func(w http.ResponseWriter, _ *http.Request) {
		polls++
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error":"authorization_pending"}`)
	}).URL)
	// The clock stands still and the code never ends: the number of polls is bounded.
	_, err := conn.PollDevice(t.Context(), DeviceAuth{DeviceCode: hidden("dc")}, nowait)
	if polls != maxPolls || fault(t, err).Code != "expired_token" {
		t.Errorf("%d polls, %v", polls, err)
	}
	// A server that is away for good is given up.
	gone := serve(t, reply(200, ""))
	gone.Close()
	conn = connTo(gone.URL)
	tries := 0
	_, err = conn.PollDevice(t.Context(), DeviceAuth{DeviceCode: hidden("dc")}, func(context.Context, time.Duration) error { tries++; return nil })
	if tries != maxFaults || !fault(t, err).Temporary() {
		t.Errorf("%d tries, %v", tries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = conn.PollDevice(ctx, DeviceAuth{DeviceCode: hidden("dc"), Interval: time.Hour}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzDeviceAuth(f *testing.F) {
	f.Add([]byte(`{"device_code":"d","user_code":"A-B","verification_uri":"https://x/","expires_in":5,"interval":"5"}`))
	f.Add([]byte(`{"device_code":"d","user_code":"A","verification_url":"http://[::1]/","expires_in":-1e400}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseObject(body)
		if err != nil {
			return
		}
		auth, err := o.deviceAuth(noon())
		if err != nil {
			return
		}
		life := auth.Expiry.Sub(noon())
		if auth.DeviceCode.IsZero() || !plainCode(auth.UserCode) || life <= 0 || life > maxLife || auth.Interval < time.Second || auth.Interval > maxInterval {
			t.Fatalf("accepted %+v of %q", auth, body)
		}
		for _, place := range []string{auth.VerificationURI, auth.VerificationURIComplete} {
			if u, err := url.Parse(place); err != nil || place != "" && u.Scheme != "https" && !loopback(u.Hostname()) {
				t.Fatalf("accepted page %q", place)
			}
		}
	})
}

// FuzzTokenAnswer: no answer makes a token that could break out of a header or a SASL
// message, or an error of more than one line.
func FuzzTokenAnswer(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"at","token_type":"Bearer","expires_in":3600,"refresh_token":"rt","scope":"a b","id_token":"a.b.c"}`,
		`{"access_token":"at","expires_in":"1e9","refresh_expires_in":0,"scope":["a"]}`,
		`{"access_token":"a\u0001t"}`, `{"error":"invalid_grant"}`, `[]`, ``, `{"access_token":"a","access_token":"b"}`,
	} {
		f.Add(200, []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		token, err := (answer{endpoint: "token", status: status, body: body}).token(noon())
		if err != nil {
			fault(t, err)
			return
		}
		if status < 200 || status > 299 || token.Access.IsZero() || strings.ContainsFunc(token.Access.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("status %d, accepted %q", status, token.Access.Reveal())
		}
		if !token.Expiry.IsZero() && token.Expiry.Before(noon()) {
			t.Fatalf("expiry %v", token.Expiry)
		}
	})
}

func FuzzErrorAnswer(f *testing.F) {
	f.Add(400, []byte(`{"error":"invalid_grant","error_description":"canary-secret","error_codes":[1,2]}`))
	f.Add(500, []byte(`{"error":{"code":403,"message":"x canary-secret","status":"PERMISSION_DENIED"}}`))
	f.Add(503, []byte(`{"error":"invalid_grant"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		fault := (answer{endpoint: "token", status: status, body: body, scrub: scrubSecrets(hidden("canary-secret"))}).fault()
		text := fault.Error()
		if strings.Contains(text, "canary-secret") || strings.ContainsAny(text, "\r\n\x1b\x00") || len([]rune(text)) > 1010 {
			t.Fatalf("error is %q", text)
		}
		if status >= 500 && (!fault.Temporary() || fault.Code == "invalid_grant") || status < 500 && fault.Code == "invalid_grant" && fault.Err == nil && status != 429 && status != 408 && fault.Temporary() {
			t.Fatalf("%d %q: temporary = %v", status, body, fault.Temporary())
		}
	})
}

func FuzzCallback(f *testing.F) {
	for _, query := range []string{"code=a&state=b&iss=https://x", "error=access_denied&error_description=x%0Ay", "code=a&code=b", "?code=%00", "a;b"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		cb, err := ParseCallback(query)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n\x1b") {
				t.Fatalf("error is %q", err)
			}
			return
		}
		if cb.Code.IsZero() == (cb.Err == nil) || len(query) > maxCallback {
			t.Fatalf("accepted %q", query)
		}
		if cb.Err != nil && strings.ContainsAny(cb.Err.Error(), "\r\n\x1b") {
			t.Fatalf("unclean %q", cb.Err)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := parseKeys(body)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		if err == nil && !json.Valid(body) && !strings.HasPrefix(string(body), "\xef\xbb\xbf") {
			t.Fatal("accepted what is not JSON")
		}
	})
}

package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTokenAnswers(t *testing.T) {
	for _, test := range []struct {
		name, body    string
		expires       time.Duration // -1: no expiry
		refreshExpiry time.Duration // 0: none
		scopes        []string
	}{
		{"full", `{"access_token":"at","token_type":"Bearer","expires_in":3600,"refresh_token":"rt","scope":"a b"}`, time.Hour, 0, []string{"a", "b"}},
		{"lower case type", `{"access_token":"at","token_type":"bearer","expires_in":3600}`, time.Hour, 0, nil},
		{"upper case type", `{"access_token":"at","token_type":"BEARER"}`, -1, 0, nil},
		{"no type", `{"access_token":"at"}`, -1, 0, nil},
		{"span as string", `{"access_token":"at","expires_in":"3599"}`, 3599 * time.Second, 0, nil},
		{"span as fraction", `{"access_token":"at","expires_in":3599.5}`, 3599*time.Second + 500*time.Millisecond, 0, nil},
		{"span as fraction in a string", `{"access_token":"at","expires_in":" 10.0 "}`, 10 * time.Second, 0, nil},
		{"span null", `{"access_token":"at","expires_in":null}`, -1, 0, nil},
		{"span is a word", `{"access_token":"at","expires_in":"soon"}`, -1, 0, nil},
		{"span is an object", `{"access_token":"at","expires_in":{}}`, -1, 0, nil},
		{"span not a number", `{"access_token":"at","expires_in":"NaN"}`, -1, 0, nil},
		{"span zero", `{"access_token":"at","expires_in":0}`, 0, 0, nil},
		{"span negative", `{"access_token":"at","expires_in":-5}`, 0, 0, nil},
		{"span huge", `{"access_token":"at","expires_in":1e999}`, 10 * 365 * 24 * time.Hour, 0, nil},
		{"refresh span", `{"access_token":"at","refresh_token_expires_in":"60"}`, -1, time.Minute, nil},
		{"Keycloak's refresh span", `{"access_token":"at","refresh_expires_in":1800,"not-before-policy":0}`, -1, 30 * time.Minute, nil},
		{"Keycloak's offline token", `{"access_token":"at","refresh_expires_in":0}`, -1, 0, nil},
		{"scope as list", `{"access_token":"at","scope":["a","b"]}`, -1, 0, []string{"a", "b"}},
		{"scope empty", `{"access_token":"at","scope":""}`, -1, 0, nil},
		{"scope odd", `{"access_token":"at","scope":7}`, -1, 0, nil},
		{"empty error", `{"access_token":"at","error":"","error_description":null}`, -1, 0, nil},
		{"byte order mark", "\xef\xbb\xbf" + `{"access_token":"at"}`, -1, 0, nil},
		{"unknown members", `{"access_token":"at","x":{"y":[1,2,{"z":null}]}}`, -1, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := connTo(serve(t, reply(200, test.body)).URL).Refresh(t.Context(), hidden("old"), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Access.Reveal() != "at" || !slices.Equal(got.Scopes, test.scopes) {
				t.Errorf("access %q, scopes %q", got.Access.Reveal(), got.Scopes)
			}
			wantExpiry := noon().Add(test.expires)
			if test.expires < 0 {
				wantExpiry = time.Time{}
			}
			if !got.Expiry.Equal(wantExpiry) {
				t.Errorf("expiry %v, want %v", got.Expiry, wantExpiry)
			}
			var wantRefresh time.Time
			if test.refreshExpiry > 0 {
				wantRefresh = noon().Add(test.refreshExpiry)
			}
			if !got.RefreshExpiry.Equal(wantRefresh) {
				t.Errorf("refresh expiry %v, want %v", got.RefreshExpiry, wantRefresh)
			}
		})
	}
}

func TestUnusableTokenAnswers(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	for _, test := range []struct {
		name, body, want string
		final            bool
	}{
		{name: "empty", body: "", want: "empty answer"},
		{name: "blank", body: " \n", want: "empty answer"},
		{name: "HTML", body: "<html><body>Sign in to the hotel's network</body></html>", want: "not JSON"},
		{name: "garbage", body: "\x00\x01\xff\xfe", want: "not JSON"},
		{name: "cut", body: `{"access_token":"at","token_ty`, want: "not JSON"},
		{name: "array", body: `[{"access_token":"at"}]`, want: "not a JSON object"},
		{name: "null", body: `null`, want: "not a JSON object"},
		{name: "form", body: `access_token=at&token_type=bearer`, want: "not JSON"},
		{name: "two values", body: `{"access_token":"at"}{"access_token":"bt"}`, want: "more than one"},
		{name: "two tokens", body: `{"access_token":"at","access_token":"bt"}`, want: "twice"},
		{name: "two tokens by escape", body: `{"access_token":"at","access\u005ftoken":"bt"}`, want: "twice"},
		{name: "deep", body: `{"access_token":"at","x":` + deep + `}`, want: "deep"},
		{name: "no token", body: `{"token_type":"Bearer"}`, want: "no access_token"},
		{name: "wrong case", body: `{"Access_Token":"at"}`, want: "no access_token"},
		{name: "token is a number", body: `{"access_token":12345}`, want: "not a string"},
		{name: "token with space", body: `{"access_token":"a t"}`, want: "characters"},
		{name: "token with CRLF", body: `{"access_token":"at\r\nX-Evil: 1"}`, want: "characters"},
		{name: "token with CTRL-A", body: `{"access_token":"at\u0001auth=x"}`, want: "characters"},
		{name: "token with NUL", body: `{"access_token":"at\u0000"}`, want: "characters"},
		{name: "token not ASCII", body: `{"access_token":"tökén"}`, want: "characters"},
		{name: "token bad UTF-8", body: "{\"access_token\":\"a\xff\"}", want: "characters"},
		{name: "refresh token with newline", body: `{"access_token":"at","refresh_token":"r\nt"}`, want: "characters"},
		{name: "type is a number", body: `{"access_token":"at","token_type":1}`, want: "not a string"},
		{name: "DPoP", body: `{"access_token":"at","token_type":"DPoP"}`, want: "token type", final: true},
		{name: "mac", body: `{"access_token":"at","token_type":"mac"}`, want: "token type", final: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := connTo(serve(t, reply(200, test.body)).URL).Refresh(t.Context(), hidden("old-token"), nil, nil)
			f := fault(t, err)
			wantError(t, err, test.want)
			if f.Temporary() == test.final || f.Code != "" {
				t.Errorf("temporary = %v, code %q", f.Temporary(), f.Code)
			}
		})
	}
}

func TestTokenErrors(t *testing.T) {
	for _, test := range []struct {
		name      string
		status    int
		body      string
		code      string
		text      string // part of Error()
		temporary bool
	}{
		{"plain", 400, `{"error":"invalid_grant","error_description":"Token has been revoked."}`, "invalid_grant", "Token has been revoked.", false},
		{"unauthorized", 401, `{"error":"invalid_client"}`, "invalid_client", "invalid_client", false},
		{"with 200", 200, `{"error":"invalid_code"}`, "invalid_code", "invalid_code", false},
		{"with 200 and a token", 200, `{"error":"invalid_grant","access_token":"at"}`, "invalid_grant", "", false},
		{"unknown code", 400, `{"error":"INVALID_REFRESH_TOKEN"}`, "INVALID_REFRESH_TOKEN", "", false},
		{"nested", 403, `{"error":{"code":403,"message":"Gmail API is off","status":"PERMISSION_DENIED"}}`, "PERMISSION_DENIED", "Gmail API is off", false},
		{"nested without status", 403, `{"error":{"code":403,"message":"no"}}`, "403", "no", false},
		{"number", 400, `{"error":17}`, "17", "", false},
		{"slow down", 400, `{"error":"slow_down"}`, "slow_down", "", true},
		{"temporarily", 400, `{"error":"temporarily_unavailable"}`, "temporarily_unavailable", "", true},
		{"429", 429, `{"error":"rate_limited"}`, "rate_limited", "", true},
		{"500", 500, `oops`, "", "500 Internal Server Error", true},
		{"500 with invalid_grant", 500, `{"error":"invalid_grant","error_description":"db"}`, "", "invalid_grant: db", true},
		{"503 with its code", 503, `{"error":"temporarily_unavailable"}`, "temporarily_unavailable", "", true},
		{"404 page", 404, `<html>`, "", "404 Not Found", true},
		{"400 without error", 400, `{"message":"Bad Request"}`, "", "neither", true},
		{"escapes", 400, `{"error":"invalid_grant","error_description":"a\u001b[31mb\r\nc\u202e"}`, "invalid_grant", "a?[31mb c?", false},
		{"duplicate", 400, `{"error":"invalid_grant","error":"slow_down"}`, "", "twice", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := connTo(serve(t, reply(test.status, test.body)).URL).Refresh(t.Context(), hidden("old-token"), nil, nil)
			f := fault(t, err)
			wantError(t, err, test.text)
			if f.Code != test.code || f.Temporary() != test.temporary || f.Status != test.status || f.Endpoint != "token" {
				t.Errorf("%+v, temporary = %v", f, f.Temporary())
			}
		})
	}
}

func TestTemporary(t *testing.T) {
	for _, test := range []struct {
		err  Error
		want bool
	}{
		{Error{Status: 400, Code: "invalid_grant"}, false},
		{Error{Status: 503, Code: "invalid_grant"}, true}, // whoever built it: the status wins
		{Error{Status: 429, Code: "anything"}, true},
		{Error{Status: 408, Code: "anything"}, true},
		{Error{Code: "access_denied"}, false}, // authorization response
		{Error{Code: "server_error"}, true},
		{Error{Status: 200}, true},
		{Error{Err: errors.New("dial")}, true},
		{Error{Status: 200, Err: fmt.Errorf("%w: DPoP", errTokenType)}, false},
	} {
		if got := test.err.Temporary(); got != test.want {
			t.Errorf("%+v: temporary = %v", test.err, got)
		}
	}
}

func TestMicrosoftErrorKeepsWhatAdministratorsNeed(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error":"invalid_grant","error_description":"AADSTS50173: The provided grant has expired.\r\nTrace ID: 1\r\nCorrelation ID: 2","error_codes":[50173],"timestamp":"2026-11-10 12:00:00Z","trace_id":"1","correlation_id":"7f1f0b86-ae9e-4bbc-a5f9-d35cbe2f8d00","suberror":"bad_token","error_uri":"https://login.microsoftonline.com/error?code=50173"}`)
	})
	_, err := connTo(server.URL).Refresh(t.Context(), hidden("old-token"), nil, nil)
	f := fault(t, err)
	want := Error{
		Endpoint: "token", Status: 400, Code: "invalid_grant", Subcode: "bad_token", CorrelationID: "7f1f0b86-ae9e-4bbc-a5f9-d35cbe2f8d00",
		Description: "AADSTS50173: The provided grant has expired. Trace ID: 1 Correlation ID: 2",
		URI:         "https://login.microsoftonline.com/error?code=50173", RetryAfter: 2 * time.Minute,
	}
	if !slices.Equal(f.Numbers, []int{50173}) {
		t.Errorf("numbers %v", f.Numbers)
	}
	f.Numbers = nil
	if fmt.Sprintf("%+v", *f) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", *f, want)
	}
}

// TestErrorsRepeatNoSecret has a server that repeats all it was sent in every field.
func TestErrorsRepeatNoSecret(t *testing.T) {
	long := strings.Repeat("Zm9vYmFy", 12)
	echo := func(w http.ResponseWriter, r *http.Request) {
		seen := r.Header.Get("Authorization") + " " + form(t, r).Encode()
		raw, _ := url.QueryUnescape(seen)
		text := seen + " " + raw + " other " + long
		w.WriteHeader(400)
		_ = json.NewEncoder(w).Encode(map[string]string{
			"error": "bad " + text, "error_description": text, "error_uri": "https://x/?" + seen, "correlation_id": text, "suberror": text,
		})
	}
	// A server that speaks no HTTP: net/http repeats the beginning of its answer.
	rude := func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(conn, "%s\r\n\r\n", form(t, r).Encode()) // one word: all of it is repeated
		_ = conn.Close()
	}
	canaries := []string{"canary-code+/=", "canary-verifier", "canary-refresh%", "canary-secret:+", "canary-device", "canary-revoke"}
	for name, handler := range map[string]http.HandlerFunc{"echo": echo, "rude": rude} {
		conn := connTo(serve(t, handler).URL)
		for _, style := range []AuthStyle{AuthPost, AuthBasic} {
			conn.Client = Client{ID: "client", Secret: hidden(canaries[3]), Auth: style}
			_, e1 := conn.ExchangeCode(t.Context(), hidden(canaries[0]), "http://127.0.0.1/", hidden(canaries[1]), nil)
			_, e2 := conn.Refresh(t.Context(), hidden(canaries[2]), nil, nil)
			_, e3 := conn.PollDevice(t.Context(), DeviceAuth{DeviceCode: hidden(canaries[4])}, nowait)
			e4 := conn.Revoke(t.Context(), hidden(canaries[5]), "refresh_token")
			for i, err := range []error{e1, e2, e3, e4} {
				f := fault(t, err)
				all := fmt.Sprintf("%v %+v %#v", err, *f, f.Unwrap())
				for cause := errors.Unwrap(err); cause != nil; cause = errors.Unwrap(cause) {
					all += cause.Error()
				}
				for _, leak := range append(canaries, "canary", base64.StdEncoding.EncodeToString([]byte("client:"+url.QueryEscape(canaries[3]))), long) {
					if strings.Contains(all, leak) {
						t.Errorf("%s %s, call %d leaks %q: %s", name, style, i, leak, all)
					}
				}
			}
		}
	}
}

func nowait(context.Context, time.Duration) error { return nil }

func TestClientAuthentication(t *testing.T) {
	type seen struct{ header, id, secret string }
	got := make(chan seen, 1)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		f := form(t, r)
		if r.Method != http.MethodPost || r.Header.Get("Accept") != "application/json" ||
			r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("%s with %v", r.Method, r.Header)
		}
		got <- seen{r.Header.Get("Authorization"), f.Get("client_id"), f.Get("client_secret")}
		fmt.Fprint(w, `{"access_token":"at"}`)
	})
	// RFC 6749 section 2.3.1: both halves are form-encoded, so a colon cannot end the id.
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("cl%3Aient:s+e%2Bc%25"))
	for _, test := range []struct {
		client Client
		want   seen
		fault  string
	}{
		{Client{ID: "cl:ient", Auth: AuthNone}, seen{"", "cl:ient", ""}, ""},
		{Client{ID: "cl:ient", Secret: hidden("ignored"), Auth: AuthNone}, seen{"", "cl:ient", ""}, ""},
		{Client{ID: "cl:ient", Secret: hidden("s e+c%"), Auth: AuthPost}, seen{"", "cl:ient", "s e+c%"}, ""},
		{Client{ID: "cl:ient", Secret: hidden("s e+c%"), Auth: AuthBasic}, seen{basic, "", ""}, ""},
		{Client{ID: "client", Auth: AuthBasic}, seen{}, "needs a client secret"},
		{Client{ID: "client", Auth: AuthPost}, seen{}, "needs a client secret"},
		{Client{ID: "client"}, seen{}, "not known"},
		{Client{ID: "client", Auth: "client_secret_jwt"}, seen{}, "not known"},
		{Client{Auth: AuthNone}, seen{}, "no client id"},
	} {
		conn := connTo(server.URL)
		conn.Client = test.client
		_, err := conn.Refresh(t.Context(), hidden("rt"), nil, nil)
		if test.fault != "" {
			wantError(t, err, test.fault)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.client.Auth, err)
			continue
		}
		if s := <-got; s != test.want {
			t.Errorf("%s: sent %+v, want %+v", test.client.Auth, s, test.want)
		}
	}
}

func TestTokenRequests(t *testing.T) {
	got := make(chan url.Values, 1)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got <- form(t, r)
		fmt.Fprint(w, `{"access_token":"at"}`)
	})
	conn := connTo(server.URL)
	check := func(want url.Values, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if sent := <-got; sent.Encode() != want.Encode() {
			t.Errorf("sent %v\nwant %v", sent, want)
		}
	}
	_, err := conn.ExchangeCode(t.Context(), hidden("c"), "http://127.0.0.1:1/", hidden("v"), url.Values{"resource": {"https://a"}})
	check(url.Values{"grant_type": {"authorization_code"}, "code": {"c"}, "redirect_uri": {"http://127.0.0.1:1/"},
		"code_verifier": {"v"}, "client_id": {"client"}, "resource": {"https://a"}}, err)
	_, err = conn.Refresh(t.Context(), hidden("r"), []string{"a", "b"}, url.Values{"resource": {"x", "y"}})
	check(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}, "scope": {"a b"}, "client_id": {"client"}, "resource": {"x", "y"}}, err)
	_, err = conn.Refresh(t.Context(), hidden("r"), nil, nil)
	check(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}, "client_id": {"client"}}, err)
	_, err = conn.Grant(t.Context(), "client_credentials", []string{"s"}, url.Values{"client_assertion": {"x"}})
	check(url.Values{"grant_type": {"client_credentials"}, "scope": {"s"}, "client_id": {"client"}, "client_assertion": {"x"}}, err)
	for _, name := range []string{"grant_type", "refresh_token", "client_id", "client_secret"} {
		_, err = conn.Refresh(t.Context(), hidden("r"), nil, url.Values{name: {"evil"}})
		wantError(t, err, name)
	}
}

func TestTokenTransportFaults(t *testing.T) {
	closed := serve(t, reply(200, ""))
	closed.Close()
	_, err := connTo(closed.URL).Refresh(t.Context(), hidden("rt"), nil, nil)
	if f := fault(t, err); !f.Temporary() || f.Status != 0 {
		t.Errorf("nobody listens: %+v", f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = connTo(closed.URL).Refresh(ctx, hidden("rt"), nil, nil)
	if !errors.Is(err, context.Canceled) || !fault(t, err).Temporary() {
		t.Errorf("cancelled: %v", err)
	}
	hangup := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err = connTo(hangup.URL).Refresh(t.Context(), hidden("rt"), nil, nil)
	if !fault(t, err).Temporary() {
		t.Errorf("hung up: %v", err)
	}
	conn := connTo("http://idp.example")
	_, err = conn.Refresh(t.Context(), hidden("rt"), nil, nil)
	wantError(t, err, "loopback")
	conn.Endpoints.Token = ""
	if _, err = conn.Refresh(t.Context(), hidden("rt"), nil, nil); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("no token endpoint: %v", err)
	}
}

// TestTokenLeniency: however a server writes a good answer, it is understood alike.
func TestTokenLeniency(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		access := rapid.StringMatching(`[!-~]{1,200}`).Draw(t, "access")
		seconds := rapid.IntRange(0, 1<<26).Draw(t, "seconds")
		members := map[string]any{"access_token": access}
		if kind := rapid.SampledFrom([]string{"", "Bearer", "bearer", "BEARER", "bEaReR"}).Draw(t, "type"); kind != "" {
			members["token_type"] = kind
		}
		forms := []any{seconds, fmt.Sprint(seconds), float64(seconds), fmt.Sprintf(" %d.00 ", seconds)}
		said := rapid.Bool().Draw(t, "said")
		if said {
			members["expires_in"] = rapid.SampledFrom(forms).Draw(t, "expires_in")
		}
		scopes := rapid.SliceOf(rapid.StringMatching(`[!#-\[\]-~]{1,20}`)).Draw(t, "scopes")
		if len(scopes) > 0 {
			members["scope"] = rapid.SampledFrom([]any{strings.Join(scopes, " "), scopes}).Draw(t, "scope")
		}
		for name, value := range rapid.MapOf(rapid.StringMatching(`x_[a-z]{1,5}`), rapid.String()).Draw(t, "more") {
			members[name] = value
		}
		body, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (answer{endpoint: "token", status: 200, body: body}).token(noon())
		if err != nil {
			t.Fatal(err)
		}
		if got.Access.Reveal() != access || !slices.Equal(got.Scopes, scopes) {
			t.Fatalf("access %q, scopes %q", got.Access.Reveal(), got.Scopes)
		}
		if got.Expiry.IsZero() == said || said && !got.Expiry.Equal(noon().Add(time.Duration(seconds)*time.Second)) {
			t.Fatalf("expiry %v of %d s", got.Expiry, seconds)
		}
	})
}

package provider

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// TestEveryCodeIsExplained holds the table of codes that the tool promises to know.
func TestEveryCodeIsExplained(t *testing.T) {
	for _, code := range strings.Fields(`AADSTS50011 50011 65001 90094 700016 7000112 7000218 700025 7000215 7000222 500201 50020 50194 9002331
		50059 70000 70008 700082 50173 70043 50076 50079 50097 53000 53003 28000 70011 70003 5.7.139 5.7.3 5.5.127 AccessTokenExpired
		invalid_grant access_denied admin_policy_enforced org_internal disallowed_useragent invalid_scope redirect_uri_mismatch invalid_rapt
		invalid_client invalid_request unauthorized_client unsupported_grant_type server_error temporarily_unavailable
		authorization_pending slow_down expired_token invalid_redirect_uri invalid_client_metadata invalid_target invalid_token
		insufficient_scope AUTHENTICATIONFAILED AUTHORIZATIONFAILED`) {
		entries := Explain(code)
		if len(entries) == 0 {
			t.Errorf("%s is not explained", code)
		}
		for _, e := range entries {
			if !strings.HasSuffix(strings.ToLower(e.Code), strings.ToLower(code)) {
				t.Errorf("%s is explained as %s", code, e.Code)
			}
		}
	}
}

func TestPagesAreWhole(t *testing.T) {
	seen := map[string]bool{}
	families := map[string]bool{"": true}
	for _, p := range All() {
		families[p.Family()] = true
	}
	for _, page := range book() {
		e := page.entry
		for _, text := range []string{e.Meaning, e.Cause, e.Remedy} {
			if text == "" || strings.HasSuffix(text, ".") || strings.Contains(text, "\n") || len(text) > 400 {
				t.Errorf("%v: text %q", page.codes, text)
			}
		}
		switch e.Kind {
		case SignIn, BadClient, Setting, Administrator, Refused, Retry, Fault:
		default:
			t.Errorf("%v: kind %q", page.codes, e.Kind)
		}
		if !families[e.Provider] || len(page.codes) == 0 {
			t.Errorf("%v: provider %q", page.codes, e.Provider)
		}
		for _, code := range page.codes {
			key := e.Provider + " " + strings.ToLower(code)
			if seen[key] {
				t.Errorf("%s is explained twice", key)
			}
			seen[key] = true
			if found := Explain(code); len(found) == 0 {
				t.Errorf("%s does not find itself", code)
			}
		}
	}
}

func TestExplainPasted(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.", "5.7.139"},
		{"535 5.7.3 Authentication unsuccessful [AM0PR.example]", "5.7.3"},
		{"a BAD User is authenticated but not connected.", "authenticated but not connected"},
		{"* BYE Session invalidated - AccessTokenExpired", "AccessTokenExpired"},
		{"555-5.5.2 Syntax error, goodbye.", "555-5.5.2"},
		{"501 5.5.127 token too short", "5.5.127"},
		{"AADSTS50011: The redirect URI 'http://x' specified in the request does not match", "AADSTS50011"},
		{"aadsts700082: the refresh token has expired", "AADSTS700082"},
		{`{"error":"invalid_grant","error_description":"AADSTS70043: x","error_codes":[70043]}`, "invalid_grant invalid_grant AADSTS70043"},
		{`{"error_codes":[7000218]}`, "AADSTS7000218"},
		{"https://login.microsoftonline.com/error?code=53003", "AADSTS53003"},
		{" 50059\n", "AADSTS50059"},
		{"a NO [AUTHENTICATIONFAILED] Authentication failed.", "AUTHENTICATIONFAILED"},
		{"-ERR [SYS/TEMP] Temporary authentication failure.", "Temporary authentication failure"},
		{"a NO [UNAVAILABLE] Temporary authentication failure.", "[UNAVAILABLE] Temporary authentication failure"},
		{"535-5.7.8 Username and Password not accepted.", "535-5.7.8 5.7.8"},
		{"smtp: 550 5.7.1 Relaying denied.", "5.7.1"},
		{"Error 400: redirect_uri_mismatch", "redirect_uri_mismatch"},
		{"oauth2: \"expired_token\"", "expired_token"},
		// What must not be found:
		{"connect to 127.0.0.1:50011: refused", ""},
		{"my_invalid_grant_handler", ""},
		{"AADSTS5001", ""},
		{"AADSTS500110", ""},
		{"version 15.7.139", ""},
		{"5.7.1391", ""},
		{"", ""},
	} {
		var got []string
		for _, e := range Explain(test.text) {
			got = append(got, e.Code)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}

func TestDiagnose(t *testing.T) {
	grant := func(description string, numbers ...int) *oauth.Error {
		return &oauth.Error{Endpoint: "token", Status: 400, Code: "invalid_grant", Description: description, Numbers: numbers}
	}
	hours := func(count int) time.Duration { return time.Duration(count) * time.Hour }
	for _, test := range []struct {
		name, provider string
		err            *oauth.Error
		age, idle      time.Duration
		code, text     string
		kind           Kind
	}{
		{"Testing, noticed at once", "google", grant("Token has been expired or revoked."), 7 * day, hours(1), "invalid_grant", "publish the app", SignIn},
		{"Testing, noticed late", "google", grant("Token has been expired or revoked."), 9 * day, 3 * day, "invalid_grant", "in Testing end 7 days", SignIn},
		{"too young for Testing", "google", grant(""), 6 * day, hours(1), "invalid_grant", "change of password", SignIn},
		{"too old for Testing", "google", grant(""), 20 * day, hours(1), "invalid_grant", "change of password", SignIn},
		{"half a year unused", "google", grant(""), 400 * day, 190 * day, "invalid_grant", "6 months without use; the last sign-in was 400 days ago, the last use 190 days", SignIn},
		{"session control", "google", &oauth.Error{Status: 400, Code: "invalid_grant", Subcode: "invalid_rapt"}, 7 * day, 0, "invalid_rapt", "session control", SignIn},
		{"Microsoft says why", "microsoft", grant("AADSTS700082: x", 700082), 100 * day, 95 * day, "AADSTS700082", "90 days", SignIn},
		{"Microsoft says why in text only", "microsoft", grant("AADSTS50173: x"), day, 0, "AADSTS50173", "password", SignIn},
		{"Microsoft says nothing", "microsoft-personal", grant(""), 100 * day, 95 * day, "invalid_grant", "90 days without use", SignIn},
		{"policy", "microsoft-gcchigh", grant("x", 53003), day, 0, "AADSTS53003", "--flow browser", Administrator},
		{"Google's text at Microsoft", "microsoft", &oauth.Error{Status: 400, Code: "access_denied"}, 0, 0, "access_denied", "policy refuses", Refused},
		{"unknown provider", "fastmail", grant(""), 9 * day, 0, "invalid_grant", "sign in again", SignIn},
		{"unknown code", "google", &oauth.Error{Status: 400, Code: "brand_new"}, 0, 0, "brand_new", "does not have", Fault},
		{"500", "google", &oauth.Error{Status: 500}, 7 * day, 0, "HTTP 500", "unharmed", Retry},
		{"no answer", "google", &oauth.Error{Err: errors.New("dial")}, 7 * day, 0, "no answer", "unharmed", Retry},
	} {
		p, _ := ByName(test.provider)
		e := Diagnose(p, test.err, test.age, test.idle)
		if all := e.Meaning + "|" + e.Cause + "|" + e.Remedy; e.Code != test.code || !strings.Contains(all, test.text) || e.Kind != test.kind {
			t.Errorf("%s: %s %s %s", test.name, e.Code, e.Kind, all)
		}
	}
	if e := Diagnose(Provider{}, nil, 0, 0); e != (Entry{}) {
		t.Errorf("no error: %+v", e)
	}
}

func TestForecast(t *testing.T) {
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	at := func(days int) time.Time { return start.Add(time.Duration(days) * day) }
	for _, test := range []struct {
		provider  string
		last, now time.Time
		when      time.Time
		rule      string
	}{
		{"google", at(4), at(5), at(7), "in Testing end 7 days after sign-in, if the consent screen"},
		{"google", at(9), at(10), at(189), "6 months without use"},
		{"google", time.Time{}, at(100), at(180), "6 months without use"},
		{"microsoft", at(10), at(10), at(100), "90 days without use"},
		{"microsoft", time.Time{}, at(10), at(90), "90 days without use"},
		{"yandex", at(30), at(31), at(395), "each refresh returns a new one"},
		{"fastmail", at(1), at(1), time.Time{}, ""},
	} {
		p, _ := ByName(test.provider)
		when, rule := Forecast(p, start, test.last, test.now)
		if !when.Equal(test.when) || !strings.Contains(rule, test.rule) || (test.rule == "") != (rule == "") {
			t.Errorf("%s: %v %q", test.provider, when, rule)
		}
	}
}

func FuzzExplain(f *testing.F) {
	for _, text := range []string{"AADSTS50011", "50011", "535 5.7.139 x", "invalid_grant", `{"error_codes":[70043]}`, "5.7.", ".5.7.3", strings.Repeat("5.7.3 ", 10)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries := Explain(text)
		if len(entries) > 300 {
			t.Fatalf("%d entries", len(entries))
		}
		lower := strings.ToLower(text)
		for _, e := range entries {
			code := strings.TrimPrefix(strings.ToLower(e.Code), "aadsts")
			if !strings.Contains(lower, code) || e.Remedy == "" {
				t.Fatalf("%q is explained by %s", text, e.Code)
			}
		}
	})
}

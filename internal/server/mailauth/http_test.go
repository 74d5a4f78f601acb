package mailauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
)

func endpoints(d Door) *http.ServeMux {
	mux := http.NewServeMux()
	NewHTTP(HTTPOptions{
		Door: d, Audience: "mail", Log: quietLog(),
		Servers: []identity.ResourceServer{{ID: "dovecot", Secret: identity.DigestOf("dove-secret")}},
	}).Register(mux, "/dovecot")
	return mux
}

func TestIntrospect(t *testing.T) {
	const yes = `{"active":true,"username":"ann@example.org","sub":"p1","scope":"mail smtp","aud":"mail","token_type":"Bearer"}`
	const no = `{"active":false}`
	basic := func(r *http.Request) { r.SetBasicAuth("dovecot", "dove-secret") }
	for _, c := range []struct {
		name   string
		form   string
		alter  func(*http.Request)
		door   door
		status int
		body   string
	}{
		{name: "good, 2.3 in the body", form: "token=llat_right&client_id=dovecot&client_secret=dove-secret", status: 200, body: yes},
		{name: "good, Debian's Basic and an empty pair", form: "token=llat_right&client_id=&client_secret=", alter: basic, status: 200, body: yes},
		{name: "good, 2.4", form: "token=llat_right", status: 200, body: yes, alter: func(r *http.Request) {
			basic(r)
			r.Header.Del("X-Dovecot-Auth-Service")
			r.Header.Set("X-Dovecot-Auth-Protocol", "imap")
		}},
		{name: "wrong", form: "token=llat_wrong", alter: basic, status: 200, body: no},
		{name: "empty", form: "token=", alter: basic, status: 200, body: no},
		{name: "absent", form: "", alter: basic, status: 200, body: no},
		{name: "not a token", form: "token=a%0Ab", alter: basic, status: 200, body: no},
		{name: "store away", form: "token=llat_right", alter: basic, door: door{err: errors.New("away")}, status: 503, body: `{"error":"temporarily_unavailable"}`},
		{name: "no header", form: "token=llat_right", status: 503, body: `{"error":"temporarily_unavailable"}`,
			alter: func(r *http.Request) { basic(r); r.Header.Del("X-Dovecot-Auth-Service") }},
		{name: "nobody asks", form: "token=llat_right", status: 401, body: `{"error":"invalid_client"}`},
		{name: "wrong secret", form: "token=llat_right&client_id=dovecot&client_secret=x", status: 401, body: `{"error":"invalid_client"}`},
		{name: "two methods", form: "token=llat_right&client_id=dovecot&client_secret=dove-secret", alter: basic, status: 401, body: `{"error":"invalid_client"}`},
		{name: "unknown server", form: "token=llat_right", status: 401, body: `{"error":"invalid_client"}`,
			alter: func(r *http.Request) { r.SetBasicAuth("evil", "dove-secret") }},
		{name: "a token twice", form: "token=llat_right&token=llat_wrong", alter: basic, status: 400, body: `{"error":"invalid_request"}`},
		{name: "too large", form: "token=" + strings.Repeat("a", maxForm), alter: basic, status: 400, body: `{"error":"invalid_request"}`},
		{name: "not a form", form: `{"token":"llat_right"}`, status: 400, body: `{"error":"invalid_request"}`,
			alter: func(r *http.Request) { basic(r); r.Header.Set("Content-Type", "application/json") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/dovecot/introspect", strings.NewReader(c.form))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("X-Dovecot-Auth-Service", "imap")
			r.Header.Set("X-Dovecot-Auth-Remote", "192.0.2.9:4711")
			if c.alter != nil {
				c.alter(r)
			}
			w := httptest.NewRecorder()
			endpoints(&c.door).ServeHTTP(w, r)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, c.status, c.body)
			}
			if w.Code != 200 && strings.Contains(w.Body.String(), "ann") {
				t.Error("a user name beside a status: Dovecot does not look at the status")
			}
		})
	}
}

func TestGrant(t *testing.T) {
	form := func(user, password string) string {
		return url.Values{"grant_type": {"password"}, "username": {user}, "password": {password}}.Encode()
	}
	for _, c := range []struct {
		name, form string
		door       door
		status     int
		body       string
	}{
		{"good", form("ann@example.org", "right-password"), door{}, 200,
			`{"access_token":"none","token_type":"Bearer","active":true,"username":"ann@example.org","mailbox":"ann@example.org","scope":"mail smtp"}`},
		{"by an alias", form("A.Lias@example.org", "right-password"), door{}, 200,
			`{"access_token":"none","token_type":"Bearer","active":true,"username":"a.lias@example.org","mailbox":"ann@example.org","scope":"mail smtp"}`},
		{"wrong", form("ann@example.org", "wrong"), door{}, 200, `{"access_token":"none","token_type":"Bearer","active":false,"username":"!ann@example.org"}`},
		{"the name of a no", form("!ann@example.org", "wrong"), door{}, 200, `{"access_token":"none","token_type":"Bearer","active":false,"username":"!!ann@example.org"}`},
		{"empty password", form("ann@example.org", ""), door{}, 200, `{"access_token":"none","token_type":"Bearer","active":false,"username":"!ann@example.org"}`},
		{"control character", form("ann\n@example.org", "right-password"), door{}, 200, `{"access_token":"none","token_type":"Bearer","active":false,"username":"!ann\n@example.org"}`},
		{"away", form("ann@example.org", "right-password"), door{err: errors.New("away")}, 503, `{"error":"temporarily_unavailable"}`},
		{"another grant", "grant_type=client_credentials", door{}, 400, `{"error":"unsupported_grant_type"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/dovecot/password", strings.NewReader(c.form))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
			r.Header.Set("X-Dovecot-Auth-Service", "imap")
			r.SetBasicAuth("dovecot", "dove-secret")
			w := httptest.NewRecorder()
			endpoints(&c.door).ServeHTTP(w, r)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, c.status, c.body)
			}
		})
	}
}

// Limits that Dovecot cannot keep are no yes at SMTP; with those that a sender map keeps the
// name goes along.
func TestPasswordLimits(t *testing.T) {
	for _, c := range []struct {
		service    string
		credential identity.Credential
		want       string // the mailbox; empty: no
	}{
		{"smtp", identity.Credential{Name: "scanner"}, "ann@example.org"},
		{"smtp", identity.Credential{Name: "scanner", PerHour: 1}, ""},
		{"submission", identity.Credential{Name: "scanner", Recipients: []string{"ann@example.org"}}, ""},
		{"smtp", identity.Credential{Name: "scanner", Senders: []string{"ann@example.org"}}, "ann+scanner@example.org"},
		{"imap", identity.Credential{Name: "scanner", PerHour: 1, Senders: []string{"ann@example.org"}}, "ann@example.org"},
	} {
		r := httptest.NewRequest("POST", "/dovecot/password", strings.NewReader("grant_type=password&username=ann%40example.org&password=right-password"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Dovecot-Auth-Service", c.service)
		r.SetBasicAuth("dovecot", "dove-secret")
		w := httptest.NewRecorder()
		endpoints(&door{credential: &c.credential}).ServeHTTP(w, r)
		var answer granted
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK || answer.Active != (c.want != "") || answer.Mailbox != c.want {
			t.Errorf("%s %+v: %d %s", c.service, c.credential, w.Code, w.Body)
		}
	}
}

func TestRemote(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.9:143": "192.0.2.9", "192.0.2.9": "192.0.2.9", "[2001:db8::1]:143": "2001:db8::1", "2001:db8::1": "2001:db8::1",
		"[2001:db8::1]": "2001:db8::1", "::ffff:192.0.2.9": "192.0.2.9", "": "invalid IP", "x:1": "invalid IP", ":": "invalid IP",
	} {
		if got := remote(text).String(); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// A scale is a fake Throttle.
type scale struct {
	advice throttle.Decision

	mu       sync.Mutex // sign-ins of several connections; tests read once those have ended
	asked    []throttle.Attempt
	told     []bool
	released int
}

func (s *scale) Ask(_ context.Context, a throttle.Attempt) throttle.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, a)
	return s.advice
}

func (s *scale) Tell(_ context.Context, _ throttle.Attempt, success bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, success)
}

func (s *scale) Release(throttle.Attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released++
}

func TestPolicy(t *testing.T) {
	const attempt = `{"device_id":"","login":"ann@example.org","protocol":"imap","pwhash":"0a1b","remote":"192.0.2.9","tls":true`
	for _, c := range []struct {
		name, command, body string
		advice              throttle.Decision
		counted             bool
		status              int
		answer              string
		told                string
	}{
		{name: "go on", command: "allow", body: attempt + "}", status: 200, answer: `{"status":0,"msg":"ok"}`},
		{name: "refuse", command: "allow", body: attempt + "}", advice: throttle.Decision{Refuse: true}, status: 200, answer: `{"status":-1,"msg":"too many attempts"}`},
		{name: "wait", command: "allow", body: attempt + "}", advice: throttle.Decision{Wait: 1_200_000_000}, status: 200, answer: `{"status":2,"msg":"slow down"}`},
		{name: "wait too long", command: "allow", body: attempt + "}", advice: throttle.Decision{Wait: 1 << 60}, status: 200, answer: `{"status":15,"msg":"slow down"}`},
		{name: "failed", command: "report", body: attempt + `,"success":false,"policy_reject":false}`, status: 200, answer: `{"status":0,"msg":"noted"}`, told: "[false]"},
		{name: "succeeded", command: "report", body: attempt + `,"success":true,"policy_reject":false}`, status: 200, answer: `{"status":0,"msg":"noted"}`, told: "[true]"},
		{name: "refused by the policy", command: "report", body: attempt + `,"success":false,"policy_reject":true}`, status: 200, answer: `{"status":0,"msg":"noted"}`},
		{name: "an outage", command: "report", body: attempt + `,"success":false,"fail_type":"internal"}`, status: 200, answer: `{"status":0,"msg":"noted"}`},
		{name: "the Door counted", command: "report", body: attempt + `,"success":false}`, counted: true, status: 200, answer: `{"status":0,"msg":"noted"}`},
		{name: "right elsewhere", command: "report", body: attempt + `,"success":true}`, counted: true, status: 200, answer: `{"status":0,"msg":"noted"}`, told: "[true]"},
		{name: "no command", command: "", body: attempt + "}", status: 400, answer: `{"error":"invalid_request"}`},
		{name: "garbage", command: "allow", body: attempt, status: 400, answer: `{"error":"invalid_request"}`},
		{name: "wrong type", command: "allow", body: `{"login":[]}`, status: 400, answer: `{"error":"invalid_request"}`},
		{name: "endless", command: "allow", body: `{"login":"` + strings.Repeat("a", maxForm), status: 400, answer: `{"error":"invalid_request"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &scale{advice: c.advice}
			p := NewPolicy(PolicyOptions{
				Throttle: s, Log: quietLog(), Counted: func(identity.Protocol) bool { return c.counted },
				Servers: []identity.ResourceServer{{ID: "dovecot", Secret: identity.DigestOf("dove-secret")}},
			})
			for _, known := range []bool{false, true} {
				r := httptest.NewRequest("POST", "/policy?command="+c.command, strings.NewReader(c.body))
				if known {
					r.SetBasicAuth("dovecot", "dove-secret")
				}
				w := httptest.NewRecorder()
				p.ServeHTTP(w, r)
				if !known && w.Code != 401 || known && (w.Code != c.status || w.Body.String() != c.answer) {
					t.Errorf("known=%t: %d %s\nwant %d %s", known, w.Code, w.Body, c.status, c.answer)
				}
			}
			told := ""
			if s.told != nil {
				text, _ := json.Marshal(s.told)
				told = string(text)
			}
			if told != c.told {
				t.Errorf("told %q, want %q", told, c.told)
			}
			for _, a := range s.asked {
				if a.Account != "ann@example.org" || a.Remote.String() != "192.0.2.9" || a.Fingerprint != "0a1b" || a.Protocol != identity.IMAP {
					t.Errorf("asked about %+v", a)
				}
			}
		})
	}
}

func TestGuard(t *testing.T) {
	ask := func(g Door, password string) error {
		p := credential.Presented{User: "Ann@example.org"}
		if err := p.Secret.UnmarshalText([]byte(password)); err != nil {
			t.Fatal(err)
		}
		_, err := g.Password(t.Context(), p)
		return err
	}
	s := &scale{}
	g := Guard(&door{}, s)
	if err := ask(g, "right-password"); err != nil {
		t.Error(err)
	}
	if err := ask(g, "wrong"); err == nil {
		t.Error("a wrong password passed")
	}
	if err := ask(g, "wrong"); err == nil {
		t.Error("a wrong password passed")
	}
	_ = ask(Guard(&door{err: errors.New("away")}, s), "right-password")
	_ = ask(Guard(&door{err: &credential.Refused{Reason: "not for this protocol", Proven: true}}, s), "right-password")
	if got, _ := json.Marshal(s.told); string(got) != "[true,false,false]" {
		t.Errorf("told %s", got)
	}
	if s.released != 2 {
		t.Errorf("%d of the 2 attempts that were no guess are given back", s.released)
	}
	if a := s.asked; a[1].Fingerprint != a[2].Fingerprint || a[0].Fingerprint == a[1].Fingerprint || a[0].Account != "ann@example.org" {
		t.Errorf("asked %+v", a)
	}
	s.advice = throttle.Decision{Refuse: true}
	d := &door{asked: make(chan credential.Presented, 1)}
	err := ask(Guard(d, s), "right-password")
	if _, no := errors.AsType[*credential.Refused](err); no || !errors.Is(err, ErrTooMany) || len(d.asked) > 0 {
		t.Errorf("refused by the throttle: %v", err)
	}
}

// An active answer tells who issued the token, and its times.
func TestIntrospectTimes(t *testing.T) {
	issued := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	for _, c := range []struct{ outside, want string }{{"", "https://id.example.org"}, {"https://op.test", "https://op.test"}} {
		h := NewHTTP(HTTPOptions{Issuer: "https://id.example.org"})
		a := h.active(credential.Verdict{Grant: &identity.Grant{Client: "mutt"}, Issuer: c.outside, Issued: issued, Expires: issued.Add(time.Hour)})
		if a.Issuer != c.want || a.ClientID != "mutt" || a.Issued != issued.Unix() || a.Expires != issued.Unix()+3600 {
			t.Errorf("%q: %+v", c.outside, a)
		}
	}
}

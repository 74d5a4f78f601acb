package delivery

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab/fakeapi"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A mutator changes requests on their way out, as a client with a fault would.
type mutator struct {
	base   http.RoundTripper
	change func(r *http.Request, body string) string
}

func (m *mutator) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.change == nil {
		return m.base.RoundTrip(r)
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	out := r.Clone(r.Context())
	body := m.change(out, string(text))
	out.Body, out.ContentLength, out.GetBody = io.NopCloser(strings.NewReader(body)), int64(len(body)), nil
	return m.base.RoundTrip(out)
}

// apiCarrier leads a Carrier to a fake and lets its requests be spoilt.
func apiCarrier(t *testing.T, service http.Handler, r Route) (*Carrier, *mutator) {
	t.Helper()
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	m := &mutator{base: http.DefaultTransport.(*http.Transport).Clone()}
	r.API = server.URL
	if r.Tokens == nil {
		r.Tokens = &tokens{list: []string{testToken, testToken}}
	}
	c := carrier(t, r, func(o *Options) {
		o.HTTP = &http.Client{Transport: m, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	})
	return c, m
}

func gmailFake() *fakeapi.Service {
	s := fakeapi.NewGmail()
	s.Grant(testToken, fakeapi.Grant{Address: "you@try.test", Scopes: fakeapi.GmailScopes()[:1]})
	s.Grant("reads-only", fakeapi.Grant{Address: "you@try.test", Scopes: []string{"https://www.googleapis.com/auth/gmail.readonly"}})
	return s
}

func graphFake() *fakeapi.Service {
	s := fakeapi.NewGraph()
	s.Grant(testToken, fakeapi.Grant{Address: "you@try.test", Scopes: []string{"Mail.Send"}, Audience: fakeapi.GraphAudience, SendAs: []string{"shared@try.test"}})
	s.Grant("reads-only", fakeapi.Grant{Address: "you@try.test", Scopes: []string{"Mail.Read"}, Audience: fakeapi.GraphAudience})
	s.Grant("for-outlook", fakeapi.Grant{Address: "you@try.test", Scopes: []string{"Mail.Send"}, Audience: "https://outlook.office.com"})
	return s
}

// TestAPIRecipients: exactly the envelope's recipients get the mail, whatever the header
// says, and none sees who else got it blind.
func TestAPIRecipients(t *testing.T) {
	for way, fake := range map[Way]func() *fakeapi.Service{Gmail: gmailFake, Graph: graphFake} {
		for _, test := range []struct {
			name, header string
			to           []string
			want         string // the header as it arrives; empty: as it was
		}{
			{"plain", "To: a@x.test\r\n", []string{"a@x.test"}, ""},
			{"blind", "To: a@x.test\r\n", []string{"a@x.test", "secret@x.test", "other@x.test"}, ""},
			{"blind only", "", []string{"secret@x.test"}, ""},
			{"Bcc left in", "To: a@x.test\r\nBcc: old@x.test,\r\n older@x.test\r\n", []string{"a@x.test"}, "To: a@x.test\r\n"},
			{"cron", "To: root\r\n", []string{"admin@x.test"}, "X-Original-To: root\r\n"},
			{"bounce by hand", "To: a@x.test, B <b@x.test>\r\nCc: c@x.test\r\nResent-To: d@x.test\r\n", []string{"d@x.test"},
				"X-Original-To: a@x.test, B <b@x.test>\r\nX-Original-Cc: c@x.test\r\nResent-To: d@x.test\r\n"},
			{"some of them", "To: a@x.test,\r\n \"B, C\" <b@x.test>\r\n", []string{"B@x.test", "z@x.test"},
				"To: \"B, C\" <b@x.test>\r\nX-Original-To: a@x.test,\r\n \"B, C\" <b@x.test>\r\n"},
			{"group", "To: undisclosed-recipients:;\r\n", []string{"a@x.test"}, "To: undisclosed-recipients:;\r\n"},
		} {
			t.Run(string(way)+" "+test.name, func(t *testing.T) {
				s := fake()
				c, _ := apiCarrier(t, s, Route{Way: way})
				rest := "From: you@try.test\r\nSubject: x\r\n"
				got := carry(t, c, envelope("you@try.test", test.to...), test.header+rest+"\r\n.body\r\n\r\nBcc: in the body\r\n")
				sent := s.Sent()
				if len(sent) != 1 || got[0].Verdict != queue.Delivered {
					t.Fatalf("%+v, %v", got, sent)
				}
				want := make([]string, 0, len(test.to))
				for _, to := range test.to {
					want = append(want, strings.ToLower(to))
				}
				slices.Sort(want)
				slices.Sort(sent[0].To)
				if !slices.Equal(sent[0].To, want) {
					t.Errorf("sent to %v, want %v", sent[0].To, want)
				}
				if test.want == "" {
					test.want = test.header
				}
				if text := test.want + rest + "\r\n.body\r\n\r\nBcc: in the body\r\n"; string(sent[0].Data) != text {
					t.Errorf("arrived %q, want %q", sent[0].Data, text)
				}
			})
		}
	}
}

// A spoilt request is one fault of a client, and the refusal that must catch it.
type spoilt struct {
	refusal string
	token   string
	text    string
	change  func(r *http.Request, body string) string
	want    queue.Verdict
}

const plainMail = "From: you@try.test\r\nTo: a@x.test\r\nSubject: \xc3\xbf\xc3\xbf?>>\r\n\r\nhello\r\n"

func rewritten(text string) func(*http.Request, string) string {
	return func(*http.Request, string) string { return text }
}

func unauthorized(value string) func(*http.Request, string) string {
	return func(r *http.Request, body string) string {
		r.Header.Set("Authorization", value)
		return body
	}
}

func retyped(kind string) func(*http.Request, string) string {
	return func(r *http.Request, body string) string {
		r.Header.Set("Content-Type", kind)
		return body
	}
}

func moved(method, path string) func(*http.Request, string) string {
	return func(r *http.Request, body string) string {
		if method != "" {
			r.Method = method
		}
		if path != "" {
			r.URL.Path, r.URL.RawPath = path, ""
		}
		return body
	}
}

func tryEach(t *testing.T, way Way, s *fakeapi.Service, faults []spoilt) {
	t.Helper()
	for _, fault := range faults {
		token := fault.token
		if token == "" {
			token = testToken
		}
		c, m := apiCarrier(t, s, Route{Way: way, Tokens: &tokens{list: []string{token, token}}})
		text := fault.text
		if text == "" {
			text = plainMail
		}
		m.change = fault.change
		before := s.Fired()[fault.refusal]
		got := carry(t, c, envelope("you@try.test", "a@x.test"), text)
		if s.Fired()[fault.refusal] == before {
			t.Errorf("%s: not refused: %+v", fault.refusal, got)
		}
		if got[0].Verdict != fault.want {
			t.Errorf("%s: %+v", fault.refusal, got)
		}
		if strings.Contains(got[0].Reply, testToken) {
			t.Errorf("%s: the reply shows the token", fault.refusal)
		}
	}
	for _, name := range s.Refusals {
		if s.Fired()[name] == 0 {
			t.Errorf("refusal %q never fired", name)
		}
	}
	if len(s.Sent()) > 0 {
		t.Errorf("something was sent: %v", s.Sent())
	}
}

func TestGmailRefusals(t *testing.T) {
	raw := func(text string) string {
		return fmt.Sprintf(`{"raw":%q}`, base64.URLEncoding.EncodeToString([]byte(text)))
	}
	large := plainMail + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 20_000)
	tryEach(t, Gmail, gmailFake(), []spoilt{
		{refusal: "path", change: moved("", "/gmail/v1/users/me/messages"), want: queue.Refused},
		{refusal: "method", change: moved("PUT", ""), want: queue.Refused},
		{refusal: "authorization-missing", change: unauthorized("Basic eDp5"), want: queue.SignIn},
		{refusal: "token-unknown", token: "expired-token", want: queue.SignIn},
		{refusal: "token-in-url", change: func(r *http.Request, body string) string {
			r.URL.RawQuery = "access_token=x"
			return body
		}, want: queue.SignIn},
		{refusal: "scope", token: "reads-only", want: queue.SignIn},
		{refusal: "content-type", change: retyped("message/rfc822"), want: queue.Refused},
		{refusal: "json", change: rewritten("{"), want: queue.Refused},
		{refusal: "json-field", change: rewritten(`{"raw":"eA","envelope":{}}`), want: queue.Refused},
		{refusal: "raw-missing", change: rewritten(`{}`), want: queue.Refused},
		// The commonest fault: base64 in its other alphabet.
		{refusal: "raw-base64", change: rewritten(`{"raw":"` + base64.StdEncoding.EncodeToString([]byte(plainMail)) + `"}`), want: queue.Refused},
		{refusal: "upload-type", text: large, change: func(r *http.Request, body string) string {
			r.URL.RawQuery = ""
			return body
		}, want: queue.Refused},
		{refusal: "upload-content-type", text: large, change: retyped("application/json"), want: queue.Refused},
		{refusal: "too-large", change: rewritten(raw(strings.Repeat("x", 8<<20))), want: queue.Refused},
		{refusal: "recipient-missing", change: rewritten(raw("From: you@try.test\r\n\r\nx\r\n")), want: queue.Refused},
		{refusal: "recipient-invalid", change: rewritten(raw("To: root\r\n\r\nx\r\n")), want: queue.Refused},
	})
}

func TestGraphRefusals(t *testing.T) {
	raw := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	tryEach(t, Graph, graphFake(), []spoilt{
		{refusal: "path", change: moved("", "/v1.0/me/sendmails"), want: queue.Refused},
		{refusal: "method", change: moved("PUT", ""), want: queue.Refused},
		{refusal: "authorization-missing", change: unauthorized("bearer"), want: queue.SignIn},
		{refusal: "token-unknown", token: "expired-token", want: queue.SignIn},
		{refusal: "audience", token: "for-outlook", want: queue.SignIn},
		{refusal: "scope", token: "reads-only", want: queue.SignIn},
		{refusal: "user-unknown", change: moved("", "/v1.0/users/nobody@try.test/sendMail"), want: queue.SignIn},
		{refusal: "content-type", change: retyped("application/json"), want: queue.Refused},
		{refusal: "base64", change: rewritten(base64.URLEncoding.EncodeToString([]byte("\xff\xff\xff"))), want: queue.Refused},
		{refusal: "mime", change: rewritten(raw("no header")), want: queue.Refused},
		{refusal: "too-large", change: rewritten(raw(strings.Repeat("x", 4<<20))), want: queue.Refused},
		{refusal: "recipient-missing", change: rewritten(raw("From: you@try.test\r\n\r\nx\r\n")), want: queue.Refused},
		{refusal: "recipient-invalid", change: rewritten(raw("From: you@try.test\r\nTo: root\r\n\r\nx\r\n")), want: queue.Refused},
		{refusal: "send-as", text: strings.Replace(plainMail, "you@", "boss@", 1), want: queue.Refused},
	})
}

// TestAPIAnswers: what each answer means for the queue.
func TestAPIAnswers(t *testing.T) {
	google := func(reason string) string { return `{"error":{"message":"m","errors":[{"reason":"` + reason + `"}]}}` }
	microsoft := func(code string) string { return `{"error":{"code":"` + code + `","message":"m"}}` }
	for _, test := range []struct {
		way    Way
		status int
		body   string
		want   queue.Verdict
	}{
		{Gmail, 200, "{", queue.Delivered}, {Gmail, 302, "", queue.Deferred}, {Gmail, 429, "", queue.Deferred}, {Gmail, 500, "<html>", queue.Deferred},
		{Gmail, 503, google("backendError"), queue.Deferred}, {Gmail, 502, "", queue.Unknown}, {Gmail, 504, "", queue.Unknown},
		{Gmail, 403, google("rateLimitExceeded"), queue.Deferred}, {Gmail, 403, google("dailyLimitExceeded"), queue.Deferred},
		{Gmail, 403, google("accessNotConfigured"), queue.SignIn}, {Gmail, 403, google("domainPolicy"), queue.SignIn}, {Gmail, 403, "", queue.SignIn},
		{Gmail, 400, google("failedPrecondition"), queue.Deferred}, {Gmail, 400, google("invalidArgument"), queue.Refused}, {Gmail, 413, "", queue.Refused},
		{Graph, 202, "", queue.Delivered}, {Graph, 429, microsoft("ApplicationThrottled"), queue.Deferred}, {Graph, 503, "", queue.Deferred},
		{Graph, 504, "", queue.Unknown}, {Graph, 403, microsoft("ErrorSendAsDenied"), queue.Refused}, {Graph, 403, microsoft("ErrorAccessDenied"), queue.SignIn},
		{Graph, 400, microsoft("ErrorQuotaExceeded"), queue.Deferred}, {Graph, 404, microsoft("MailboxNotEnabledForRESTAPI"), queue.SignIn},
		{Graph, 423, "", queue.Deferred}, {Graph, 400, strings.Repeat("x", 1<<20), queue.Refused},
	} {
		fake := map[Way]func() *fakeapi.Service{Gmail: gmailFake, Graph: graphFake}[test.way]()
		fake.Arm(test.status, test.body)
		c, _ := apiCarrier(t, fake, Route{Way: test.way})
		got := carry(t, c, envelope("you@try.test", "a@x.test"), plainMail)
		if got[0].Verdict != test.want || got[0].Status == "" || len(got[0].Reply) > 1100 {
			t.Errorf("%s %d %.60s: %+v, want %v", test.way, test.status, test.body, got[0], test.want)
		}
	}
}

// TestAPILostConnections: before the request is out nothing has happened, after it
// nobody knows.
func TestAPILostConnections(t *testing.T) {
	drop := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	})
	for _, way := range []Way{Gmail, Graph} {
		c, m := apiCarrier(t, drop, Route{Way: way})
		wantVerdicts(t, carry(t, c, envelope("", "a@x.test"), plainMail), queue.Unknown)
		m.base = failing{}
		wantVerdicts(t, carry(t, c, envelope("", "a@x.test"), plainMail), queue.Deferred)
	}
}

type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

func TestAPITokenIsRenewedOnce(t *testing.T) {
	for way, fake := range map[Way]func() *fakeapi.Service{Gmail: gmailFake, Graph: graphFake} {
		source := &tokens{list: []string{"old-token-0123456789", testToken}}
		s := fake()
		c, _ := apiCarrier(t, s, Route{Way: way, Tokens: source})
		wantVerdicts(t, carry(t, c, envelope("", "a@x.test"), plainMail), queue.Delivered)
		if source.asked != 2 || len(s.Sent()) != 1 || s.Fired()["token-unknown"] != 1 {
			t.Errorf("%s: asked %d times, sent %d, refused %v", way, source.asked, len(s.Sent()), s.Fired())
		}
	}
}

func TestGmailUploadsLargeMail(t *testing.T) {
	s := gmailFake()
	c, _ := apiCarrier(t, s, Route{Way: Gmail})
	large := plainMail + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 100_000)
	wantVerdicts(t, carry(t, c, envelope("", "a@x.test"), large), queue.Delivered)
	if sent := s.Sent(); len(sent) != 1 || !sent[0].Upload || !bytes.Equal(sent[0].Data, []byte(large)) {
		t.Error("did not arrive by upload as it was")
	}
	got := carry(t, c, envelope("", "a@x.test"), plainMail+strings.Repeat(strings.Repeat("x", 70)+"\r\n", 520_000))
	wantVerdicts(t, got, queue.Refused)
	if got[0].Status != "5.3.4" || len(s.Sent()) != 1 {
		t.Errorf("%+v", got[0])
	}
}

func TestGraphSendsAsMailbox(t *testing.T) {
	s := graphFake()
	c, _ := apiCarrier(t, s, Route{Way: Graph, Mailbox: "shared@try.test"})
	wantVerdicts(t, carry(t, c, envelope("", "a@x.test"), strings.Replace(plainMail, "you@", "shared@", 1)), queue.Delivered)
}

// TestFallback: SMTP AUTH switched off for the mailbox sends by Graph with the same
// sign-in; what Graph cannot express goes by submission.
func TestFallback(t *testing.T) {
	s := graphFake()
	server := httptest.NewServer(s)
	defer server.Close()
	f := startFaulty(t, &faulty{stage: "AUTH", fault: "535 5.7.139 SmtpClientAuthentication is disabled for the Mailbox", config: nil})
	source := &tokens{list: []string{testToken}}
	graph := Route{Way: Graph, API: server.URL, Tokens: source}
	route := submission(provider.Plain, f.listener.Addr(), nil, source)
	route.Fallback = &graph
	got := carry(t, carrier(t, route, nil), envelope("you@try.test", "a@x.test", "bad address@x.test"), plainMail)
	wantVerdicts(t, got, queue.Delivered, queue.Refused)
	if len(s.Sent()) != 1 || !strings.Contains(got[0].Server, "graph") {
		t.Errorf("%+v", got)
	}

	r := startRecorder(t, nil, nil)
	other := submission(provider.Plain, r.listener.Addr(), nil, nil)
	graph.Fallback = &other
	large := plainMail + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 60_000)
	wantVerdicts(t, carry(t, carrier(t, graph, nil), envelope("you@try.test", "a@x.test"), large), queue.Delivered)
	if len(r.all()) != 1 || len(s.Sent()) != 1 {
		t.Errorf("%d by submission, %d by Graph", len(r.all()), len(s.Sent()))
	}
}

func TestAPIBase(t *testing.T) {
	for _, bad := range []string{"http://graph.example", "ftp://127.0.0.1", "https://user@x", "https://x?y", "//x", "https:///", "http://127.0.0.1.evil.test"} {
		r := Route{Way: Graph, API: bad, Tokens: &tokens{list: []string{testToken}}}
		if _, err := carrier(t, r, nil).Carry(t.Context(), envelope("", "a@x.test"), strings.NewReader(plainMail)); !errors.Is(err, ErrRoute) {
			t.Errorf("%s is taken: %v", bad, err)
		}
	}
}

package probe

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

const canary = "c4n4ry-probe-token"

type fixed struct{ token secret.String }

func (f fixed) Token(context.Context) (secret.String, error) { return f.token, nil }

type noToken struct{}

func (noToken) Token(context.Context) (secret.String, error) {
	return secret.String{}, errors.New("sign-in needed")
}

// A fake server answers commands by their first words; what it says to AUTH is per
// mechanism, "" being yes. It counts the tokens it is shown.
type fake struct {
	protocol upstream.Protocol
	offers   string
	refuse   map[string]string // mechanism -> "challenge|reply"
	mailbox  string            // reply to LIST, STAT, NOOP when not the good one

	mu    sync.Mutex
	shown []string
}

func (f *fake) listen(t *testing.T) provider.MailServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { defer conn.Close(); f.serve(conn) })
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return provider.MailServer{Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, Security: provider.Plain}
}

func (f *fake) serve(conn net.Conn) {
	say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
	lines := bufio.NewScanner(conn)
	say(map[upstream.Protocol]string{upstream.IMAP: "* OK [CAPABILITY IMAP4rev1 " + f.offers + "] hi", upstream.POP3: "+OK hi", upstream.SMTP: "220 hi"}[f.protocol])
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		tag := ""
		if f.protocol == upstream.IMAP {
			tag, words = words[0]+" ", words[1:]
		}
		good := map[upstream.Protocol]string{upstream.IMAP: tag + "OK done", upstream.POP3: "+OK 1 1", upstream.SMTP: "250 ok"}[f.protocol]
		switch words[0] {
		case "AUTHENTICATE", "AUTH":
			f.auth(say, lines, tag, words[1:])
		case "CAPA":
			say("+OK\r\n" + f.offers + "\r\n.")
		case "EHLO":
			say("250-me\r\n250 " + f.offers)
		case "LIST", "STAT", "NOOP":
			if f.mailbox != "" {
				good = tag + f.mailbox
			}
			say(good)
		case "QUIT", "LOGOUT":
			say(map[upstream.Protocol]string{upstream.IMAP: good, upstream.POP3: good, upstream.SMTP: "221 bye"}[f.protocol])
			return
		}
	}
}

func (f *fake) auth(say func(string), lines *bufio.Scanner, tag string, words []string) {
	invite := "+ "
	if f.protocol == upstream.SMTP {
		invite = "334 "
	}
	if len(words) == 1 {
		say(invite)
		lines.Scan()
	}
	f.mu.Lock()
	f.shown = append(f.shown, words[0])
	f.mu.Unlock()
	challenge, reply, refused := strings.Cut(f.refuse[words[0]], "|")
	if !refused {
		say(map[upstream.Protocol]string{upstream.IMAP: tag + "OK in", upstream.POP3: "+OK in", upstream.SMTP: "235 in"}[f.protocol])
		return
	}
	if challenge != "" {
		say(invite + base64.StdEncoding.EncodeToString([]byte(challenge)))
		lines.Scan()
	}
	say(tag + reply)
}

type book struct{}

func (book) Explain(line string) []Advice {
	if strings.Contains(line, "5.7.139") {
		return []Advice{{"SMTP AUTH is off for the mailbox", "have it switched on, or send through Graph"}}
	}
	return nil
}

// A runCase is one server and what the report says of it.
type runCase struct {
	name   string
	server *fake
	owner  string
	shown  []string // mechanisms that a token was shown by
	result []string // one each check
	advice []string // texts that the advice must have
	ok     bool
}

func runCases() []runCase {
	return []runCase{
		{
			name:   "imap both",
			server: &fake{protocol: upstream.IMAP, offers: "SASL-IR AUTH=PLAIN AUTH=XOAUTH2 AUTH=OAUTHBEARER"},
			shown:  []string{"OAUTHBEARER", "XOAUTH2"}, result: []string{"ok (LIST)", "ok (LIST)"}, ok: true,
		},
		{
			name:   "pop3",
			server: &fake{protocol: upstream.POP3, offers: "SASL XOAUTH2"},
			shown:  []string{"XOAUTH2"}, result: []string{"ok (STAT)"}, ok: true,
		},
		{
			name:   "smtp",
			server: &fake{protocol: upstream.SMTP, offers: "AUTH XOAUTH2 OAUTHBEARER"},
			shown:  []string{"OAUTHBEARER", "XOAUTH2"}, result: []string{"ok (NOOP)", "ok (NOOP)"}, ok: true,
		},
		{
			name: "a token called bad is not shown again",
			server: &fake{protocol: upstream.IMAP, offers: "AUTH=XOAUTH2 AUTH=OAUTHBEARER", refuse: map[string]string{
				"OAUTHBEARER": `{"status":"invalid_token","openid-configuration":"https://id.example.test/x"}|NO [AUTHENTICATIONFAILED] no`,
			}},
			shown:  []string{"OAUTHBEARER"},
			result: []string{"sign in failed: OAUTHBEARER: NO [AUTHENTICATIONFAILED] no", "skipped"},
			advice: []string{"does not accept the token", "https://id.example.test/x"},
		},
		{
			name: "a refusal without a reason may be about the mechanism",
			server: &fake{protocol: upstream.SMTP, offers: "AUTH XOAUTH2 OAUTHBEARER", refuse: map[string]string{
				"OAUTHBEARER": `|504 5.5.4 unrecognized`,
			}},
			shown:  []string{"OAUTHBEARER", "XOAUTH2"},
			result: []string{"sign in failed: OAUTHBEARER: 504 5.5.4 unrecognized", "ok (NOOP)"},
		},
		{
			name: "scope",
			server: &fake{protocol: upstream.POP3, offers: "SASL XOAUTH2", refuse: map[string]string{
				"XOAUTH2": `{"status":"403","scope":"mail\u001b[2J"}|-ERR [AUTH] no`,
			}},
			shown:  []string{"XOAUTH2"},
			result: []string{"sign in failed: XOAUTH2: -ERR [AUTH] no"},
			advice: []string{"lacks the right", "scope mail?[2J"},
		},
		{
			name: "smtp auth off",
			server: &fake{protocol: upstream.SMTP, offers: "AUTH XOAUTH2", refuse: map[string]string{
				"XOAUTH2": `|535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled`,
			}},
			shown:  []string{"XOAUTH2"},
			result: []string{"sign in failed: XOAUTH2: 535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled"},
			advice: []string{"SMTP AUTH is off"},
		},
		{
			name:   "authenticated but not connected, other owner",
			server: &fake{protocol: upstream.IMAP, offers: "AUTH=XOAUTH2", mailbox: "BAD User is authenticated but not connected."},
			owner:  "bob@example.test", shown: []string{"XOAUTH2"},
			result: []string{"mailbox failed: LIST: BAD User is authenticated but not connected."},
			advice: []string{"belongs to bob@example.test, the mailbox is alice@example.test"},
		},
		{
			name:   "authenticated but not connected, same owner",
			server: &fake{protocol: upstream.IMAP, offers: "AUTH=XOAUTH2", mailbox: "BAD User is authenticated but not connected."},
			owner:  "Alice@Example.Test", shown: []string{"XOAUTH2"},
			result: []string{"mailbox failed: LIST: BAD User is authenticated but not connected."},
			advice: []string{"took the token and then did not open"},
		},
		{
			name:   "no mechanism",
			server: &fake{protocol: upstream.SMTP, offers: "AUTH PLAIN LOGIN"},
			result: []string{"sign in failed: the server offers PLAIN, LOGIN, but not OAUTHBEARER or XOAUTH2"},
			advice: []string{"takes no tokens here (it offers: PLAIN, LOGIN)"},
		},
		{
			name: "temporary",
			server: &fake{protocol: upstream.SMTP, offers: "AUTH XOAUTH2", refuse: map[string]string{
				"XOAUTH2": `|454 4.7.0 later`,
			}},
			shown:  []string{"XOAUTH2"},
			result: []string{"sign in failed: XOAUTH2: 454 4.7.0 later"},
			advice: []string{"try again"},
		},
		{
			name:   "another protocol",
			server: &fake{protocol: "http"},
			result: []string{"connect failed: greeting: the server breaks the protocol: "},
			advice: []string{"does not speak this protocol"},
		},
	}
}

func TestRun(t *testing.T) {
	for _, tt := range runCases() {
		t.Run(tt.name, func(t *testing.T) {
			server := tt.server.listen(t)
			target := Target{Protocol: tt.server.protocol, Server: server, Token: fixed{secret.New(canary)}}
			if target.Protocol == "http" {
				target.Protocol = upstream.IMAP
			}
			report := Run(t.Context(), Plan{Mailbox: "alice@example.test", Owner: tt.owner, Targets: []Target{target}, Explainer: book{}})
			var results []string
			for _, c := range report.Checks {
				results = append(results, c.result())
			}
			if len(results) != len(tt.result) {
				t.Fatalf("results %q", results)
			}
			for i, want := range tt.result {
				if !strings.HasPrefix(results[i], strings.TrimSpace(want)) {
					t.Errorf("result %q, want %q", results[i], want)
				}
			}
			if tt.server.mu.Lock(); !slices.Equal(tt.server.shown, tt.shown) {
				t.Errorf("the token was shown by %q, want %q", tt.server.shown, tt.shown)
			}
			tt.server.mu.Unlock()
			if report.OK() != tt.ok {
				t.Errorf("OK() = %v", report.OK())
			}
			if want := tt.name == "temporary"; report.Temporary() != want {
				t.Errorf("Temporary() = %v", report.Temporary())
			}
			advice := fmt.Sprint(report.Advice())
			for _, text := range tt.advice {
				if !strings.Contains(advice, text) {
					t.Errorf("advice lacks %q: %s", text, advice)
				}
			}
			if len(tt.advice) == 0 && !tt.ok && len(report.Advice()) > 0 {
				t.Errorf("advice out of nothing: %s", advice)
			}
			clean(t, report)
		})
	}
}

// clean: the report can be shown and pasted, as table and as JSON.
func clean(t *testing.T, report Report) {
	t.Helper()
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	all := string(text) + fmt.Sprint(report.Rows(), report.Advice())
	if strings.Contains(all, canary) || strings.ContainsAny(all, "\x1b\r\n") {
		t.Errorf("the report is not fit to show: %s", all)
	}
	for _, row := range report.Rows() {
		if len(row) != len(Header()) {
			t.Errorf("row %q", row)
		}
	}
}

// A run goes on after each failure, and a server that echoes the token in JSON
// escapes does not get it into the report.
func TestRunGoesOn(t *testing.T) {
	echo := &fake{protocol: upstream.IMAP, offers: "AUTH=XOAUTH2", refuse: map[string]string{
		"XOAUTH2": `{"status":"403","scope":"\u0063` + canary[1:] + `"}|NO no`,
	}}
	good := &fake{protocol: upstream.SMTP, offers: "AUTH XOAUTH2"}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := provider.MailServer{Host: "127.0.0.1", Port: closed.Addr().(*net.TCPAddr).Port, Security: provider.ImplicitTLS}
	closed.Close()
	tok := fixed{secret.New(canary)}
	report := Run(t.Context(), Plan{Mailbox: "alice@example.test", Targets: []Target{
		{Protocol: upstream.POP3, Server: gone, Token: tok},
		{Protocol: upstream.IMAP, Server: gone, Token: noToken{}},
		{Protocol: upstream.SMTP, Server: provider.MailServer{Host: "mail.example.test", Port: 25, Security: provider.Plain}, Token: tok},
		{Protocol: upstream.IMAP, Server: echo.listen(t), Token: tok},
		{Protocol: upstream.SMTP, Server: good.listen(t), Token: tok, User: "other"},
	}})
	var outcomes []string
	for _, c := range report.Checks {
		outcomes = append(outcomes, c.last().Name+" "+c.last().Outcome)
	}
	want := []string{"connect failed", "token failed", "connect failed", "sign in failed", "mailbox ok"}
	if !slices.Equal(outcomes, want) {
		t.Errorf("outcomes %q, want %q", outcomes, want)
	}
	if report.Ownership != Unknown || report.OK() || report.Checks[4].User != "other" {
		t.Errorf("report %+v", report)
	}
	if advice := fmt.Sprint(report.Advice()); !strings.Contains(advice, "nothing can be reached") || !strings.Contains(advice, secret.Redacted) {
		t.Errorf("advice %s", advice)
	}
	clean(t, report)
}

// local is one end of a pipe that passes for a connection to this machine.
type local struct{ net.Conn }

func (local) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 143} }

// A server that never answers costs its step's time, and the whole run its limit.
func TestRunIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := provider.MailServer{Host: "127.0.0.1", Port: 143, Security: provider.Plain}
		var targets []Target
		for range 50 {
			targets = append(targets, Target{Protocol: upstream.IMAP, Server: silent, Token: fixed{secret.New(canary)}})
		}
		dial := func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			t.Cleanup(func() { there.Close() })
			return local{here}, nil
		}
		begin := time.Now()
		report := Run(t.Context(), Plan{Mailbox: "a@example.test", Targets: targets, Limit: 150 * time.Second,
			Options: upstream.Options{Timeout: 40 * time.Second, Network: dial}})
		if took := time.Since(begin); took != 150*time.Second {
			t.Errorf("took %v", took)
		}
		if len(report.Checks) != 50 {
			t.Fatalf("%d checks", len(report.Checks))
		}
		for i, c := range report.Checks {
			want := Skipped
			if i < 4 { // three had their whole time, and one the rest
				want = Failed
			}
			if c.last().Outcome != want {
				t.Errorf("check %d: %+v", i, c)
			}
		}
		if !report.Temporary() || !strings.Contains(fmt.Sprint(report.Advice()), "did not answer in time") {
			t.Errorf("advice %v", report.Advice())
		}
	})
}

func TestTokenLength(t *testing.T) {
	for length, want := range map[int][]string{
		100:  nil,
		600:  {"s-nail through netrc (about 253)", "neomutt 2022 (about 509)"},
		2000: {"s-nail through netrc (about 253)", "neomutt 2022 (about 509)"},
		7000: {"s-nail through netrc (about 253)", "neomutt 2022 (about 509)", "Dovecot's login, from any program (about 6100)"},
	} {
		r := &run{}
		r.note(Target{Protocol: upstream.IMAP}, secret.New(strings.Repeat("x", length)))
		if got := r.tokens[0]; got.Length != length || !slices.Equal(got.TooLongFor, want) {
			t.Errorf("%d: %+v", length, got)
		}
	}
	r := &run{}
	r.note(Target{Protocol: upstream.SMTP}, secret.New(strings.Repeat("x", 2999)))
	if got := fmt.Sprint(r.tokens[0].TooLongFor); !strings.Contains(got, "msmtp") || !strings.Contains(got, "Dovecot submission") || strings.Contains(got, "mpop") {
		t.Errorf("SMTP: %s", got)
	}
}

func TestOwnership(t *testing.T) {
	for _, tt := range []struct{ owner, mailbox, want string }{
		{"a@example.test", "A@Example.test", Same},
		{"b@example.test", "a@example.test", Different},
		{"", "a@example.test", Unknown},
		{"4711", "a@example.test", Unknown},
		{"4711", "4711", Same},
		{"", "", Unknown},
	} {
		if got := ownership(tt.owner, tt.mailbox); got != tt.want {
			t.Errorf("%q, %q: %s", tt.owner, tt.mailbox, got)
		}
	}
}

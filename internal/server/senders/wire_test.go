package senders

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const bound = 60 * time.Second

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

type server interface {
	Serve(context.Context, net.Listener) error
}

// start serves on a socket until the test ends.
func start(t *testing.T, s server) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return path
}

func TestSocketmap(t *testing.T) {
	s := settle()
	path := start(t, NewSocketmap(SocketmapOptions{Book: NewBook(s, "+", clock), Log: quietLog()}))
	dial := func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(bound))
		return conn, bufio.NewReader(conn)
	}
	conn, r := dial()
	ask := func(query, want string) {
		t.Helper()
		_, _ = io.WriteString(conn, netstring(query))
		if got, err := readNetstring(r); err != nil || string(got) != want {
			t.Errorf("%q: %q (%v), want %q", query, got, err, want)
		}
	}
	ask("senders bob@example.org", "OK bob@example.org")
	ask("senders info@example.org", "OK bob@example.org")
	ask("senders nobody@example.org", "NOTFOUND ")
	ask("senders <>", "NOTFOUND ")
	ask("senders ", "NOTFOUND ")
	ask("mailboxes ann+x@example.org", "OK ann@example.org")
	ask("mailboxes gone@example.org", "NOTFOUND ")
	ask("aliases sales@example.org", "OK ann@example.org,friend@elsewhere.example")
	ask("aliases ann@example.org", "NOTFOUND ")
	ask("passwords ann@example.org", "PERM no such map")
	ask("senders", "PERM malformed request")
	ask("", "PERM malformed request")
	ask("senders \xff@example.org", "PERM malformed request")
	ask("senders "+strings.Repeat("a", 9000), "NOTFOUND ")
	s.mu.Lock()
	s.away = true
	s.mu.Unlock()
	for _, name := range []string{"senders", "mailboxes", "aliases"} {
		ask(name+" ann@example.org", "TEMP try again later")
	}

	for _, bad := range []string{"x", "-1:", "01:a,", ":,", "1:ab", "10001:", "99999:", "100000:", "5 :abcde,"} {
		conn, r := dial()
		_, _ = io.WriteString(conn, bad)
		got, err := readNetstring(r)
		if string(got) != "PERM malformed request" {
			t.Errorf("%q: %q %v", bad, got, err)
		}
		if _, err := r.ReadByte(); err == nil {
			t.Errorf("%q: the connection goes on, out of step", bad)
		}
	}
}

// A mta is a client of the milter as Postfix is.
type mta struct {
	t       *testing.T
	session *milter.ClientSession
}

func (m *mta) begin(login, envelope string) string {
	m.t.Helper()
	if login != "" {
		m.must(m.session.Macros(milter.CodeMail, "i", "4ABC", "{auth_type}", "PLAIN", "{auth_authen}", login, "{mail_addr}", envelope))
	} else {
		m.must(m.session.Macros(milter.CodeMail, "i", "4ABC", "{mail_addr}", envelope))
	}
	action, err := m.session.Mail(envelope, nil)
	return m.action(action, err)
}

func (m *mta) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *mta) action(a *milter.Action, err error) string {
	m.t.Helper()
	m.must(err)
	switch a.Code {
	case milter.ActContinue, milter.ActAccept:
		return "ok"
	case milter.ActReplyCode:
		return fmt.Sprint(a.SMTPCode)
	}
	return fmt.Sprintf("%c", a.Code)
}

// message sends one and tells where it ended: "mail 553", "rcpt 550", "header 550",
// "end 451", or "ok".
func (m *mta) message(login, envelope string, recipients []string, fields ...string) string {
	m.t.Helper()
	if got := m.begin(login, envelope); got != "ok" {
		return "mail " + got
	}
	taken := 0
	for _, recipient := range recipients {
		action, err := m.session.Rcpt(recipient, nil)
		if m.action(action, err) == "ok" {
			taken++
		}
	}
	if taken < len(recipients) {
		defer func() { m.must(m.session.Abort()) }()
		return fmt.Sprintf("rcpt %d of %d", taken, len(recipients))
	}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ":")
		action, err := m.session.HeaderField(name, strings.TrimPrefix(value, " "))
		if got := m.action(action, err); got != "ok" {
			return "field " + got
		}
	}
	action, err := m.session.HeaderEnd()
	if got := m.action(action, err); got != "ok" {
		return "header " + got
	}
	_, end, err := m.session.End()
	if got := m.action(end, err); got != "ok" {
		return "end " + got
	}
	return "ok"
}

func connect(t *testing.T, path string) *mta {
	t.Helper()
	client := milter.NewClientWithOptions("unix", path, milter.ClientOptions{
		ReadTimeout: bound, WriteTimeout: bound, ActionMask: 0x3f,
		ProtocolMask: milter.OptNoConnect | milter.OptNoHelo | milter.OptNoBody,
	})
	session, err := client.Session()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close(); client.Close() })
	return &mta{t, session}
}

func TestMilter(t *testing.T) {
	s := settle()
	var hour int
	now := func() time.Time { return clock().Add(time.Duration(hour) * time.Hour) }
	// The clock moves only between messages, when the milter does not look at it.
	path := start(t, NewMilter(MilterOptions{Book: NewBook(s, "+", clock), Counter: s, Log: quietLog(), Now: now}))
	m := connect(t, path)
	to := []string{"friend@elsewhere.example"}
	for _, c := range []struct {
		login, envelope string
		to              []string
		fields          []string
		want            string
	}{
		{"ann@example.org", "ann@example.org", to, []string{"From: ann@example.org", "Subject: x"}, "ok"},
		{"ann@example.org", "", to, []string{"From: ann@example.org"}, "ok"},
		{"ann@example.org", "bob@example.org", to, nil, "mail 553"},
		{"ann@example.org", "ann@example.org", to, []string{"From: bob@example.org"}, "header 550"},
		// A refusal in the one message leaves no trace in the next.
		{"ann@example.org", "ann@example.org", to, []string{"From: ann@example.org"}, "ok"},
		{"ann@example.org", "ann@example.org", to, []string{"From: ann@example.org", "fRoM : bob@example.org"}, "header 550"},
		{"ann@example.org", "ann@example.org", to, []string{"From : bob@example.org"}, "header 550"},
		{"ann@example.org", "ann@example.org", to, []string{"Subject: no From"}, "header 550"},
		{"ann@example.org", "ann@example.org", to, []string{"From: ann@example.org", "X: y\rFrom: bob@example.org"}, "header 550"},
		{"ann@example.org", "ann@example.org", to, []string{"From: ann@example.org", "X: y\r\n z"}, "ok"},
		{"ann@example.org", "ann@example.org", to, []string{"From: ann@example.org", "From:"}, "header 550"},
		{"gone@example.org", "gone@example.org", to, nil, "mail 550"},
		{"ann+rev@example.org", "ann@example.org", to, nil, "mail 550"},
		{"ann+old@example.org", "ann@example.org", to, nil, "mail 550"},
		{"ann+trap@example.org", "ann@example.org", to, nil, "mail 451"},
		{"nobody@example.org", "nobody@example.org", to, nil, "mail 550"},
		{"", "ann@example.org", to, nil, "mail 451"},

		{"ann+scanner@example.org", "x@ann.example", to, nil, "mail 553"},
		{"ann+scanner@example.org", "", to, nil, "mail 553"},
		{"ann+scanner@example.org", "ann@example.org", to, nil, "rcpt 0 of 1"},
		// Limits hold for the recipients behind a refused one, too.
		{"ann+scanner@example.org", "ann@example.org", []string{"friend@elsewhere.example", "ann@example.org", "friend@elsewhere.example"}, nil, "rcpt 1 of 3"},
		{"ann+scanner@example.org", "ann@example.org", []string{"ann@example.org", "any@BÜCHER.example"}, []string{"From: x@ann.example"}, "header 550"},
		{"ann+scanner@example.org", "ann@example.org", []string{"ann@example.org", "any@BÜCHER.example"}, []string{"From: ann@example.org"}, "ok"},
		{"ann+scanner@example.org", "ann@example.org", []string{"ann@example.org"}, []string{"From: ann@example.org"}, "ok"},
		{"ann+scanner@example.org", "ann@example.org", []string{"ann@example.org"}, []string{"From: ann@example.org"}, "mail 451"},
	} {
		if got := m.message(c.login, c.envelope, c.to, c.fields...); got != c.want {
			t.Errorf("%s as <%s> to %s with %q: %s, want %s", c.login, c.envelope, c.to, c.fields, got, c.want)
		}
	}
	hour++
	if got := m.message("ann+scanner@example.org", "ann@example.org", []string{"ann@example.org"}, "From: ann@example.org"); got != "ok" {
		t.Errorf("an hour later: %s", got)
	}

	// Two messages at once: both are let in, one of them counts too many.
	first, second := connect(t, path), connect(t, path)
	for _, m := range []*mta{first, second} {
		if got := m.begin("ann+cron@example.org", "ann@example.org"); got != "ok" {
			t.Fatal(got)
		}
	}
	ends := map[string]int{}
	for _, m := range []*mta{first, second} {
		action, err := m.session.HeaderField("From", "ann@example.org")
		m.must(err)
		ends[m.action(action, err)]--
		action, err = m.session.HeaderEnd()
		ends[m.action(action, err)]--
		_, action, err = m.session.End()
		ends["end "+m.action(action, err)]++
	}
	if ends["end ok"] != 1 || ends["end 451"] != 1 {
		t.Errorf("two at once: %v", ends)
	}
}

// TestMilterAway: without the store nothing passes, at whatever stage it goes.
func TestMilterAway(t *testing.T) {
	s := settle()
	m := connect(t, start(t, NewMilter(MilterOptions{Book: NewBook(s, "+", clock), Counter: s, Log: quietLog(), Now: clock})))
	set := func(away bool) {
		s.mu.Lock()
		s.away = away
		s.mu.Unlock()
	}
	set(true)
	if got := m.begin("ann@example.org", "ann@example.org"); got != "451" {
		t.Errorf("away at MAIL: %s", got)
	}
	set(false)
	if got := m.begin("ann+cron@example.org", "ann@example.org"); got != "ok" {
		t.Fatal(got)
	}
	action, err := m.session.HeaderField("From", "ann@example.org")
	m.action(action, err)
	set(true)
	action, err = m.session.HeaderEnd()
	if got := m.action(action, err); got != "451" {
		t.Errorf("away at the end of the header: %s", got)
	}
	set(false)
	m.must(m.session.Abort())
	if got := m.begin("ann+cron@example.org", "ann@example.org"); got != "ok" {
		t.Fatal(got)
	}
	action, err = m.session.HeaderField("From", "ann@example.org")
	m.action(action, err)
	action, err = m.session.HeaderEnd()
	m.action(action, err)
	set(true)
	_, action, err = m.session.End()
	if got := m.action(action, err); got != "451" {
		t.Errorf("away at the end of the message: %s", got)
	}
}

func TestMilterOpen(t *testing.T) {
	s := settle()
	m := connect(t, start(t, NewMilter(MilterOptions{Book: NewBook(s, "+", clock), Counter: s, Log: quietLog(), Now: clock, Open: true})))
	if got := m.message("", "friend@elsewhere.example", []string{"ann@example.org"}, "From: friend@elsewhere.example"); got != "ok" {
		t.Errorf("mail from outside: %s", got)
	}
	if got := m.message("ann@example.org", "friend@elsewhere.example", []string{"ann@example.org"}); got != "mail 553" {
		t.Errorf("signed in: %s", got)
	}
}

// TestManyFields: fields beyond what is kept do not get by unseen.
func TestManyFields(t *testing.T) {
	s := settle()
	m := connect(t, start(t, NewMilter(MilterOptions{Book: NewBook(s, "+", clock), Counter: s, Log: quietLog(), Now: clock})))
	fields := []string{"From: ann@example.org"}
	for range maxFields {
		fields = append(fields, "Resent-From: ann@example.org")
	}
	fields = append(fields, "Resent-From: bob@example.org")
	if got := m.message("ann@example.org", "ann@example.org", nil, fields...); got != "header 550" {
		t.Errorf("the field behind the last one kept: %s", got)
	}
	large := "Resent-From: " + strings.Repeat("x", maxFieldSize+1)
	if got := m.message("ann@example.org", "ann@example.org", nil, "From: ann@example.org", large); got != "header 550" {
		t.Errorf("too large: %s", got)
	}
}

// FuzzNetstring feeds the reader; what it takes is what was meant.
func FuzzNetstring(f *testing.F) {
	for _, seed := range []string{"3:abc,", "0:,", "23:senders ann@example.org,x", "01:a,", "99999:", "-1:", "3:abcd", ":,"} {
		f.Add([]byte(seed))
	}
	m := NewSocketmap(SocketmapOptions{Book: NewBook(settle(), "+", clock), Log: quietLog()})
	f.Fuzz(func(t *testing.T, input []byte) {
		body, err := readNetstring(bufio.NewReader(strings.NewReader(string(input))))
		if err != nil {
			return
		}
		if len(body) > maxQuery || !strings.HasPrefix(string(input), netstring(string(body))) {
			t.Fatalf("%q read as %q", input, body)
		}
		reply := m.reply(t.Context(), string(body))
		if status, rest, ok := strings.Cut(reply, " "); !ok || status != "OK" && status != "NOTFOUND" && status != "PERM" || strings.ContainsAny(rest, "\r\n\x00") {
			t.Fatalf("%q: reply %q", body, reply)
		}
	})
}

// FuzzMailboxes feeds the parser of originator fields: what it finds is canonical.
func FuzzMailboxes(f *testing.F) {
	for _, seed := range []string{
		"Ann <ann@example.org>", "a@b.c, \"x\" <d@e.f> (g)", "Friends: a@b.c;", "=?utf-8?q?bob=40example.org?= <ann@example.org>", "<a@b",
		"\"\\\"\" <a@b.c>", "=?iso-2022-jp?b?GyRCOzNFRBsoQg==?= <a@b.c>", "(x) a@b.c", "a@b.c\r\n\t", "ü@ü.example",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		list, err := parseMailboxes(value)
		if err != nil {
			if len(list) > 0 {
				t.Fatal("a list and an error")
			}
			return
		}
		if len(list) == 0 || len(list) > maxMailboxes {
			t.Fatalf("%d mailboxes", len(list))
		}
		for _, m := range list {
			for _, address := range append(m.shown, m.address) {
				if again, err := identity.CanonicalAddress(address); err != nil || again != address {
					t.Fatalf("%q holds %q, whose canonical form is %q", value, address, again)
				}
			}
		}
	})
}

// FuzzMilter feeds macros, envelopes and fields in the library's own form.
func FuzzMilter(f *testing.F) {
	f.Add("ann@example.org", "ann@example.org", "From", "ann@example.org")
	f.Add("ann+scanner@example.org", "", "From ", "x <bob@example.org>")
	f.Add("", "\x00", "Resent-From", "\n")
	s := settle()
	m := NewMilter(MilterOptions{Book: NewBook(s, "+", clock), Counter: s, Log: quietLog(), Now: clock})
	f.Fuzz(func(t *testing.T, login, envelope, name, value string) {
		session := &session{m: m, ctx: context.Background()}
		modifier := &milter.Modifier{Macros: map[string]string{"{auth_authen}": login}}
		passed := true
		step := func(r milter.Response, err error) {
			if err != nil {
				t.Fatal(err)
			}
			if !r.Continue() {
				t.Fatal("an answer that makes the library forget the session")
			}
			if r != milter.RespContinue {
				passed = false
				if code := r.Response().Data[0]; code != '4' && code != '5' {
					t.Fatalf("reply %q", r.Response().Data)
				}
			}
		}
		step(session.MailFrom(envelope, modifier))
		step(session.RcptTo(envelope, modifier))
		step(session.Header(name, value, modifier))
		step(session.Headers(textproto.MIMEHeader{}, modifier))
		if who, err := m.o.Book.Login(context.Background(), login); passed && (err != nil || who.Person.ID == "bob") && !strings.Contains(strings.ToLower(login), "bob") {
			t.Fatalf("passed for %q", login)
		}
		if passed && !strings.EqualFold(strings.TrimRight(name, " \t"), "from") {
			t.Fatal("passed without a From")
		}
	})
}

func BenchmarkSocketmap(b *testing.B) {
	m := NewSocketmap(SocketmapOptions{Book: NewBook(settle(), "+", clock), Log: quietLog()})
	for b.Loop() {
		if got := m.reply(b.Context(), "senders ann@example.org"); got[:2] != "OK" {
			b.Fatal(got)
		}
	}
}

package sendmail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/message"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// A fakeQueue keeps the last message.
type fakeQueue struct {
	envelope queue.Envelope
	text     string
	count    int
	err      error
}

func (q *fakeQueue) Put(_ context.Context, e queue.Envelope, r io.Reader) (queue.ID, error) {
	if q.err != nil {
		return "", q.err
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	q.count++
	q.envelope, q.text = e, string(text)
	return queue.ID(fmt.Sprint("id", q.count)), nil
}

func (q *fakeQueue) to() []string {
	var out []string
	for _, r := range q.envelope.To {
		out = append(out, r.Address)
	}
	return out
}

// machine is a cron host with one send-only account and an alias file.
func machine(t testing.TB) (*Sender, *fakeQueue) {
	t.Helper()
	q := &fakeQueue{}
	aliases, err := ParseAliases(strings.NewReader("postmaster: root\nroot: ops@x.test, second@x.test\nbob: robert\nrobert: bob, bob@x.test\nprog: |/bin/sh\n"))
	if err != nil {
		t.Fatal(err)
	}
	return &Sender{
		Queue: q, Aliases: func() (Aliases, error) { return aliases, nil },
		Host: "host.test", User: "me", Name: "Me Myself",
		Ways:   []Way{{Account: "cron", Address: "cron@x.test", Senders: []string{"alias@x.test", "@own.test"}, Policy: Rewrite, SendOnly: true}},
		Limits: message.Limits{Size: 1 << 20, Folder: t.TempDir()},
		Now:    func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) },
		Random: rand.NewChaCha8([32]byte{}),
	}, q
}

func mustParse(t testing.TB, line string) Options {
	t.Helper()
	o, err := Parse(shellWords(line))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestSend(t *testing.T) {
	for _, c := range []struct {
		name, args, in string
		from           string
		to             []string
		has, lacks     []string // in what is queued
	}{
		{"cron", "-FCronDaemon -i -B8BITMIME -oem root", "From: root (Cron Daemon)\nTo: root\nSubject: Cron\n\nbody\n", "cron@x.test",
			[]string{"ops@x.test", "second@x.test"}, []string{"cron@x.test", "Cron Daemon", "To: root@host.test", "Date: ", "Message-ID: <"}, []string{"root@host.test (Cron"}},
		{"no header at all", "a@y.test", "just text\n", "cron@x.test", []string{"a@y.test"}, []string{"\r\n\r\njust text\r\n", "Me Myself", "<cron@x.test>"}, nil},
		{"a lone dot", "a@y.test", "Subject: x\n\none\n.\ntwo\n", "cron@x.test", []string{"a@y.test"}, []string{"one\r\n.\r\ntwo\r\n"}, nil},
		{"-t strips Bcc and adds argv", "-t c@y.test", "To: a@y.test\nBcc: b@y.test,\n d@y.test\n\nx\n", "cron@x.test",
			[]string{"c@y.test", "a@y.test", "b@y.test", "d@y.test"}, []string{"To: a@y.test"}, []string{"b@y.test", "d@y.test", "Bcc"}},
		{"Bcc without -t", "a@y.test", "To: z@y.test\nBcc: b@y.test\n\nx\n", "cron@x.test", []string{"a@y.test"}, nil, []string{"b@y.test"}},
		{"own sender", "-f alias@x.test a@y.test", "From: alias@x.test\n\nx\n", "alias@x.test", []string{"a@y.test"}, []string{"From: alias@x.test"}, nil},
		{"own domain, by From", "a@y.test", "From: who@own.test\n\nx\n", "who@own.test", []string{"a@y.test"}, []string{"From: who@own.test"}, nil},
		{"foreign sender", "-f boss@y.test a@y.test", "From: Boss <boss@y.test>\nSender: boss@y.test\n\nx\n", "cron@x.test", []string{"a@y.test"},
			[]string{"Boss", "cron@x.test"}, []string{"boss@y.test"}},
		{"a second From", "a@y.test", "From: alias@x.test\nFrom: Boss <boss@y.test>\n\nx\n", "cron@x.test", []string{"a@y.test"}, []string{"cron@x.test"}, []string{"boss@y.test", "Boss"}},
		{"another's Sender", "a@y.test", "From: alias@x.test\nSender: boss@y.test\n\nx\n", "alias@x.test", []string{"a@y.test"}, []string{"From: alias@x.test"}, []string{"boss@y.test"}},
		{"a Sender that cannot be read", "a@y.test", "From: alias@x.test\nSender: <boss@y.test\n\nx\n", "alias@x.test", []string{"a@y.test"}, nil, []string{"boss@y.test"}},
		{"own Sender", "a@y.test", "From: alias@x.test\nSender: who@own.test\n\nx\n", "alias@x.test", []string{"a@y.test"}, []string{"Sender: who@own.test"}, nil},
		{"null sender", "-f '<>' a@y.test", "From: who@own.test\n\nx\n", "", []string{"a@y.test"}, nil, nil},
		{"empty sender", "-f '' a@y.test", "From: who@own.test\n\nx\n", "", []string{"a@y.test"}, nil, nil},
		{"chain of aliases", "postmaster", "\nx\n", "cron@x.test", []string{"ops@x.test", "second@x.test"}, nil, nil},
		{"loop of aliases", "bob", "\nx\n", "cron@x.test", []string{"bob@host.test", "bob@x.test"}, nil, nil},
		{"-n", "-n postmaster", "\nx\n", "cron@x.test", []string{"postmaster@host.test"}, nil, nil},
		{"this machine's name", "root@localhost ROOT@host.test", "\nx\n", "cron@x.test", []string{"ops@x.test", "second@x.test"}, nil, nil},
		{"duplicates", "a@y.test a@Y.test A@y.test", "\nx\n", "cron@x.test", []string{"a@y.test", "A@y.test"}, nil, nil},
		{"a list in one argument", "'a@y.test, Bob <b@y.test>'", "\nx\n", "cron@x.test", []string{"a@y.test", "b@y.test"}, nil, nil},
		{"recipient with a dash", "-- -x@y.test", "\nx\n", "cron@x.test", []string{"-x@y.test"}, nil, nil},
		{"-F", "-F 'Jürgen \"Q\"' a@y.test", "\nx\n", "cron@x.test", []string{"a@y.test"}, []string{"cron@x.test"}, []string{"Myself"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, q := machine(t)
			if _, err := s.Send(t.Context(), mustParse(t, c.args), strings.NewReader(c.in)); err != nil {
				t.Fatal(err)
			}
			if q.envelope.From != c.from || !slices.Equal(q.to(), c.to) || q.envelope.Account != "cron" {
				t.Errorf("from %q to %q by %q, want %q %q", q.envelope.From, q.to(), q.envelope.Account, c.from, c.to)
			}
			for _, text := range c.has {
				if !strings.Contains(q.text, text) {
					t.Errorf("lacks %q:\n%s", text, q.text)
				}
			}
			for _, text := range c.lacks {
				if strings.Contains(q.text, text) {
					t.Errorf("has %q:\n%s", text, q.text)
				}
			}
		})
	}
}

func TestSendRefuses(t *testing.T) {
	full := Way{Account: "full", Address: "full@x.test", Policy: Rewrite}
	refuse := Way{Account: "strict", Address: "strict@x.test", Policy: Refuse, SendOnly: true}
	for _, c := range []struct {
		name, args, in string
		change         func(*Sender, *fakeQueue)
		code           cli.Code
	}{
		{"-t without recipients", "-t", "Subject: x\n\nx\n", nil, cli.Usage},
		{"CR LF in a recipient", "'bob>\r\nRCPT TO:<evil@y.test'", "\nx\n", nil, cli.NoUser},
		{"LF in -f", "-f 'a@x.test>\nRCPT TO:<evil@y.test' a@y.test", "\nx\n", nil, cli.NoUser},
		{"NUL in a recipient", "'a@y.test\x00'", "\nx\n", nil, cli.NoUser},
		{"Latin-1 in a recipient", "'m\xfcller@y.test'", "\nx\n", nil, cli.NoUser},
		{"empty recipient", "''", "\nx\n", nil, cli.NoUser},
		{"NUL in the body", "a@y.test", "Subject: x\n\na\x00b\n", nil, cli.DataError},
		{"too large", "a@y.test", strings.Repeat("x", 2<<20), nil, cli.DataError},
		{"queue not writable", "a@y.test", "\nx\n", func(_ *Sender, q *fakeQueue) { q.err = errors.New("no space left") }, cli.TempFail},
		{"alias to a program", "prog", "\nx\n", nil, cli.NoUser},
		{"broken alias file", "root", "\nx\n", func(s *Sender, _ *fakeQueue) {
			s.Aliases = func() (Aliases, error) { return Aliases{}, errors.New("line 3") }
		}, cli.Config},
		{"no account", "a@y.test", "\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = nil }, cli.Config},
		{"only a full right", "a@y.test", "\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = []Way{full} }, cli.Config},
		{"unknown account", "--account no a@y.test", "\nx\n", nil, cli.Config},
		{"two narrow rights", "a@y.test", "\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = append(s.Ways, refuse) }, cli.Config},
		{"From not permitted", "a@y.test", "From: boss@y.test\n\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = []Way{refuse} }, cli.NoPerm},
		{"second From not permitted", "a@y.test", "From: strict@x.test\nFrom: boss@y.test\n\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = []Way{refuse} }, cli.NoPerm},
		{"Sender not permitted", "a@y.test", "From: strict@x.test\nSender: boss@y.test\n\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = []Way{refuse} }, cli.NoPerm},
		{"Resent-From not permitted", "a@y.test", "Resent-From: boss@y.test\nFrom: strict@x.test\n\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = []Way{refuse} }, cli.NoPerm},
		{"second Resent-From not permitted", "a@y.test", "Resent-From: strict@x.test\nResent-From: boss@y.test\nFrom: strict@x.test\n\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = []Way{refuse} }, cli.NoPerm},
		{"Resent-Sender not permitted", "a@y.test", "Resent-From: strict@x.test\nResent-Sender: boss@y.test\nFrom: strict@x.test\n\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = []Way{refuse} }, cli.NoPerm},
		{"Resent-From unreadable", "a@y.test", "Resent-From: boss@@y.test\nFrom: strict@x.test\n\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = []Way{refuse} }, cli.NoUser},
		{"-f not permitted", "-f boss@y.test a@y.test", "From: strict@x.test\n\nx\n", func(s *Sender, _ *fakeQueue) { s.Ways = []Way{refuse} }, cli.NoPerm},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, q := machine(t)
			if c.change != nil {
				c.change(s, q)
			}
			_, err := s.Send(t.Context(), mustParse(t, c.args), strings.NewReader(c.in))
			if code(err) != c.code || q.count != 0 {
				t.Errorf("%v (%d), %d queued; want %d", err, code(err), q.count, c.code)
			}
		})
	}
}

// Who resends a message is judged as who writes one, in the newest block alone: older
// ones are traces of others.
func TestResent(t *testing.T) {
	old := "Received: by y.test; x\nResent-From: older@y.test\nResent-Sender: old@y.test\nFrom: cron@x.test\n"
	kept := "Received: by y.test; x\r\nResent-From: older@y.test\r\nResent-Sender: old@y.test\r\nFrom: cron@x.test\r\n"
	for _, c := range []struct{ name, head, want string }{
		{"permitted", "Resent-To: a@y.test\nResent-From: Me <cron@x.test>\n", "Resent-From: Me <cron@x.test>\r\n"},
		{"foreign", "Resent-From: Boss <boss@y.test>\nResent-Sender: boss@y.test\nResent-To: a@y.test\n", "Resent-From: \"Boss\" <cron@x.test>\r\n"},
		{"foreign sender", "Resent-From: cron@x.test\nResent-Sender: boss@y.test\nResent-To: a@y.test\n", "Resent-From: cron@x.test\r\n"},
		{"several", "Resent-From: cron@x.test, boss@y.test\nResent-To: a@y.test\n", "Resent-From: cron@x.test\r\n"},
		{"twice", "Resent-From: cron@x.test\nResent-From: boss@y.test\nResent-To: a@y.test\n", "Resent-From: cron@x.test\r\n"},
		{"unreadable", "Resent-From: boss@@y.test\nResent-To: a@y.test\n", "Resent-From: cron@x.test\r\n"},
		{"none", "Resent-To: a@y.test\n", "Resent-From: \"Me Myself\" <cron@x.test>\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, q := machine(t)
			if _, err := s.Send(t.Context(), mustParse(t, "a@y.test"), strings.NewReader(c.head+old+"\nx\n")); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(q.text, c.want) || strings.Count(q.text, "Resent-From:") != 2 || !strings.Contains(q.text, kept) || strings.Contains(q.text, "boss@y.test") {
				t.Errorf("%s", q.text)
			}
		})
	}
}

// A standard input that breaks is no message.
func TestBrokenInput(t *testing.T) {
	s, q := machine(t)
	in := io.MultiReader(strings.NewReader("Subject: x\n\nhalf"), errReader{})
	if _, err := s.Send(t.Context(), mustParse(t, "a@y.test"), in); code(err) != cli.TempFail || q.count != 0 {
		t.Errorf("%v, %d queued", err, q.count)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestWay(t *testing.T) {
	full := Way{Account: "full", Address: "full@x.test", Policy: Rewrite}
	other := Way{Account: "other", Address: "other@x.test", Policy: Keep, SendOnly: true}
	for _, c := range []struct{ name, args, head, deflt, account, from string }{
		{"asked for", "--account full a@y.test", "", "", "full", "full@x.test"},
		{"configured", "a@y.test", "", "full", "full", "full@x.test"},
		{"asked before configured", "--account other a@y.test", "From: me@z.test\n", "full", "other", "me@host.test"},
		{"by From", "a@y.test", "From: other@x.test\n", "", "other", "other@x.test"},
		{"by -f", "-f other@x.test a@y.test", "", "", "other", "other@x.test"},
		{"never the full one by From", "a@y.test", "From: full@x.test\nSubject: x\n", "cron", "cron", "cron@x.test"},
		{"keep", "--account other -f boss@y.test a@y.test", "From: boss@y.test\n", "", "other", "boss@y.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, q := machine(t)
			s.Ways = append(s.Ways, full, other)
			s.Default = c.deflt
			if _, err := s.Send(t.Context(), mustParse(t, c.args), strings.NewReader(c.head+"\nx\n")); err != nil {
				t.Fatal(err)
			}
			if q.envelope.Account != c.account || q.envelope.From != c.from {
				t.Errorf("by %q from %q, want %q %q", q.envelope.Account, q.envelope.From, c.account, c.from)
			}
		})
	}
}

func TestLocalNames(t *testing.T) {
	for _, c := range []struct {
		name, domain, mailname string
		root                   []string
		address                string
		want                   []string
	}{
		{"hostname", "", "", nil, "bob", []string{"bob@host.test"}},
		{"mailname", "", "mail.test", nil, "bob", []string{"bob@mail.test"}},
		{"domain", "x.test", "mail.test", nil, "bob", []string{"bob@x.test"}},
		{"root=", "", "", []string{"ops@x.test"}, "root", []string{"ops@x.test"}},
		{"root= for others", "", "", []string{"ops@x.test"}, "bob", []string{"ops@x.test"}},
		{"root= with a domain", "x.test", "", []string{"ops@x.test"}, "bob", []string{"bob@x.test"}},
		{"root with a domain", "x.test", "", []string{"ops@x.test"}, "root", []string{"ops@x.test"}},
		{"address of the mailname", "", "mail.test", []string{"ops@x.test"}, "bob@mail.test", []string{"ops@x.test"}},
		{"somebody else's root", "", "", []string{"ops@x.test"}, "root@y.test", []string{"root@y.test"}},
	} {
		s := &Sender{Host: "host.test", Domain: c.domain, Mailname: c.mailname, Root: c.root}
		if got, err := s.Where(c.address, false); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestSendMail(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "bericht ü.txt")
	if err := os.WriteFile(file, bytes.Repeat([]byte("daten\n"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		args  []string
		in    string
		to    []string
		has   []string
		lacks []string
	}{
		{"plain", []string{"-s", "hello", "a@y.test"}, "text\n", []string{"a@y.test"}, []string{"Subject: hello\r\n", "To: a@y.test\r\n", "\r\n\r\ntext\r\n"}, []string{"multipart"}},
		{"UTF-8", []string{"-s", "Grüße", "a@y.test"}, "Grüße\n", []string{"a@y.test"}, []string{"charset=utf-8", "8bit", "Subject: Grüße\r\n"}, nil},
		{"neither UTF-8 nor ASCII", []string{"a@y.test"}, "Gr\xfc\xdfe\n", []string{"a@y.test"}, []string{"unknown-8bit", "Gr\xfc\xdfe"}, nil},
		{"binary", []string{"a@y.test"}, "a\x00b", []string{"a@y.test"}, []string{"application/octet-stream", "YQBi"}, nil},
		{"copies", []string{"-c", "c@y.test", "-b", "b@y.test", "root"}, "x\n", []string{"ops@x.test", "second@x.test", "c@y.test", "b@y.test"}, []string{"Cc: c@y.test", "To: root@host.test"}, []string{"b@y.test"}},
		{"subject cannot be a field", []string{"-s", "x\nBcc: evil@y.test", "a@y.test"}, "x\n", []string{"a@y.test"}, nil, []string{"\nBcc"}},
		{"header value neither", []string{"-a", "X-A: 1\r\nX-B: 2", "a@y.test"}, "x\n", []string{"a@y.test"}, []string{"X-A: 1"}, []string{"\nX-B"}},
		{"HTML by header", []string{"-a", "Content-Type: text/html", "a@y.test"}, "<p>ü\n", []string{"a@y.test"}, []string{"text/html; charset=utf-8"}, []string{"text/plain"}},
		{"attachment", []string{"-s", "s", "-a", file, "a@y.test"}, "text\n", []string{"a@y.test"}, []string{"multipart/mixed", "filename*=utf-8''bericht%20%C3%BC.txt", "ZGF0ZW4K"}, nil},
		{"sendmail options", []string{"-s", "s", "a@y.test", "--", "-f", "alias@x.test", "-Nnever"}, "x\n", []string{"a@y.test"}, nil, nil},
		{"tilde is text", []string{"a@y.test"}, "~!touch /tmp/x\n~r /etc/passwd\n", []string{"a@y.test"}, []string{"~!touch /tmp/x\r\n~r /etc/passwd\r\n"}, nil},
		{"-t", []string{"-t", "-s", "s"}, "To: a@y.test\n\nx\n", []string{"a@y.test"}, []string{"Subject: s"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, q := machine(t)
			m, err := ParseMail(c.args, Surveyor{IsAccount: func(string) bool { return false }, IsFile: func(p string) bool { return p == file }})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.SendMail(t.Context(), m, strings.NewReader(c.in)); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(q.to(), c.to) {
				t.Errorf("to %q, want %q", q.to(), c.to)
			}
			for _, text := range c.has {
				if !strings.Contains(q.text, text) {
					t.Errorf("lacks %q:\n%s", text, q.text)
				}
			}
			for _, text := range c.lacks {
				if strings.Contains(q.text, text) {
					t.Errorf("has %q:\n%s", text, q.text)
				}
			}
		})
	}
}

func TestEmptyMail(t *testing.T) {
	s, q := machine(t)
	m, err := ParseMail([]string{"-E", "a@y.test"}, Surveyor{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SendMail(t.Context(), m, strings.NewReader(" \n")); !errors.Is(err, ErrEmpty) || q.count != 0 {
		t.Errorf("%v, %d queued", err, q.count)
	}
	if _, err := s.SendMail(t.Context(), m, strings.NewReader("x")); err != nil || q.count != 1 {
		t.Errorf("%v, %d queued", err, q.count)
	}
}

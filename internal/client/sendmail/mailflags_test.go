package sendmail

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

func mailMeaning(m Mail) string {
	var words []string
	add := func(yes bool, format string, args ...any) {
		if yes {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	if m.Subject != nil {
		add(true, "s=%s", *m.Subject)
	}
	add(m.From != "", "from=%s", m.From)
	add(m.Account != "", "account=%s", m.Account)
	for _, h := range m.Headers {
		add(true, "h=%s:%s", h.Name, h.Value)
	}
	for _, f := range m.Attachments {
		add(true, "file=%s", f)
	}
	add(m.BodyType != "", "type=%s", m.BodyType)
	add(m.Quote != "", "quote=%s", m.Quote)
	add(m.SkipEmpty, "empty")
	add(m.FromHeader, "t")
	add(m.Debug, "d")
	add(m.Sendmail.Verbose, "v")
	for _, r := range m.To {
		add(true, "to=%s", r)
	}
	for _, r := range m.Cc {
		add(true, "cc=%s", r)
	}
	for _, r := range m.Bcc {
		add(true, "bcc=%s", r)
	}
	if m.Sendmail.Sender != nil {
		add(true, "sender=%s", *m.Sendmail.Sender)
	}
	for _, text := range m.Ignored {
		add(true, "ignored=%q", text)
	}
	return strings.Join(words, " ")
}

func survey() Surveyor {
	return Surveyor{IsAccount: func(n string) bool { return n == "acct" }, IsFile: func(p string) bool { return p == "here" }}
}

func TestMailFlags(t *testing.T) {
	data, err := os.ReadFile("testdata/mail.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		args, want, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " | ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		m, err := ParseMail(shellWords(args), survey())
		got := mailMeaning(m)
		if err != nil {
			got = fmt.Sprint(code(err))
		}
		if got != want {
			t.Errorf("mail %s\n got %s (%v)\nwant %s", args, got, err, want)
		}
	}
}

func FuzzParseMail(f *testing.F) {
	for _, row := range tableOfSeeds(f, "mail.txt", 0) {
		f.Add(strings.Join(shellWords(row), "\x00"))
	}
	f.Fuzz(func(t *testing.T, joined string) {
		m, err := ParseMail(strings.Split(joined, "\x00"), survey())
		if err != nil {
			if code(err) != cli.Usage {
				t.Fatalf("%q: %v", joined, err)
			}
			return
		}
		head, err := m.head()
		if err != nil {
			return
		}
		// However many arguments there were: no field that nobody asked for.
		for line := range strings.Lines(head) {
			name, _, ok := strings.Cut(line, ":")
			if !ok || strings.ContainsAny(name, " \t\r") || strings.ContainsRune(strings.TrimSuffix(line, "\n"), '\r') {
				t.Fatalf("%q: header line %q", joined, line)
			}
		}
	})
}

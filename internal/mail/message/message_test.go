package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func read(t testing.TB, text string) *Message {
	t.Helper()
	m, err := Read(strings.NewReader(text), Limits{})
	if err != nil {
		t.Fatalf("%.60q: %v", text, err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func all(t testing.TB, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func completion() Completion {
	return Completion{From: Mailbox{Name: "Jo \"J\" Müller", Address: "jo"}, Domain: "d.example", Host: "h.example",
		Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Random: strings.NewReader("0123456789")}
}

// complete is the whole way a message goes at the front door.
func complete(t testing.TB, text string) *Message {
	t.Helper()
	m := read(t, text)
	m.StripBcc()
	if err := m.Complete(completion()); err != nil {
		t.Fatal(err)
	}
	return m
}

func prepared(t testing.TB, m *Message, can Capabilities) string {
	t.Helper()
	p, err := Prepare(m.Reader(), can)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if n, err := p.WriteTo(&b); err != nil || n != p.Size() || int(n) != b.Len() {
		t.Fatalf("wrote %d of %d: %v", n, p.Size(), err)
	}
	return b.String()
}

// What Read makes of bytes: header and body, as they will be on the wire.
func TestRead(t *testing.T) {
	for _, test := range []struct{ name, in, out string }{
		{"LF", "A: 1\nB: 2\n\nx\ny\n", "A: 1\r\nB: 2\r\n\r\nx\r\ny\r\n"},
		{"CRLF", "A: 1\r\n\r\nx\r\n", "A: 1\r\n\r\nx\r\n"},
		{"bare CR", "A: 1\n\nx\ry\n", "A: 1\r\n\r\nx\r\ny\r\n"},
		{"CR CRLF", "A: 1\n\nx\r\r\ny\n", "A: 1\r\n\r\nx\r\n\r\ny\r\n"},
		{"mixed", "A: 1\r\nB: 2\n\r\nx\ny\r\n", "A: 1\r\nB: 2\r\n\r\nx\r\ny\r\n"},
		{"lone dots", "A: 1\n\n.\nafter\n..\n.\n", "A: 1\r\n\r\n.\r\nafter\r\n..\r\n.\r\n"},
		{"dot and CR", "A: 1\n\n.\r.\n", "A: 1\r\n\r\n.\r\n.\r\n"},
		{"no last line end", "A: 1\n\nx", "A: 1\r\n\r\nx\r\n"},
		{"header only", "A: 1\n", "A: 1\r\n\r\n"},
		{"header only, no end", "A: 1", "A: 1\r\n\r\n"},
		{"nothing", "", "\r\n"},
		{"no header block", "just text\nmore: text\n", "\r\njust text\r\nmore: text\r\n"},
		{"one word", "hello", "\r\nhello\r\n"},
		{"separator first", "\nA: 1\n", "\r\nA: 1\r\n"},
		{"blank first line", "  \nA: 1\n", "\r\n  \r\nA: 1\r\n"},
		{"no separator", "A: 1\nthis is text\nB: 2\n", "A: 1\r\n\r\nthis is text\r\nB: 2\r\n"},
		{"folded", "A: 1\n 2\n\t3\nB: 4\n\nx\n", "A: 1\r\n 2\r\n\t3\r\nB: 4\r\n\r\nx\r\n"},
		{"fold of blanks", "A: 1\n \nB: 2\n\nx\n", "A: 1\r\n \r\nB: 2\r\n\r\nx\r\n"},
		{"blank before colon", "To : b@x\n\nx\n", "To : b@x\r\n\r\nx\r\n"},
		{"odd blanks", "A:1\nB:\t2  \n\nx  \n", "A:1\r\nB:\t2  \r\n\r\nx  \r\n"},
		{"mbox line", "From a@x Mon Mar  2 10:00:00 2026\nA: 1\n\nFrom here\n", "A: 1\r\n\r\nFrom here\r\n"},
		{"prose From", "From here to eternity\nA: 1\n", "\r\nFrom here to eternity\r\nA: 1\r\n"},
		{"octets over 127", "Subject: \xff\xfe\n\n\xff\n", "Subject: \xff\xfe\r\n\r\n\xff\r\n"},
		{"not a name", "Süb: 1\n\nx\n", "\r\nSüb: 1\r\n\r\nx\r\n"},
		{"100 KB line", "A: 1\n\n" + strings.Repeat("x", 100_000) + "\n", "A: 1\r\n\r\n" + strings.Repeat("x", 100_000) + "\r\n"},
		{"5,000 octet header", "A: " + strings.Repeat("x", 5000) + "\n\n", "A: " + strings.Repeat("x", 5000) + "\r\n\r\n"},
	} {
		m := read(t, test.in)
		if got := all(t, m.Reader()); got != test.out {
			t.Errorf("%s: %.200q, want %.200q", test.name, got, test.out)
		}
		if m.Size() != int64(len(test.out)) {
			t.Errorf("%s: size %d, want %d", test.name, m.Size(), len(test.out))
		}
		// One octet at a time: no rule may depend on how the bytes come in.
		slow, err := Read(oneByOne{strings.NewReader(test.in)}, Limits{Memory: 10, Folder: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if got := all(t, slow.Reader()); got != test.out || slow.facts.eightBit != m.facts.eightBit || slow.facts.longest != m.facts.longest {
			t.Errorf("%s, slowly: %.200q", test.name, got)
		}
		_ = slow.Close()
	}
}

type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name, in string
		limits   Limits
		want     error
	}{
		{"NUL in body", "A: 1\n\nx\x00y\n", Limits{}, ErrNUL},
		{"NUL in header", "A: \x00\n\nx\n", Limits{}, ErrNUL},
		{"size", "A: 1\n\n" + strings.Repeat("x", 1000), Limits{Size: 1000}, ErrTooLarge},
		{"header", "A: " + strings.Repeat("x\n ", 1000), Limits{Header: 1000}, ErrTooLarge},
		{"header line", "A: " + strings.Repeat("x", 1000), Limits{Header: 1000}, ErrTooLarge},
		{"size in a file", "A: 1\n\n" + strings.Repeat("x", 100_000), Limits{Size: 90_000, Memory: 100}, ErrTooLarge},
	} {
		test.limits.Folder = t.TempDir()
		if _, err := Read(strings.NewReader(test.in), test.limits); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	// Text that looks like no header is body however long its first line is.
	if m, err := Read(strings.NewReader(strings.Repeat("x", 5000)), Limits{Header: 1000}); err != nil || m.Size() != 5004 {
		t.Errorf("long first line: %v", err)
	}
}

func TestRecipients(t *testing.T) {
	for _, test := range []struct {
		name, in, want string
		faults         int
	}{
		{"plain", "To: b@x, c@x\nCc: d@x\nBcc: e@x\n\n", "b@x c@x d@x e@x", 0},
		{"bare names", "To: root, ops\n\n", "root ops", 0},
		{"blank before colon", "To : b@x\n\n", "b@x", 0},
		{"case", "TO: b@x\nbcc: c@x\n\n", "b@x c@x", 0},
		{"folded Bcc", "Bcc: b@x,\n c@x,\n\td@x\n\n", "b@x c@x d@x", 0},
		{"group", "To: Team: b@x, \"C\" <c@x>; , d@x\n\n", "b@x c@x d@x", 0},
		{"empty group", "To: undisclosed-recipients:;\n\n", "", 0},
		{"comments", "To: b(one)@x(two), (three) <c@x> (four), d@x (five (six))\n\n", "b@x c@x d@x", 0},
		{"quoted local part", "To: \"a b\"@x, \"c\"@x, \"d\\\"e\"@x, \"f@g\"@x\n\n", `"a b"@x c@x "d\"e"@x "f@g"@x`, 0},
		{"quoted name with comma", "To: \"B, b\" <b@x>, \"C <evil@x>\" <c@x>\n\n", "b@x c@x", 0},
		{"encoded words", "To: =?utf-8?q?B=C3=BC?= <b@x>, =?utf-8?b?w7w=?= <c@x>\n\n", "b@x c@x", 0},
		{"raw names", "To: Bü <b@x>, B\xfc <c@x>\n\n", "b@x c@x", 0},
		{"UTF-8 address", "To: bü@exämple.org\n\n", "bü@exämple.org", 0},
		{"source route", "To: <@hop,@hop2:b@x>\n\n", "b@x", 0},
		{"domain literal", "To: b@[192.0.2.1]\n\n", "b@[192.0.2.1]", 0},
		{"dots that are not valid", "To: b..c@x, .d@x\n\n", `"b..c"@x ".d"@x`, 0},
		{"empty elements", "To: ,, b@x,,\n\n", "b@x", 0},
		{"semicolons", "To: b@x; c@x\n\n", "b@x c@x", 0},
		{"doubles", "To: b@x, b@X, B@x\nCc: b@x\n\n", "b@x B@x", 0},
		{"bad beside good", "To: b@x, bad one@x, c@x\n\n", "b@x c@x", 1},
		{"8-bit address", "To: b\xfc@x, c@x\n\n", "c@x", 1},
		{"unclosed", "To: \"b <b@x>, c@x\nCc: d@x\n\n", "d@x", 1},
		{"no closing angle", "To: <b@x, c@x\n\n", "", 1},
		{"text in body is no header", "To: b@x\ntext\nCc: c@x\n\n", "b@x", 0},
		{"Resent", "Resent-To: r@x\nResent-Bcc: s@x\nTo: b@x\nBcc: c@x\n\n", "r@x s@x", 0},
		{"two resent blocks", "Resent-From: a@x\nResent-To: new@x\nResent-From: b@x\nResent-To: old@x\nTo: c@x\n\n", "new@x", 0},
		{"resent blocks apart", "Resent-To: new@x\nReceived: by y\nResent-To: old@x\nTo: c@x\n\n", "new@x", 0},
		{"resent without recipients", "Resent-From: a@x\nTo: b@x\n\n", "", 0},
		{"500", "To: " + strings.TrimSuffix(strings.Repeat("u@x, ", 500), ", ") + "\n\n", "u@x", 0},
	} {
		m := read(t, test.in)
		got, err := m.Recipients()
		faults := 0
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				var a *AddressError
				if !errors.As(e, &a) {
					t.Errorf("%s: %v is no AddressError", test.name, e)
				}
				faults++
			}
		}
		if strings.Join(got, " ") != test.want || faults != test.faults {
			t.Errorf("%s: %q and %d faults (%v), want %q and %d", test.name, got, faults, err, test.want, test.faults)
		}
	}
}

func TestBccNeverLeaves(t *testing.T) {
	m := complete(t, "To: b@x\nBcc: secret1@x,\n secret2@x\nBCC : secret3@x\nResent-Bcc: secret4@x\n\tsecret5@x\nX: y\n\nBcc: text\n")
	if got := all(t, m.Reader()); strings.Contains(got, "secret") || !strings.Contains(got, "X: y\r\n") || !strings.Contains(got, "\r\n\r\nBcc: text\r\n") {
		t.Errorf("%q", got)
	}
}

func TestArgv(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"b@x", "b@x"}, {"a@x, b@x", "a@x b@x"}, {"Bob <b@x>", "b@x"}, {"root", "root"}, {"-x@y", "-x@y"},
		{`"Bob, B" <b@x>,c@x`, "b@x c@x"}, {"bü@x", "bü@x"}, {"root (Cron)", "root"}, {"G: a@x, b@x;", "a@x b@x"},
		{"bob>\r\nRCPT TO:<evil@x", ""}, {"b@x\n", ""}, {"b\x00@x", ""}, {"b\x1b@x", ""}, {"b\x7f@x", ""}, {"b\u0085@x", ""},
		{"b\xfc@x", ""}, {"", ""}, {" ", ""}, {"<>", ""}, {"b@", ""}, {"@x", ""}, {"b@x@y", ""}, {"b@x y", ""}, {"<b@x", ""},
		{"b@x>", ""}, {"<b@x> SIZE=1", ""}, {"b@x..y", ""}, {"b@-x/y", ""}, {"b@[x", ""}, {"<<b@x>>", ""}, {"b@x\u2028", ""},
		{strings.Repeat("b", 600) + "@x", ""}, {"b@x,bad bad", ""},
	} {
		got, err := ParseAddresses(test.in)
		var fault *AddressError
		if strings.Join(got, " ") != test.want || (err != nil) != (test.want == "") || err != nil && !errors.As(err, &fault) {
			t.Errorf("%q: %q, %v; want %q", test.in, got, err, test.want)
		}
	}
	for in, want := range map[string]string{"": "", "<>": "", " <> ": "", "a@x": "a@x", "A <a@x>": "a@x", "root": "root"} {
		if got, err := ParseSender(in); got != want || err != nil {
			t.Errorf("sender %q: %q, %v", in, got, err)
		}
	}
	if _, err := ParseSender("a@x, b@x"); err == nil {
		t.Error("two senders")
	}
}

func TestComplete(t *testing.T) {
	const mime = "Content-Type: text/plain; charset=%s\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n"
	const own = "Date: Sun, 01 Mar 2026 12:00:00 +0000\r\nMessage-ID: <mm7p6yo0.gaytemzugu3doobz@h.example>\r\n"
	const from = "From: =?utf-8?b?Sm8gIkoiIE3DvGxsZXI=?= <jo@d.example>\r\n"
	const has = "Date: d\r\nMessage-ID: m\r\nFrom: a@x\r\n"
	for _, test := range []struct{ name, in, out string }{
		{"all", "To: b@x\n\nhi\n", "To: b@x\r\n" + own + from + "\r\nhi\r\n"},
		{"nothing", has + "\nhi\n", has + "\r\nhi\r\n"},
		{"just text", "just text", own + from + "\r\njust text\r\n"},
		{"domain", "From: root (Cron Daemon)\nTo: root,\n \"ops\" <ops>, b@x, G: c;\nDate: d\nMessage-ID: m\n\n",
			"From: root@d.example (Cron Daemon)\r\nTo: root@d.example,\r\n \"ops\" <ops@d.example>, b@x, G: c@d.example;\r\nDate: d\r\nMessage-ID: m\r\n\r\n"},
		{"8-bit", has + "\nü\n", has + fmt.Sprintf(mime, "utf-8") + "\r\nü\r\n"},
		{"Latin-1", has + "\n\xfc\n", has + fmt.Sprintf(mime, "unknown-8bit") + "\r\n\xfc\r\n"},
		{"labelled", has + "MIME-Version: 1.0\nContent-Type: text/html\n\nü\n", has + "MIME-Version: 1.0\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: 8bit\r\n\r\nü\r\n"},
		{"signed", has + "DKIM-Signature: v=1\nTo: root\n\nü\n", has + "DKIM-Signature: v=1\r\nTo: root\r\n\r\nü\r\n"},
		{"resent", "Received: y\nResent-To: b@x\n" + has + "\n", "Received: y\r\nResent-Date: Sun, 01 Mar 2026 12:00:00 +0000\r\nResent-" + from +
			"Resent-Message-ID: <mm7p6yo0.gaytemzugu3doobz@h.example>\r\nResent-To: b@x\r\n" + has + "\r\n"},
	} {
		if got := all(t, complete(t, test.in).Reader()); got != test.out {
			t.Errorf("%s:\n%q, want\n%q", test.name, got, test.out)
		}
	}
}

func TestRewriteFrom(t *testing.T) {
	for in, want := range map[string]string{
		"From: Bob <root@box>":         "From: Bob <me@x>",
		"From: root (Cron Daemon)":     "From: me@x (Cron Daemon)",
		"From: \"B\"\n <b@x>":          "From: \"B\"\r\n <me@x>",
		"From: Bob <b@x>, Eve <e@x>":   "From: \"Bob\" <me@x>",
		"From: \"unclosed <b@x>":       "From: me@x",
		"From: a@x\nFrom: b@x":         "From: me@x",
		"Sender: s@x\nFrom: Ü <b@x>":   "From: Ü <me@x>",
		"Subject: x":                   "Subject: x\r\nFrom: me@x",
		"From : b@x\nResent-From: c@x": "From: me@x\r\nResent-From: c@x",
	} {
		m := read(t, in+"\n\n")
		if err := m.RewriteFrom("me@x"); err != nil {
			t.Fatal(err)
		}
		if got := all(t, m.Reader()); got != want+"\r\n\r\n" {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if err := read(t, "From: a@x\n\n").RewriteFrom("a@x\r\nBcc: evil@x"); err == nil {
		t.Error("injected")
	}
}

func TestSetCannotInject(t *testing.T) {
	m := read(t, "A: 1\nB: 2\na: 3\n\nx\n")
	m.Set("A", "4\r\nBcc: evil@x\n\nbody")
	if got := all(t, m.Reader()); got != "A: 4  Bcc: evil@x  body\r\nB: 2\r\n\r\nx\r\n" {
		t.Errorf("%q", got)
	}
	if got := FormatMailbox(Mailbox{Name: "x\r\nBcc: evil@x", Address: "a@x"}); strings.ContainsAny(got, "\r\n") {
		t.Errorf("%q", got)
	}
}

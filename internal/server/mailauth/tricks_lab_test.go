//go:build lab

package mailauth_test

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// TestTricksOnTheWire sends what no library would: octets that Postfix and readers of
// mail take apart in different ways. Either it is refused, or what arrives holds no
// second From for anybody.
func TestTricksOnTheWire(t *testing.T) {
	p := startPostWith(t, "smtpd_milters = unix:private/letterlock-milter\n")
	for name, head := range map[string]string{
		"NUL in From":                 "From: ann@try.test\x00, bob@try.test\r\n",
		"NUL before From":             "From: ann@try.test\r\nX: y\x00\nFrom: bob@try.test\r\n",
		"bare CR before a second":     "From: ann@try.test\r\nX: y\rFrom: bob@try.test\r\n",
		"bare CR in From":             "From: ann@try.test\rFrom: bob@try.test\r\n",
		"bare LF before a second":     "From: ann@try.test\r\nX: y\nFrom: bob@try.test\r\n",
		"space before the colon":      "From: ann@try.test\r\nFrom : bob@try.test\r\n",
		"tab before the colon":        "From: ann@try.test\r\nFrom\t: bob@try.test\r\n",
		"folded name":                 "From: ann@try.test\r\nFrom\r\n : bob@try.test\r\n",
		"folded away":                 "From: ann@try.test\r\nX: y\r\n From: bob@try.test\r\n",
		"mbox line first":             "From bob@try.test Mon Jan 1 00:00:00 2026\r\nFrom: bob@try.test\r\nFrom: ann@try.test\r\n",
		"empty first line":            "\r\nFrom: bob@try.test\r\n",
		"space first":                 " From: bob@try.test\r\nFrom: ann@try.test\r\n",
		"a line that is no field":     "From: ann@try.test\r\nnonsense\r\nFrom: bob@try.test\r\n",
		"a name with an octet over":   "From: ann@try.test\r\nFrom\xa0: bob@try.test\r\n",
		"very long":                   "From: ann@try.test,\r\n " + strings.Repeat("ann@try.test,\r\n ", 8000) + "bob@try.test\r\n",
		"very long other field first": "X: " + strings.Repeat("y", 200_000) + "\r\nFrom: bob@try.test\r\n",
	} {
		l := p.letter()
		sent := len(p.sink.Messages())
		out, _ := p.run(head+"Subject: trick\r\n\r\nhello\r\n", "python3", "-c", pythonRaw, itoa(p.postfix.Submission), p.ca.File, l.user, l.password)
		if strings.Contains(out, "end 250") && slices.Contains([]string{"bare CR in From", "bare LF before a second",
			"space before the colon", "tab before the colon", "mbox line first", "very long"}, name) {
			t.Errorf("%s: accepted", name)
		}
		if !strings.Contains(out, "end 250") {
			if !strings.Contains(out, "end 550") {
				t.Errorf("%s: %s", name, out)
			}
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		all, err := p.sink.Wait(ctx, sent+1)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		text := string(all[len(all)-1].Data)
		header, _, _ := strings.Cut(text, "\r\n\r\n")
		t.Logf("%s: accepted, and arrives as %.300q", name, header)
		// The most forgiving reader: every kind of line end ends a line.
		for line := range strings.FieldsFuncSeq(header, func(r rune) bool { return r == '\r' || r == '\n' || r == 0 }) {
			key, value, _ := strings.Cut(line, ":")
			if strings.EqualFold(strings.TrimRight(strings.TrimSuffix(key, "\xa0"), " \t"), "from") && !strings.Contains(value, "ann@") || strings.Contains(strings.ToLower(line), ", bob@") {
				t.Errorf("%s: a From of bob's arrives: %q", name, line)
			}
		}
	}
}

// pythonRaw writes the message as it is, dots and all.
const pythonRaw = `
import sys, ssl, smtplib
port, ca, user, secret = sys.argv[1:5]
text = sys.stdin.buffer.read()
c = smtplib.SMTP("127.0.0.1", int(port), timeout=100)
c.starttls(context=ssl.create_default_context(cafile=ca))
c.ehlo()
c.login(user, secret)
c.mail("ann@try.test"); c.rcpt("friend@elsewhere.test"); c.docmd("DATA")
try:
    c.send(text + b".\r\n")
    pair = c.getreply()
    print("end", pair[0], pair[1].decode())
except Exception as e: print("broken", e)
`

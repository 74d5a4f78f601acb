package callers

import (
	"fmt"
	"mime"
	"net/mail"
	"slices"
	"strings"
	"testing"
)

// A letter is a message in parts that can be compared.
type letter struct {
	fields []field
	body   string
}

// A field keeps its bytes: everything after the colon, folds too.
type field struct{ name, value string }

// readLetter takes a message apart. Text that does not begin with a header field is
// all body.
func readLetter(text string) letter {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	var l letter
	for text != "" {
		line, rest, _ := strings.Cut(text, "\n")
		if line == "" {
			text = rest
			break
		}
		name, value, colon := strings.Cut(line, ":")
		switch {
		case (line[0] == ' ' || line[0] == '\t') && len(l.fields) > 0:
			l.fields[len(l.fields)-1].value += "\n" + line
		case colon && name != "" && !strings.ContainsAny(name, " \t"):
			l.fields = append(l.fields, field{name, value})
		default:
			l.body = text
			return l
		}
		text = rest
	}
	l.body = text
	return l
}

// take removes the fields of the names and returns what the last one said.
func (l *letter) take(names ...string) (value string) {
	l.fields = slices.DeleteFunc(l.fields, func(f field) bool {
		found := slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, f.name) })
		if found {
			value = strings.TrimSpace(f.value)
		}
		return found
	})
	return value
}

func (l letter) clone() letter { return letter{slices.Clone(l.fields), l.body} }

func (l letter) get(name string) string {
	for _, f := range l.fields {
		if strings.EqualFold(f.name, name) {
			return strings.TrimSpace(f.value)
		}
	}
	return ""
}

// subject is the Subject as a person reads it.
func (l letter) subject() string {
	text, err := new(mime.WordDecoder).DecodeHeader(strings.ReplaceAll(l.get("Subject"), "\n", ""))
	if err != nil {
		return err.Error()
	}
	return text
}

// differences says how the letter that arrived is not the one that a caller wrote.
// What may differ: the author's address, which has to be ours, Bcc, which has to be
// gone, and fields that a caller may leave to sendmail. All else is compared byte for
// byte, in its order.
func differences(wrote, got letter, ours string) []string {
	var out []string
	author, written := got.take("From"), wrote.take("From")
	address, err := mail.ParseAddress(author)
	switch {
	case err != nil || address.Address != ours:
		out = append(out, fmt.Sprintf("From is %q, %v", author, err))
	case !strings.Contains(author, shownName(written)):
		out = append(out, fmt.Sprintf("From was %q and is %q", written, author))
	}
	wrote.take("Bcc", "Resent-Bcc", "Return-Path")
	for i, f := range wrote.fields {
		if f.name == "To" || f.name == "Cc" {
			wrote.fields[i].value = " " + qualified(strings.TrimSpace(f.value))
		}
	}
	for _, name := range []string{"Bcc", "Resent-Bcc"} {
		if got.get(name) != "" {
			out = append(out, name+" is shown")
		}
	}
	at := 0
	for _, f := range got.fields {
		switch {
		case at < len(wrote.fields) && f == wrote.fields[at]:
			at++
		case wrote.get(f.name) == "" && slices.Contains([]string{"Date", "Message-ID", "To", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}, f.name):
		default:
			out = append(out, fmt.Sprintf("a field more: %s:%s", f.name, f.value))
		}
	}
	for _, f := range wrote.fields[at:] {
		out = append(out, fmt.Sprintf("a field less: %s:%s", f.name, f.value))
	}
	for _, name := range []string{"Date", "Message-ID"} {
		if got.get(name) == "" {
			out = append(out, "there is no "+name)
		}
	}
	if strings.TrimSuffix(wrote.body, "\n") != strings.TrimSuffix(got.body, "\n") {
		out = append(out, fmt.Sprintf("the body was %q and is %q", wrote.body, got.body))
	}
	return out
}

// qualified completes a name without domain, which means somebody on this machine, as
// RFC 5322 section 3.4.1 wants it in a header.
func qualified(to string) string {
	if strings.ContainsAny(to, "@,:\n") {
		return to
	}
	return to + "@box.try.test"
}

// shownName is what stands before an address, or in a comment behind it.
func shownName(from string) string {
	if name, _, ok := strings.Cut(from, "<"); ok {
		return strings.Trim(strings.TrimSpace(name), `"`)
	}
	_, name, _ := strings.Cut(from, "(")
	name, _, _ = strings.Cut(name, ")")
	return name
}

func TestDifferences(t *testing.T) {
	wrote := readLetter("From: root (Cron Daemon)\nTo: root\nCc: a@b\nX-Long: a\n b\nBcc: c@d\n\none\n.\n")
	good := "From: Cron Daemon <you@try.test>\nTo: root@box.try.test\nCc: a@b\nX-Long: a\n b\nDate: now\nMessage-ID: <1@x>\n\none\n.\n"
	if got := differences(wrote, readLetter(good), "you@try.test"); got != nil {
		t.Errorf("the same: %q", got)
	}
	for name, change := range map[string][2]string{
		"another body":    {"\n.\n", "\n"},
		"another value":   {"To: root", "To: toor"},
		"unfolded":        {"a\n b", "a b"},
		"field gone":      {"Cc: a@b\n", ""},
		"field new":       {"Cc: a@b\n", "Cc: a@b\nX: all\n"},
		"other order":     {"Cc: a@b\nX-Long: a\n b\n", "X-Long: a\n b\nCc: a@b\n"},
		"Bcc shown":       {"Date:", "Bcc: c@d\nDate:"},
		"other author":    {"you@try.test", "root@box"},
		"author's name":   {"Cron Daemon", "Somebody"},
		"no date":         {"Date: now\n", ""},
		"no message id":   {"Message-ID: <1@x>\n", ""},
		"a field twice":   {"Cc: a@b\n", "Cc: a@b\nCc: a@b\n"},
		"header to body":  {"\n\none", "\nno header\none"},
		"nothing arrived": {good, ""},
	} {
		if got := differences(wrote, readLetter(strings.Replace(good, change[0], change[1], 1)), "you@try.test"); got == nil {
			t.Errorf("%s: nothing was found", name)
		}
	}
}

// decoded is a field's text without the encoding of RFC 2047.
func decoded(text string) string {
	out, err := new(mime.WordDecoder).DecodeHeader(strings.ReplaceAll(text, "\n", ""))
	if err != nil {
		return err.Error()
	}
	return out
}

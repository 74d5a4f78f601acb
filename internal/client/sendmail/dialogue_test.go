package sendmail

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// talk plays a dialogue: lines as given, with the ends given; it returns the replies'
// codes.
func talk(t *testing.T, s *Sender, in string) (codes []string, out string) {
	t.Helper()
	var b bytes.Buffer
	if err := s.Serve(t.Context(), Options{Mode: Dialogue}, strings.NewReader(in), &b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if !strings.HasSuffix(line, "\r\n") || len(line) < 6 {
			t.Fatalf("no reply line: %q", line)
		}
		if line[3] == ' ' {
			codes = append(codes, line[:3])
		}
	}
	return codes, b.String()
}

func TestDialogue(t *testing.T) {
	for _, c := range []struct {
		name, in, codes string
		count           int
		has             string
	}{
		{"alpine", "EHLO h\r\nMAIL FROM:<me@x.test> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<a@y.test>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n", "220 250 250 250 354 250 221", 1, "\r\n\r\n.dot\r\n"},
		{"LF only", "HELO h\nMAIL FROM:<>\nRCPT TO:<root>\nDATA\nSubject: x\n\nb\n.\nQUIT\n", "220 250 250 250 354 250 221", 1, "\r\n\r\nb\r\n"},
		{"two messages", "HELO h\r\nMAIL FROM:<me@x.test>\r\nRCPT TO:<a@y.test>\r\nDATA\r\n\r\n1\r\n.\r\nMAIL FROM:<me@x.test>\r\nRCPT TO:<a@y.test>\r\nDATA\r\n\r\n2\r\n.\r\n", "220 250 250 250 354 250 250 250 354 250", 2, "2\r\n"},
		{"LF.LF does not end what CRLF began", "HELO h\r\nMAIL FROM:<me@x.test>\r\nRCPT TO:<a@y.test>\r\nDATA\r\n\r\n1\n.\nMAIL FROM:<evil@x.test>\r\n.\r\nQUIT\r\n", "220 250 250 250 354 250 221", 1, "MAIL FROM:<evil"},
		{"LF.CRLF neither", "HELO h\r\nMAIL FROM:<me@x.test>\r\nRCPT TO:<a@y.test>\r\nDATA\r\n\r\n1\n.\r\n2\r\n.\r\nQUIT\r\n", "220 250 250 250 354 250 221", 1, "2\r\n"},
		{"order", "MAIL FROM:<a@x>\r\nHELO h\r\nRCPT TO:<a@y>\r\nDATA\r\nMAIL FROM:<a@x.test>\r\nDATA\r\nMAIL FROM:<b@x.test>\r\nRSET\r\nRCPT TO:<a@y>\r\n", "220 503 250 503 503 250 503 503 250 503", 0, ""},
		{"syntax", "EHLO h\r\nMAIL a@x\r\nMAIL FROM:a@x\r\nMAIL FROM:<a b@x>\r\nMAIL FROM:<a@x.test> SIZE=x\r\nMAIL FROM:<a@x.test> BODY=BINARYMIME\r\nMAIL FROM:<a@x.test> X=1\r\nMAIL FROM:<a@x.test> SIZE=99999999\r\nMAIL FROM: <a@x.test> RET=HDRS ENVID=a+2Bb AUTH=<>\r\nRCPT TO:<>\r\nRCPT TO:<a@y.test, b@y.test>\r\nRCPT TO:<a@y.test> X=1\r\nRCPT TO:<prog>\r\nDATA x\r\nFOO\r\n",
			"220 250 501 501 501 501 501 555 552 250 501 501 555 550 503 500", 0, ""},
		{"others", "NOOP\r\nVRFY root\r\nHELP\r\nLHLO h\r\nVERB on\r\n", "220 250 252 214 500 250", 0, ""},
		{"no recipient was good", "HELO h\r\nMAIL FROM:<me@x.test>\r\nRCPT TO:<prog>\r\nDATA\r\n", "220 250 250 550 503", 0, ""},
		{"NUL", "HELO h\r\nMAIL FROM:<me@x.test>\r\nRCPT TO:<a@y.test>\r\nDATA\r\nSubject: x\r\n\r\na\x00b\r\n.\r\nQUIT\r\n", "220 250 250 250 354 554 221", 0, ""},
		{"the end inside a message", "HELO h\r\nMAIL FROM:<me@x.test>\r\nRCPT TO:<a@y.test>\r\nDATA\r\nSubject: x\r\n\r\nhalf\r\n", "220 250 250 250 354 451", 0, ""},
		{"half a command", "HELO h\r\nMAIL FROM:<me@x", "220 250", 0, ""},
		{"a long command", "HELO " + strings.Repeat("x", 5000) + "\r\nNOOP\r\n", "220 500 250", 0, ""},
		{"a long line in the message", "HELO h\r\nMAIL FROM:<me@x.test>\r\nRCPT TO:<a@y.test>\r\nDATA\r\n\r\n" + strings.Repeat("x", 2046) + "\r\n.\r\nQUIT\r\n", "220 250 250 250 354 250 221", 1, ""},
		{"and one of the buffer's size", "HELO h\r\nMAIL FROM:<me@x.test>\r\nRCPT TO:<a@y.test>\r\nDATA\r\n\r\n" + strings.Repeat("x", 2047) + "\r\n.\r\nQUIT\r\n", "220 250 250 250 354 250 221", 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, q := machine(t)
			codes, out := talk(t, s, c.in)
			if got := strings.Join(codes, " "); got != c.codes || q.count != c.count || !strings.Contains(q.text, c.has) {
				t.Errorf("codes %s, %d queued\nwant %s, %d\n%s%q", got, q.count, c.codes, c.count, out, q.text)
			}
		})
	}
}

// A dialogue that is nothing but noise ends.
func TestNoise(t *testing.T) {
	s, _ := machine(t)
	var out bytes.Buffer
	if err := s.Serve(t.Context(), Options{}, strings.NewReader(strings.Repeat("noise\r\n", 10_000)), &out); err == nil || strings.Count(out.String(), "\n") > errorLimit+5 {
		t.Errorf("%v after %d replies", err, strings.Count(out.String(), "\n"))
	}
}

// Whatever comes in, what goes out is replies, and what is queued was sent in DATA.
func FuzzDialogue(f *testing.F) {
	f.Add("EHLO h\r\nMAIL FROM:<me@x.test> RET=FULL ENVID=a+2Bb\r\nRCPT TO:<a@y.test> NOTIFY=NEVER\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n")
	f.Add("HELO h\nMAIL FROM:<\"a>b\"@x.test>\nRCPT TO:<root>\nDATA\n\nx\n.\n")
	f.Add("HELO h\r\nMAIL FROM:<>\r\nRCPT TO:<a@y.test>\r\nDATA\r\n\n.\nRCPT TO:<b@y.test>\r\n.\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		s, q := machine(t)
		var out bytes.Buffer
		_ = s.Serve(t.Context(), Options{}, strings.NewReader(in), &out)
		for line := range strings.Lines(out.String()) {
			if len(line) < 6 || line[0] < '2' || line[0] > '5' || !strings.HasSuffix(line, "\r\n") || strings.Count(line, "\r") != 1 {
				t.Fatalf("no reply: %q", line)
			}
		}
		for _, r := range q.to() {
			if strings.ContainsAny(r, "\r\n\x00") {
				t.Fatalf("recipient %q", r)
			}
		}
	})
}

// However the pipe cuts the bytes, the same message comes out.
func TestDotReader(t *testing.T) {
	const wire = "\r\n..a\r\nb\n.\nc\r.\r\n..\r\n.d\r\n.\r\nrest"
	want := "\r\n.a\r\nb\n.\nc\r.\r\n.\r\nd\r\n"
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(wire), "bytes": iotest.OneByteReader(strings.NewReader(wire))} {
		in := bufio.NewReaderSize(r, 16)
		got, err := io.ReadAll(&dotReader{in: in, start: true})
		rest, _ := io.ReadAll(in)
		if err != nil || string(got) != want || string(rest) != "rest" {
			t.Errorf("%s: %q, %v, rest %q", name, got, err, rest)
		}
	}
}

func TestUntilDot(t *testing.T) {
	for in, want := range map[string]string{
		"a\n.\nb\n": "a\n", "a\n.": "a\n", "a\n": "a\n", ".\r\n": "", "a.\n.b\n": "a.\n.b\n", strings.Repeat("x", 9000) + ".\n": strings.Repeat("x", 9000) + ".\n",
	} {
		if got, err := io.ReadAll(UntilDot(strings.NewReader(in))); err != nil || string(got) != want {
			t.Errorf("%.20q: %.20q, %v", in, got, err)
		}
	}
}

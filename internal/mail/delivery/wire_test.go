package delivery

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// canonical is the stated rule, written in another way: CRLF, LF and CR each end a
// line, and the last line has an end.
func canonical(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
}

// unstuff reads what a server reads: up to CRLF.CRLF.
func unstuff(t *rapid.T, wire []byte) []byte {
	var out []byte
	in := bufio.NewReader(bytes.NewReader(wire))
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("the message has no end: %q", wire)
		}
		if line == ".\r\n" {
			break
		}
		out = append(out, strings.TrimPrefix(line, ".")...)
	}
	if rest, _ := io.ReadAll(in); len(rest) > 0 {
		t.Fatalf("%q comes after the end of the message", rest)
	}
	return out
}

func TestWireProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOf(rapid.SampledFrom([]string{"\r", "\n", "\r\n", ".", "..", "a", "text", "\x00", "\xe9", "\r\n.\r\n", "\n.\n", strings.Repeat("x", 1023), strings.Repeat("y", 1024)})).Draw(t, "pieces")
		text := []byte(strings.Join(pieces, ""))
		var wire bytes.Buffer
		w := newWireWriter(&wire, true)
		for rest := text; len(rest) > 0; { // in whatever chunks it is read
			n := rapid.IntRange(1, len(rest)).Draw(t, "chunk")
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.finish(); err != nil {
			t.Fatal(err)
		}
		wire.WriteString(".\r\n")
		if got, want := unstuff(t, wire.Bytes()), canonical(text); !bytes.Equal(got, want) {
			t.Fatalf("%q arrives as %q, want %q", text, got, want)
		}
	})
}

// TestBodyArrivesAsItIs sends whatever bytes there are to a server that is not ours.
func TestBodyArrivesAsItIs(t *testing.T) {
	ca := lab.RunCA(t)
	r := startRecorder(t, serverTLS(t, ca), nil)
	c := carrier(t, submission(provider.STARTTLS, r.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}), nil)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(rt, "body")
		lines := rapid.SliceOf(rapid.SampledFrom([]string{"\r\n", "\n", ".\r\n", "..", "\r", "line"})).Draw(rt, "lines")
		head := "From: a@x.test\r\nSubject: x\r\n\r\n"
		text := []byte(head + strings.Join(lines, "") + string(body))
		longest := 0
		for line := range bytes.SplitSeq(canonical(text), []byte("\r\n")) {
			longest = max(longest, len(line))
		}
		got := carry(t, c, envelope("you@try.test", "a@x.test"), string(text))
		if got[0].Verdict != queue.Delivered {
			rt.Fatalf("%+v", got)
		}
		n++
		mails := r.all()
		if len(mails) != n {
			rt.Fatalf("%d mails after %d", len(mails), n)
		}
		// Beyond 998 octets a line is encoded, by the rule of package message.
		if arrived := mails[n-1].data; longest <= 998 && !bytes.Equal(arrived, canonical(text)) {
			rt.Fatalf("%q arrived as %q", text, arrived)
		}
	})
}

// TestDiskFaultInTheMessage: a message that cannot be read to its end must not arrive as
// a shorter one.
func TestDiskFaultInTheMessage(t *testing.T) {
	ca := lab.RunCA(t)
	f := startFaulty(t, &faulty{config: serverTLS(t, ca), pipelining: true})
	c := carrier(t, submission(provider.STARTTLS, f.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}), nil)
	whole := hello + strings.Repeat("and so on\r\n", 10_000)
	for reads := 1; reads < 6; reads++ {
		source := &breaking{Reader: strings.NewReader(whole), passes: reads}
		got, err := c.Carry(t.Context(), envelope("", "a@x.test"), source)
		if err != nil {
			t.Fatal(err)
		}
		if source.broke == (got[0].Verdict == queue.Delivered) || source.broke && got[0].Verdict != queue.Deferred {
			t.Errorf("broke in pass %d: %v, %+v", reads, source.broke, got)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.messages == 0 {
		t.Error("no message was read to its end: the test tries too few passes")
	}
}

// breaking fails in the middle of a given pass over the message.
type breaking struct {
	*strings.Reader
	passes int
	broke  bool
}

func (b *breaking) Seek(offset int64, whence int) (int64, error) {
	if offset == 0 && whence == io.SeekStart {
		b.passes--
	}
	return b.Reader.Seek(offset, whence)
}

func (b *breaking) Read(p []byte) (int, error) {
	if b.passes <= 0 && b.Len() < 50_000 {
		b.broke = true
		return 0, errors.New("input/output error")
	}
	return b.Reader.Read(p)
}

func FuzzReply(f *testing.F) {
	for _, seed := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "250-a\r\n251 b\r\n", "550 5.1.1 no\r\n", "25\r\n", "250", "2500 x\r\n", "334 \r\n", "421-\n421\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		whole, wholeErr := readReply(bufio.NewReader(bytes.NewReader(text)))
		drip, dripErr := readReply(bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(text)), 16))
		if (wholeErr == nil) != (dripErr == nil) || whole.String() != drip.String() {
			t.Fatalf("%q is %v %v at once and %v %v in drips", text, whole, wholeErr, drip, dripErr)
		}
		if wholeErr != nil {
			return
		}
		if whole.code < 200 || whole.code > 599 || len(whole.lines) == 0 || len(whole.lines) > maxLines {
			t.Fatalf("%q: %+v", text, whole)
		}
		if whole.status != "" && whole.status[0] != byte('0'+whole.code/100) {
			t.Fatalf("%q: status %s of code %d", text, whole.status, whole.code)
		}
		if !bytes.Contains(text, []byte("\n")) {
			t.Fatalf("%q: a reply without a line end", text)
		}
		// Every line begins with the same code; nothing in a line is one.
		if !strings.HasPrefix(string(text), fmt.Sprint(whole.code)) {
			t.Fatalf("%q is read as %d", text, whole.code)
		}
		parseExtensions(whole.lines)
		a := replyAnswer(whole, "x")
		if a.verdict == queue.Delivered && whole.code/100 != 2 || a.verdict == queue.Refused && whole.code/100 != 5 {
			t.Fatalf("%d becomes %v", whole.code, a.verdict)
		}
	})
}

func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"a@b.c", `"a b"@c.d`, "a>\r\nDATA@b", "a@[127.0.0.1]", "a@[IPv6:::1]", "jürgen@bücher.test", "root", "@", "a@b@c", "a\u2028b@c", `"\""@x`, "a@-b", "\xff@x", "a@b SIZE=1"} {
		f.Add(seed, seed, "FAILURE")
	}
	f.Fuzz(func(t *testing.T, address, original, notify string) {
		e := queue.Envelope{From: address, EnvelopeID: original, To: []queue.Recipient{{Address: address, Original: original, Notify: notify}}}
		if checkEnvelope(e) != nil || checkRecipient(e.To[0]) != nil {
			return
		}
		tr := &transaction{session: &session{can: extensions{names: map[string]string{"DSN": "", "SMTPUTF8": ""}}}, job: &job{envelope: e}}
		line := tr.rcpt(&addressee{Recipient: e.To[0]})
		mail := "MAIL FROM:<" + address + ">" + tr.notices(e)
		for _, line := range []string{line, mail} {
			if strings.ContainsAny(line, "\r\n\x00") || strings.Count(line, "<") != 1 || strings.Count(line, ">") != 1 {
				t.Fatalf("%q leaves as %q", address, line)
			}
			// The path ends where the first > is, and no parameter is the address's.
			path, params, found := strings.Cut(line, ">")
			if _, inside, ok := strings.Cut(path, "<"); !found || !ok || inside != address {
				t.Fatalf("%q leaves as %q", address, line)
			}
			for word := range strings.FieldsSeq(params) {
				name, value, _ := strings.Cut(word, "=")
				switch name {
				case "NOTIFY", "ORCPT", "RET", "ENVID":
				default:
					t.Fatalf("%q brings the parameter %q", address, word)
				}
				if !isPrintable(value) || strings.Contains(value, " ") {
					t.Fatalf("parameter %q", word)
				}
			}
		}
		if ascii, ok := asciiAddress(address); ok && (!isASCII(ascii) || CheckAddress(ascii) != nil && len(ascii) <= maxPath) {
			t.Fatalf("%q becomes %q", address, ascii)
		}
	})
}

package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPrepareHeader(t *testing.T) {
	for _, test := range []struct {
		name, in, out string
		can           Capabilities
		err           error
	}{
		{"ascii", "Subject: x\r\n", "Subject: x\r\n", Capabilities{}, nil},
		{"kept", "Subject: ü\r\n", "Subject: ü\r\n", Capabilities{UTF8: true}, nil},
		{"subject", "Subject: Grüße an alle\r\n", "Subject: =?utf-8?b?R3LDvMOfZQ==?= an alle\r\n", Capabilities{}, nil},
		{"neighbours", "Subject: a ü ö b\r\n", "Subject: a =?utf-8?b?w7wgw7Y=?= b\r\n", Capabilities{}, nil},
		{"fold in between", "Subject: ü\r\n ö\r\n", "Subject: =?utf-8?b?w7wgw7Y=?=\r\n", Capabilities{}, nil},
		{"Latin-1 is no UTF-8", "Subject: \xfc\r\n", "Subject: =?unknown-8bit?b?/A==?=\r\n", Capabilities{UTF8: true}, nil},
		{"name", "To: Bü Ö <b@x>, \"C, ü\" <c@x>, d@x (ü)\r\n", "To: =?utf-8?b?QsO8IMOW?= <b@x>, =?utf-8?b?Qywgw7w=?= <c@x>, d@x (=?utf-8?b?w7w=?=)\r\n", Capabilities{}, nil},
		{"address", "To: bü@x\r\n", "", Capabilities{}, ErrNeedsUTF8},
		{"address kept", "To: bü@x\r\n", "To: bü@x\r\n", Capabilities{UTF8: true}, nil},
		{"signed address", "DKIM-Signature: x\r\nTo: bü@x\r\n", "", Capabilities{}, ErrNeedsUTF8},
		{"signed", "DKIM-Signature: x\r\nSubject: ü\r\n", "DKIM-Signature: x\r\nSubject: ü\r\n", Capabilities{}, nil},
		{"parameter", "Content-Type: text/plain; name=\"ü.txt\"\r\n", "Content-Type: text/plain; name*=utf-8''%C3%BC.txt\r\n", Capabilities{}, nil},
		{"long line folded", "A: " + strings.Repeat("x", 900) + " " + strings.Repeat("y", 900) + "\r\n", "A: " + strings.Repeat("x", 900) + "\r\n " + strings.Repeat("y", 900) + "\r\n", Capabilities{}, nil},
		{"long word stays", "A: " + strings.Repeat("x", 1500) + "\r\n", "A: " + strings.Repeat("x", 1500) + "\r\n", Capabilities{}, nil},
	} {
		p, err := Prepare(strings.NewReader(test.in+"\r\nbody\r\n"), test.can)
		if !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", test.name, err, test.err)
		}
		if err != nil {
			continue
		}
		var b bytes.Buffer
		if _, err := p.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if b.String() != test.out+"\r\nbody\r\n" || p.Changed() != (test.in != test.out) || p.Requirements().UTF8 == isASCII(test.out) {
			t.Errorf("%s:\n%.300q, want\n%.300q; %+v", test.name, b.String(), test.out, p.Requirements())
		}
	}
}

const multi = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n" +
	"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nüber \r\n\r\n" +
	"--b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: 8bit\r\n\r\nbin\xff\r\n" +
	"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nü in\r\n" +
	"--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC\r\n" +
	"--b\r\nContent-Disposition: attachment; filename=\"ü\"\r\n\r\nplain\r\n" +
	"--b--\r\nepilogue\r\n"

func TestPrepareMultipart(t *testing.T) {
	want := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 7bit\r\n\r\npreamble\r\n" +
		"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BCber=20\r\n\r\n" +
		"--b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nYmlu/w==\r\n" +
		"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain; charset=utf-8\r\nMIME-Version: 1.0\r\n\r\n=C3=BC in\r\n" +
		"--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC\r\n" +
		"--b\r\nContent-Disposition: attachment; filename*=utf-8''%C3%BC\r\n\r\nplain\r\n" +
		"--b--\r\nepilogue\r\n"
	p, err := Prepare(strings.NewReader(multi), Capabilities{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := p.WriteTo(&b); err != nil || b.String() != want || p.Requirements().EightBit {
		t.Errorf("%v %+v\n%q, want\n%q", err, p.Requirements(), b.String(), want)
	}
	kept, err := Prepare(strings.NewReader(multi), Capabilities{EightBit: true})
	if err != nil || kept.Changed() || !kept.Requirements().EightBit || kept.Size() != int64(len(multi)) {
		t.Errorf("8BITMIME: %v %+v", err, kept)
	}
	for _, sealed := range []string{"DKIM-Signature: x\r\n" + multi, strings.Replace(multi, "multipart/mixed", "multipart/signed", 1)} {
		p, err := Prepare(strings.NewReader(sealed), Capabilities{})
		if err != nil || p.Changed() || !p.Requirements().EightBit {
			t.Errorf("signed: %v %+v", err, p)
		}
	}
	// A signed part inside stays, and what holds it says 8bit still.
	inner := strings.Replace(multi, "application/x\r\nContent-Transfer-Encoding: 8bit", "multipart/signed; boundary=c", 1)
	p, err = Prepare(strings.NewReader(inner), Capabilities{})
	if err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if _, err := p.WriteTo(&b); err != nil || !strings.Contains(b.String(), "bin\xff") || !strings.Contains(b.String(), "Content-Transfer-Encoding: 8bit\r\n\r\npreamble") || !p.Requirements().EightBit {
		t.Errorf("signed inside: %v %+v %q", err, p.Requirements(), b.String())
	}
}

func TestLongLines(t *testing.T) {
	for n, encoded := range map[int]bool{998: false, 999: true, 100_000: true} {
		m := complete(t, "From: a@x\n\n"+strings.Repeat("x", n)+"\n")
		got := prepared(t, m, Capabilities{EightBit: true, UTF8: true})
		if strings.Contains(got, "quoted-printable") != encoded {
			t.Errorf("%d octets: encoded is not %v", n, encoded)
		}
		_, body, _ := strings.Cut(got, "\r\n\r\n")
		if encoded {
			body = all(t, quotedprintable.NewReader(strings.NewReader(body)))
		}
		if body != strings.Repeat("x", n)+"\r\n" {
			t.Errorf("%d octets: another body: %d", n, len(body))
		}
	}
	signed := "DKIM-Signature: v=1\r\n\r\n" + strings.Repeat("x", 2000) + "\r\n"
	if p, err := Prepare(strings.NewReader(signed), Capabilities{}); err != nil || p.Changed() || p.Requirements().LongestLine != 2000 {
		t.Errorf("signed: %+v %v", p, err)
	}
}

// rules is what a message's bytes become, said in another way than in the code: line
// ends first, then the first line that is neither field nor fold ends the header.
func rules(in []byte) (header, body string) {
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(in))
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		name, _, colon := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		isField := colon && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
		isFold := header != "" && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"))
		if isField || isFold {
			header += line
			continue
		}
		body = strings.Join(lines[i:], "")
		if line == "\n" {
			body = strings.Join(lines[i+1:], "")
		}
		break
	}
	return strings.ReplaceAll(header, "\n", "\r\n"), strings.ReplaceAll(body, "\n", "\r\n")
}

// octets draws bytes that are likely to hurt.
func octets() *rapid.Generator[[]byte] {
	pieces := []string{"\r", "\n", "\r\n", "\n\n", ".", "\n.\n", "\r\n.\r\n", " ", "\t", ":", "Subject: x", "To: b@x", "ü", "\xff", "--b", "--b--",
		"Content-Type: multipart/mixed; boundary=b\n", "Content-Type: text/plain\n", "Content-Type: message/rfc822\n\n", "MIME-Version: 1.0\n",
		"Content-Transfer-Encoding: 8bit\n", "Content-Transfer-Encoding: base64\n", "=", "=20", "From ", "text", strings.Repeat("y", 1000), strings.Repeat("z\xfc", 20_000)}
	return rapid.Custom(func(t *rapid.T) []byte {
		return []byte(strings.Join(rapid.SliceOf(rapid.OneOf(rapid.SampledFrom(pieces), rapid.StringN(0, 10, 20))).Draw(t, "pieces"), ""))
	}).Filter(func(b []byte) bool { return bytes.IndexByte(b, 0) < 0 })
}

// Whatever bytes go in, what comes out is the same message by the stated rules.
func TestSameMessage(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		in := octets().Draw(t, "in")
		m, err := Read(bytes.NewReader(in), Limits{Memory: rapid.SampledFrom([]int{1, 100, 1 << 20}).Draw(t, "memory"), Folder: folder})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		header, body := rules(in)
		stored, _ := io.ReadAll(m.Reader())
		if string(stored) != header+"\r\n"+body {
			t.Fatalf("stored %q, want %q", stored, header+"\r\n"+body)
		}
		r := m.Requirements()
		if r.EightBit == isASCII(body) || r.UTF8 == isASCII(header) {
			t.Fatalf("%+v for %q", r, stored)
		}
		can := Capabilities{EightBit: rapid.Bool().Draw(t, "8bit"), UTF8: rapid.Bool().Draw(t, "utf8")}
		checkPrepared(t, stored, can)
	})
}

// checkPrepared wants that what a server is sent fits it and means the same.
func checkPrepared(t rapid.TB, stored []byte, can Capabilities) {
	p, err := Prepare(bytes.NewReader(stored), can)
	if errors.Is(err, ErrNeedsUTF8) && !can.UTF8 {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := p.WriteTo(&b); err != nil || int64(b.Len()) != p.Size() {
		t.Fatalf("%d of %d bytes, %v", b.Len(), p.Size(), err)
	}
	need := p.Requirements()
	head, body, _ := bytes.Cut(b.Bytes(), []byte("\r\n\r\n"))
	if bytes.HasPrefix(b.Bytes(), []byte("\r\n")) {
		head, body = nil, b.Bytes()[2:]
	}
	if need.UTF8 == isASCII(string(head)) || !need.EightBit && !isASCII(string(body)) {
		t.Fatalf("says %+v of %q", need, b.Bytes())
	}
	if bytes.Contains(bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), nil), []byte("\r")) || bytes.Contains(bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), nil), []byte("\n")) {
		t.Fatalf("bare line ends in %q", b.Bytes())
	}
	if got, want := leaves(b.Bytes()), leaves(stored); got != want {
		t.Fatalf("for %+v content became\n%q, was\n%q\n%q\n%q", can, got, want, b.Bytes(), stored)
	}
}

// leaves decodes the content of all parts with the library's reader, an opinion
// that is not ours.
func leaves(text []byte) string {
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return ""
	}
	return content(m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body)
}

func content(kind, encoding string, body io.Reader) string {
	kind, parameters, err := mime.ParseMediaType(kind)
	if err == nil && strings.HasPrefix(kind, "multipart/") && parameters["boundary"] != "" {
		var b strings.Builder
		parts := multipart.NewReader(body, parameters["boundary"])
		for {
			p, err := parts.NextRawPart()
			if err != nil {
				return b.String()
			}
			b.WriteString("[" + content(p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p) + "]")
		}
	}
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	data, _ := io.ReadAll(body)
	if kind == "message/rfc822" {
		return leaves(data)
	}
	return string(data)
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("To: b@x\nBcc: c@x,\n d@x\nSubject: ü\n\nx\r\r\n.\n"))
	f.Add([]byte(multi))
	f.Add([]byte("Resent-To: x\nTo: G: a@x, (c) \"q\" <b@x>;\n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := Read(bytes.NewReader(in), Limits{Header: 100_000, Folder: t.TempDir()})
		if err != nil {
			return
		}
		defer m.Close()
		addresses, _ := m.Recipients()
		for _, a := range addresses {
			if strings.ContainsAny(a, "\r\n\x00") {
				t.Errorf("recipient %q", a)
			}
		}
		m.StripBcc()
		if err := m.Complete(completion()); err != nil {
			t.Fatal(err)
		}
		if err := m.RewriteFrom("me@x"); err != nil {
			t.Fatal(err)
		}
		whole := all(t, m.Reader())
		again := read(t, whole)
		if all(t, again.Reader()) != whole || again.Has("Bcc") {
			t.Errorf("reading it again gives another message: %q", whole)
		}
		if boxes, err := again.From(); err != nil || len(boxes) != 1 || boxes[0].Address != "me@x" {
			t.Errorf("From: %v %v", boxes, err)
		}
		if _, err := Prepare(again.Reader(), Capabilities{}); err != nil && !errors.Is(err, ErrNeedsUTF8) {
			t.Fatal(err)
		}
	})
}

func FuzzAddresses(f *testing.F) {
	for _, seed := range []string{"b@x", "Bob <b@x>, root", "\"a b\"@[1.2.3.4]", "G: <@h:a@x>, (c(d))e@f;", "bob>\r\nRCPT TO:<evil", "\"\\\"\"@x", "ü@ü", "a..b@x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		addresses, err := ParseAddresses(in)
		if err != nil {
			return
		}
		for _, a := range addresses {
			if strings.ContainsFunc(a, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%q gives %q", in, a)
			}
			// Safe between angle brackets: it reads as itself there, and only as itself.
			again, err := ParseAddresses("<" + a + ">")
			if err != nil || len(again) != 1 || again[0] != a {
				t.Errorf("%q gives %q, which reads as %q, %v", in, a, again, err)
			}
		}
	})
}

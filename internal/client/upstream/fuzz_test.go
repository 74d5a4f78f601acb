package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// telling is how much of a secret package secret hides wherever it begins.
const telling = 12

// A tape is a connection whose other end has said everything beforehand.
type tape struct {
	net.Conn // nil: whatever is not below must not be called
	said     *bytes.Reader
	heard    bytes.Buffer
}

func (c *tape) Read(p []byte) (int, error)      { return c.said.Read(p) }
func (c *tape) Write(p []byte) (int, error)     { return c.heard.Write(p) }
func (c *tape) Close() error                    { return nil }
func (c *tape) SetDeadline(time.Time) error     { return nil }
func (c *tape) SetReadDeadline(time.Time) error { return nil }

// FuzzServer: whatever a server says, the dialogue ends without a panic, the client
// says only whole lines, the token goes out once at most and shows nowhere, and
// errors and trace are printable.
func FuzzServer(f *testing.F) {
	f.Add(byte(0), []byte("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=OAUTHBEARER] hi\r\nA1 OK [CAPABILITY IDLE] in\r\n* LIST () \"/\" {5}\r\nA2 OK\r\nA2 OK done\r\n"))
	f.Add(byte(0), []byte("* OK hi\r\n* CAPABILITY AUTH=XOAUTH2\r\nA1 OK\r\n+\r\n+ eyJzdGF0dXMiOiI0MDEifQ==\r\nA2 NO [AUTHENTICATIONFAILED] no\r\n"))
	f.Add(byte(0), []byte("* BYE go away\r\n"))
	f.Add(byte(1), []byte("+OK hi\r\n+OK\r\nSASL XOAUTH2\r\n.\r\n+ \r\n+OK in\r\n+OK 1 2\r\n"))
	f.Add(byte(1), []byte("+OK hi\r\n+OK\r\nSASL OAUTHBEARER\r\n.\r\n+\r\n+ e30=\r\n-ERR [SYS/TEMP] no\r\n"))
	f.Add(byte(2), []byte("220 hi\r\n250-me\r\n250 AUTH XOAUTH2\r\n334 eyJ9\r\n535 5.7.8 no\r\n"))
	f.Add(byte(2), []byte("220-hi\r\n220 ho\r\n250-me\r\n250 AUTH=OAUTHBEARER\r\n235 ok\r\n250 ok\r\n"))
	f.Add(byte(2), []byte("220 c4n4ry-token-for-tests-1234567890\r\n501 c4n4ry-token-for\r\n"))
	protocols := []Protocol{IMAP, POP3, SMTP}
	f.Fuzz(func(t *testing.T, which byte, said []byte) {
		protocol := protocols[int(which)%len(protocols)]
		dialect, err := speaker(protocol)
		if err != nil {
			t.Fatal(err)
		}
		var traced bytes.Buffer
		conn := &tape{said: bytes.NewReader(said)}
		c := &Conn{
			dialect: dialect, protocol: protocol, timeout: time.Minute, trace: &trace{w: &traced},
			server: provider.MailServer{Host: "mail.example.test", Port: 1, Security: provider.Plain},
		}
		c.use(conn, conn)
		err = c.open(t.Context(), nil)
		if err == nil {
			err = c.Authenticate(t.Context(), Login{User: "u", Token: secret.New(testToken)})
		}
		signedIn := err == nil
		if err == nil {
			err = c.Check(t.Context())
		}
		if signedIn {
			walkTunnel(t, c)
		}
		inspect(t, err, traced.String(), bytes.Contains(said, []byte(testToken[:telling])))
		for line := range strings.Lines(conn.heard.String()) {
			if !strings.HasSuffix(line, "\r\n") || strings.ContainsAny(line[:len(line)-2], "\r\n\x00") {
				t.Fatalf("the client said %q", line)
			}
		}
	})
}

// walkTunnel looks at what the tunnel's client would be told.
func walkTunnel(t *testing.T, c *Conn) {
	hall, err := newHall(c)
	if err != nil {
		t.Fatal(err)
	}
	capability, _ := hall.answer("CAPA")
	ehlo, _ := hall.answer("EHLO x")
	for _, text := range []string{hall.greeting(), capability, ehlo} {
		for line := range strings.Lines(text) {
			if !strings.HasSuffix(line, "\r\n") || strings.ContainsAny(line[:len(line)-2], "\r\n\x00\x1b") {
				t.Fatalf("the tunnel says %q", line)
			}
		}
	}
}

// inspect: the token shows only if the server said it before it knew it, which is
// then no secret of ours but an accident of the fuzzer.
func inspect(t *testing.T, err error, traced string, known bool) {
	texts := []string{traced}
	if err != nil {
		texts = append(texts, err.Error())
		if refusal, ok := errors.AsType[*AuthError](err); ok {
			texts = append(texts, refusal.Challenge, refusal.Reply)
		}
	}
	for _, text := range texts {
		if !known && strings.Contains(text, testToken[:telling]) {
			t.Fatalf("the token shows: %q", text)
		}
		if strings.ContainsAny(text, "\r\x00\x1b\x7f") || !utf8.ValidString(text) {
			t.Fatalf("not printable: %q", text)
		}
	}
}

func FuzzDecodeChallenge(f *testing.F) {
	for _, seed := range []string{"eyJzdGF0dXMiOiI0MDEifQ==", "eyJ9", "", "=", "not base64", "e30"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		challenge, ok := decodeChallenge(encoded)
		if len(challenge) > len(encoded) {
			t.Fatalf("%q grew to %q", encoded, challenge)
		}
		if !ok && challenge != strings.TrimSpace(encoded) {
			t.Fatalf("%q lost something: %q", encoded, challenge)
		}
	})
}

func FuzzLine(f *testing.F) {
	for _, seed := range []string{"* LIST () {5}", "~{5+}", "{99999999999999999999}", "{-1}", "250-x", "250", "25", "OK [CAPABILITY A B] x", "+OK", "-ERR x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if size, ok := literalSize(line); ok && (size < 0 || !strings.HasSuffix(line, "}")) {
			t.Fatalf("literal of %d in %q", size, line)
		}
		if code, _, _, ok := splitSMTP(line); ok && (code < 200 || code > 599) {
			t.Fatalf("code %d in %q", code, line)
		}
		if _, _, valid := splitPOP3(line); valid && !strings.HasPrefix(line, "+OK") && !strings.HasPrefix(line, "-ERR") {
			t.Fatalf("a reply: %q", line)
		}
		for _, capability := range capabilityCode(line) {
			if capability == "" || strings.ContainsAny(capability, "] ") {
				t.Fatalf("capability %q in %q", capability, line)
			}
		}
		for _, protocol := range []Protocol{IMAP, POP3, SMTP} {
			for _, name := range mechanisms(protocol, []string{line}) {
				if name == "" || name != strings.ToUpper(name) {
					t.Fatalf("mechanism %q in %q", name, line)
				}
			}
		}
	})
}

// FuzzTunnelClient: whatever a tunnel's client says, it is answered by whole lines,
// and nothing but its own bytes reaches the server.
func FuzzTunnelClient(f *testing.F) {
	f.Add([]byte("CAPA\r\nUSER x\r\nPASS y\r\nSTAT\r\n"))
	f.Add([]byte("EHLO x\r\nAUTH PLAIN\r\nMAIL FROM:<>\r\nDATA\r\n.\r\n"))
	f.Add([]byte("\n\n\x00\r\nQUIT"))
	f.Fuzz(func(t *testing.T, said []byte) {
		for _, hall := range []hall{&pop3Hall{capabilities: []string{"UIDL"}}, &smtpHall{host: "h"}} {
			var out bytes.Buffer
			server := &tape{}
			tun := &tunnel{server: server, out: &out, hall: hall}
			in := bufio.NewReader(bytes.NewReader(said))
			if tun.receive(in) {
				_, _ = io.Copy(server, in)
			}
			plain := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r"), nil) }
			if !bytes.HasSuffix(plain(said), plain(server.heard.Bytes())) && !bytes.HasSuffix(append(plain(said), '\n'), plain(server.heard.Bytes())) {
				t.Fatalf("%q reached the server as %q", said, server.heard.Bytes())
			}
			for line := range strings.Lines(out.String()) {
				if !strings.HasSuffix(line, "\r\n") {
					t.Fatalf("answer %q", line)
				}
			}
		}
	})
}

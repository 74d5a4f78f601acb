package lab_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// silent is a step that only waits for the server.
const silent = "(nothing)"

// dialogue sends lines and compares the beginnings of the answers.
func dialogue(t *testing.T, conn net.Conn, r *bufio.Reader, steps ...[2]string) {
	t.Helper()
	for _, step := range steps {
		if step[0] != silent {
			if _, err := fmt.Fprintf(conn, "%s\r\n", step[0]); err != nil {
				t.Fatal(err)
			}
		}
		line := readLine(t, r)
		for len(line) > 3 && line[3] == '-' {
			line = readLine(t, r)
		}
		if !strings.HasPrefix(line, step[1]) {
			t.Fatalf("after %q the server said %q and not %q", step[0], line, step[1])
		}
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestSinkRefusesAsProvidersDo(t *testing.T) {
	ca := lab.RunCA(t)
	cfg, err := ca.Server()
	if err != nil {
		t.Fatal(err)
	}
	sink := lab.RunSink(t, lab.SinkOptions{TLS: cfg, Check: func(user, token string) bool {
		return user == "alice@try.test" && token == "good"
	}})
	conn, err := net.Dial("tcp", sink.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	dialogue(t, conn, r, [2]string{silent, "220"}, [2]string{"EHLO x", "250"}, [2]string{"AUTH XOAUTH2 " + b64("x"), "523"}, [2]string{"STARTTLS", "220"})
	secure := tls.Client(conn, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12})
	r = bufio.NewReader(secure)
	bad, good := "user=alice@try.test\x01auth=Bearer bad\x01\x01", "user=alice@try.test\x01auth=Bearer good\x01\x01"
	bearer := "n,a=alice@try.test,\x01host=h\x01port=1\x01auth=Bearer bad\x01\x01"
	dialogue(t, secure, r,
		[2]string{"EHLO x", "250"},
		[2]string{"MAIL FROM:<a@try.test>", "530"},
		[2]string{"AUTH XOAUTH2 " + b64(bad), "334 " + b64(lab.GoogleChallenge)},
		[2]string{"", "535"},
		[2]string{"AUTH OAUTHBEARER", "334 "},
		[2]string{b64(bearer), "334 " + b64(lab.GoogleChallenge)},
		[2]string{"AQ==", "535"},
		[2]string{"AUTH XOAUTH2 " + b64("user=alice@try.test\x01auth=good\x01\x01"), "501"},
		[2]string{"AUTH XOAUTH2", "334 "},
		[2]string{b64(good), "235"},
		[2]string{"MAIL FROM:<a@try.test>", "250"},
		[2]string{"RCPT TO:<b@try.test>", "250"},
		[2]string{"DATA", "354"},
		[2]string{"Subject: x\r\n\r\n..dot\r\n.", "250"},
		[2]string{"QUIT", "221"},
	)
	got, err := sink.Wait(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	m := got[0]
	if m.From != "a@try.test" || strings.Join(m.To, " ") != "b@try.test" || string(m.Data) != "Subject: x\r\n\r\n.dot\r\n" {
		t.Errorf("the sink took %+v", m)
	}
	if m.User != "alice@try.test" || m.Mechanism != "XOAUTH2" || !m.TLS || sink.Refused() != 3 {
		t.Errorf("the sink took %+v, refused %d", m, sink.Refused())
	}
}

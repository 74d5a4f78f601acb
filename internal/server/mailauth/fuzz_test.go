package mailauth

import (
	"bufio"
	"context"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// FuzzLine feeds the reader of lines, the parser, and the escapes.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{
		begin(1, "PLAIN", good), "CONT\t1\t\n", "CANCEL\t1", "VERSION\t1\t0\nCPID\t1", "AUTH\t1\tPLAIN\tservice=a\x01tb\tresp==",
		strings.Repeat("x", maxLine+1) + "\nCPID\t1\n", "AUTH\t4294967296\tPLAIN", "\x01", "a\x010\x011\x01t\x01r\x01n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		r := bufio.NewReaderSize(strings.NewReader(string(input)), maxLine)
		for {
			line, long, err := readLine(r)
			if err != nil {
				break
			}
			if len(line) >= maxLine || long && len(line) > 64 {
				t.Fatalf("a line of %d bytes", len(line))
			}
			c := parseLine(line)
			q, err := parseAuth(c.fields, uint64(c.id))
			if err == nil && q.protocol == "" {
				t.Fatal("a question without a protocol")
			}
		}
		text := string(input)
		escaped := escape(text)
		if strings.ContainsAny(escaped, "\x00\t\r\n") {
			t.Fatalf("%q is not safe", escaped)
		}
		if back, err := unescape(escaped); err != nil || back != text {
			t.Fatalf("%q came back as %q (%v)", text, back, err)
		}
		_, _ = unescape(text)
	})
}

// FuzzConnection feeds whole connections. Every line that comes back must be a line of
// the protocol, and no id gets more answers than it was given questions.
func FuzzConnection(f *testing.F) {
	for _, seed := range []string{
		begin(1, "PLAIN", good) + "\n", begin(1, "LOGIN") + "\nCONT\t1\tYQ==\nCONT\t1\tYQ==\n", "CONT\t1\t\n", "AUTH\t1\n" + begin(1, "PLAIN", wrong) + "\n",
		begin(1, "XOAUTH2", "user=a\x01auth=Bearer x\x01\x01") + "\nCONT\t1\tAQ==\n", "CANCEL\t1\n\x00\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		client, server := net.Pipe()
		s := NewSASL(SASLOptions{Door: &door{}, Log: quietLog(), Random: zeros{}, Now: time.Now})
		ended := make(chan struct{})
		go func() { defer close(ended); s.answer(context.Background(), server) }()
		answers := make(chan string, 1)
		go func() {
			text, _ := io.ReadAll(client)
			answers <- string(text)
		}()
		_, _ = io.WriteString(client, "VERSION\t1\t2\n")
		_, _ = client.Write(input)
		_, _ = io.WriteString(client, "\n"+begin(4294967295, "PLAIN", good)+"\nCANCEL\t1\n")
		client.Close()
		<-ended
		form := regexp.MustCompile(`^(OK\t\d+\tuser=[^\t]+|FAIL\t\d+(\tuser=[^\t]+)?\treason=[A-Za-z ]+|CONT\t\d+\t[A-Za-z0-9+/=]*)$`)
		_, after, _ := strings.Cut(<-answers, "DONE\n")
		for line := range strings.Lines(after) {
			if whole, ok := strings.CutSuffix(line, "\n"); ok && !form.MatchString(whole) {
				t.Fatalf("answered %q", line)
			}
		}
	})
}

// FuzzForm feeds what mail servers post.
func FuzzForm(f *testing.F) {
	f.Add("token=llat_right&client_id=&client_secret=", "192.0.2.9:143")
	f.Add("grant_type=password&username=a%40b&password=%00", "[::1]:1")
	f.Add("a=1&a=2", "::1:143")
	f.Add("%zz;=&=", "")
	f.Fuzz(func(t *testing.T, body, address string) {
		form, err := parseForm(body)
		if err != nil && form != nil {
			t.Fatal("a form and an error")
		}
		if a := remote(address); a.IsValid() && (a.Is4In6() || a.Zone() != "") {
			t.Fatalf("%q is %v", address, a)
		}
	})
}

// FuzzPolicy feeds the weakforced JSON.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"login":"a@b","pwhash":"00","remote":"::1","protocol":"imap","success":true,"policy_reject":false,"attrs":{"a":[1]}}`))
	f.Add([]byte(`{"login":1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, attempt, err := parsePolicy(body)
		if err == nil && (len(attempt.Account) > 1024 || len(attempt.Fingerprint) > 128) {
			t.Fatalf("%+v", attempt)
		}
	})
}

// FuzzDoveadm feeds what a node answers.
func FuzzDoveadm(f *testing.F) {
	f.Add([]byte(done([]string{"flush", "kick0"})))
	f.Add([]byte(`[["error",{"type":"unknownMethod","exitCode":0},"flush"]]`))
	f.Add([]byte(`[[]]`))
	f.Add([]byte(`[["error",7,"flush"]]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		answers, err := parseDoveadm(body)
		if err != nil && strings.ContainsAny(err.Error(), "\r\n\x1b") {
			t.Fatalf("an error that cannot be shown: %q", err)
		}
		for _, a := range answers {
			if strings.ContainsFunc(a.kind, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("kind %q", a.kind)
			}
		}
	})
}

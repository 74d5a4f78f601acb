package delivery

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A script is one file of testdata/dialogue: an envelope and what is to become of it, a
// line "--", and the steps of a server that knows its lines and expects the client to
// know its own.
//
//	S: text    the server says a line, when it has read all that the client has sent
//	C: text    the client must say this line     C*: text  a line that begins so
//
// Values are Go strings without their quotes: \r, \n, \x00. After the last step the
// client must close or say QUIT.
type script struct {
	envelope queue.Envelope
	text     string
	tokens   []string
	want     []queue.Verdict
	status   []string
	reply    string
	again    []queue.Verdict // of the same envelope, once more over the same carrier
	steps    []string
}

func loadScript(t *testing.T, path string) script {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := strings.Cut(string(text), "\n--\n")
	if !ok {
		t.Fatal("no -- in it")
	}
	s := script{text: "Subject: x\r\n\r\nhello\r\n", envelope: queue.Envelope{Account: "test"}}
	for line := range strings.Lines(head) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			t.Fatalf("%q has no value", line)
		}
		s.set(t, key, unescape(t, value))
	}
	for line := range strings.Lines(body) {
		s.steps = append(s.steps, strings.TrimSuffix(line, "\n"))
	}
	return s
}

func (s *script) set(t *testing.T, key, value string) {
	t.Helper()
	switch key {
	case "from":
		s.envelope.From = value
	case "to":
		r := queue.Recipient{Address: value}
		if at := strings.Index(value, " NOTIFY="); at >= 0 {
			r.Address, r.Notify = value[:at], value[at+len(" NOTIFY="):]
			if notify, original, found := strings.Cut(r.Notify, " ORCPT="); found {
				r.Notify, r.Original = notify, original
			}
		} else if at := strings.Index(value, " ORCPT="); at >= 0 {
			r.Address, r.Original = value[:at], value[at+len(" ORCPT="):]
		}
		s.envelope.To = append(s.envelope.To, r)
	case "ret":
		s.envelope.Return = value
	case "id":
		s.envelope.EnvelopeID = value
	case "text":
		s.text = value
	case "token":
		s.tokens = append(s.tokens, value)
	case "want":
		s.want = verdictsOf(t, value)
	case "again":
		s.again = verdictsOf(t, value)
	case "status":
		s.status = strings.Fields(value)
	case "reply":
		s.reply = value
	default:
		t.Fatalf("no such setting: %q", key)
	}
}

func verdictsOf(t *testing.T, text string) []queue.Verdict {
	t.Helper()
	names := []string{"delivered", "deferred", "refused", "unknown", "sign-in"}
	var out []queue.Verdict
	for _, word := range strings.Fields(text) {
		n := slices.Index(names, word)
		if n < 0 {
			t.Fatalf("no such verdict: %q", word)
		}
		out = append(out, queue.Verdict(n))
	}
	return out
}

func unescape(t *testing.T, text string) string {
	t.Helper()
	out, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return out
}

// play performs the steps on one connection and returns the first deviation.
func (s script) play(listener net.Listener) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	for i, step := range s.steps {
		verb, text, _ := strings.Cut(step, " ")
		if verb == "S:" {
			if in.Buffered() > 0 {
				rest, _ := in.Peek(in.Buffered())
				return fmt.Errorf("step %d, %q: the client has said %q already", i+1, step, rest)
			}
			text, _ = strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
			_, err = io.WriteString(conn, text+"\r\n")
			if err != nil {
				return fmt.Errorf("step %d, %q: %w", i+1, step, err)
			}
			continue
		}
		line, err := in.ReadString('\n')
		line = strings.TrimSuffix(line, "\r\n")
		if verb == "C*:" && strings.HasPrefix(line, text) {
			continue
		}
		if err != nil || verb != "C:" || line != text {
			return fmt.Errorf("step %d, %q: the client said %q, %v", i+1, step, line, err)
		}
	}
	if rest, err := io.ReadAll(in); len(rest) > 0 && string(rest) != "QUIT\r\n" {
		return fmt.Errorf("after the last step the client said %q, %v", rest, err)
	}
	return nil
}

func TestDialogues(t *testing.T) {
	paths, err := filepath.Glob("testdata/dialogue/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			s := loadScript(t, path)
			listener, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			played := make(chan error, 1)
			go func() { played <- s.play(listener) }()
			route := submission(provider.Plain, listener.Addr(), nil, nil)
			if s.tokens != nil {
				route.Tokens = &tokens{list: s.tokens}
			}
			c := carrier(t, route, nil)
			got := carry(t, c, s.envelope, s.text)
			if s.again != nil {
				wantVerdicts(t, carry(t, c, s.envelope, s.text), s.again...)
			}
			c.Close()
			if err := <-played; err != nil {
				t.Error(err)
			}
			wantVerdicts(t, got, s.want...)
			for i, status := range s.status {
				if got[i].Status != status {
					t.Errorf("%s: status %s, want %s (%s)", got[i].Recipient, got[i].Status, status, got[i].Reply)
				}
			}
			if s.reply != "" && got[0].Reply != s.reply {
				t.Errorf("reply %q, want %q", got[0].Reply, s.reply)
			}
		})
	}
}

package upstream

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

// Every dialogue: the client says what the script expects and comes to what it says.
func TestDialogues(t *testing.T) {
	for _, s := range loadScripts(t, "testdata/dialogue/*.txt") {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := s.perform(t)
			if r.play != nil {
				t.Errorf("the server: %v\nclient: %v\n%s", r.play, r.err, r.trace)
			}
			judge(t, s, r)
		})
	}
}

func judge(t *testing.T, s script, r result) {
	t.Helper()
	wanted := s.settings["error"]
	if (r.err != nil) != (len(wanted) > 0 || s.get("is") != "" || s.get("reply") != "") {
		t.Errorf("error: %v\n%s", r.err, r.trace)
	}
	for _, text := range wanted {
		if r.err != nil && !strings.Contains(r.err.Error(), text) {
			t.Errorf("error %q lacks %q", r.err, text)
		}
	}
	for kind := range strings.FieldsSeq(s.get("is")) {
		if !isKind(r.err, kind) {
			t.Errorf("error %v (%T) is not %s", r.err, r.err, kind)
		}
	}
	if reply := s.get("reply"); reply != "" {
		if refusal, ok := errors.AsType[*AuthError](r.err); !ok || refusal.Reply != reply || refusal.Challenge != s.get("challenge") {
			t.Errorf("refusal %#v, want %q, %q", r.err, reply, s.get("challenge"))
		}
	}
	for _, text := range s.settings["trace"] {
		if !strings.Contains(r.trace, text) {
			t.Errorf("trace lacks %q:\n%s", text, r.trace)
		}
	}
	for _, text := range append(s.settings["untraced"], testToken[:telling], "\x1b", "YzRuNHJ5") {
		if strings.Contains(r.trace, text) || r.err != nil && strings.Contains(r.err.Error(), text) {
			t.Errorf("%q shows: %v\n%s", text, r.err, r.trace)
		}
	}
	if offered := s.get("offered"); offered != "" && !slices.Equal(r.conn.Mechanisms(), strings.Fields(offered)) {
		t.Errorf("mechanisms %q, want %q", r.conn.Mechanisms(), offered)
	}
}

func isKind(err error, kind string) bool {
	switch kind {
	case "injected":
		return errors.Is(err, ErrInjected)
	case "nostarttls":
		return errors.Is(err, ErrNoSTARTTLS)
	case "toolong":
		return errors.Is(err, ErrTooLong)
	case "protocol":
		return errors.Is(err, ErrProtocol)
	case "closed":
		return errors.Is(err, ErrClosed)
	case "plain":
		return errors.Is(err, ErrPlain)
	case "timeout":
		return errors.Is(err, os.ErrDeadlineExceeded)
	case "canceled":
		return errors.Is(err, context.Canceled)
	case "mechanism":
		_, ok := errors.AsType[*MechanismError](err)
		return ok
	case "reply":
		_, ok := errors.AsType[*ReplyError](err)
		return ok
	case "refused":
		_, ok := errors.AsType[*AuthError](err)
		return ok
	case "temporary", "permanent":
		if refusal, ok := errors.AsType[*AuthError](err); ok {
			return refusal.Temporary == (kind == "temporary")
		}
		reply, ok := errors.AsType[*ReplyError](err)
		return ok && reply.Temporary == (kind == "temporary")
	}
	return false
}

// Every dialogue that ends well, cut off before each of the server's deeds: the
// client ends with an error, soon, when the server closes there and when it falls
// silent there.
func TestServerEndsAnywhere(t *testing.T) {
	for _, s := range loadScripts(t, "testdata/dialogue/*.txt") {
		if s.get("error") != "" || s.get("is") != "" || s.get("reply") != "" {
			continue
		}
		for i, step := range s.steps {
			if verb, _, _ := strings.Cut(step, " "); !strings.HasPrefix(verb, "S") && verb != "TLS" {
				continue
			}
			for _, end := range []string{"CLOSE", "STALL"} {
				cut := s
				cut.steps = append(slices.Clone(s.steps[:i]), end)
				cut.settings = map[string][]string{"timeout": {"60ms"}}
				for key, value := range s.settings {
					cut.settings[key] = value
				}
				t.Run(s.name+"/"+end, func(t *testing.T) {
					t.Parallel()
					r := cut.perform(t)
					if r.err == nil {
						t.Errorf("%s before %q: no error\n%s", end, step, r.trace)
					}
					if end == "STALL" && !errors.Is(r.err, os.ErrDeadlineExceeded) {
						t.Errorf("silence before %q: %v", step, r.err)
					}
					if end == "CLOSE" && (errors.Is(r.err, os.ErrDeadlineExceeded) || errors.Is(r.err, context.DeadlineExceeded)) {
						t.Errorf("closed before %q, and seen by the clock only: %v", step, r.err)
					}
				})
			}
		}
	}
}

func TestDialRefuses(t *testing.T) {
	tests := map[string]script{
		"plain text elsewhere":   {settings: map[string][]string{"protocol": {"imap"}, "security": {"plain"}, "host": {"mail.example.test"}}},
		"plain text, other name": {settings: map[string][]string{"protocol": {"imap"}, "security": {"plain"}, "host": {"localhost.example.test"}}},
		"no security":            {settings: map[string][]string{"protocol": {"imap"}, "security": {""}}},
		"no protocol":            {settings: map[string][]string{"protocol": {"nntp"}, "security": {"tls"}}},
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			if conn, err := s.act(t.Context(), listener, nil, nil, nil, nil); err == nil {
				conn.Close()
				t.Error("connected")
			}
		})
	}
}

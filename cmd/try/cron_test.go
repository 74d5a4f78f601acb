package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/trymail"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// TestRefusesReading: only a server that says no to this token proves anything.
func TestRefusesReading(t *testing.T) {
	ca := lab.RunCA(t)
	conf, err := ca.Server("localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ answer, want string }{
		"refused":         {`{"active":true,"username":"you@try.test","scope":"smtp"}`, ""},
		"reads":           {`{"active":true,"username":"you@try.test","scope":"smtp imap"}`, "let the right to send read mail"},
		"cannot be asked": {``, "did not refuse, it failed"},
	} {
		judge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, c.answer)
		}))
		servers, err := trymail.Start(trymail.Options{TLS: conf, Introspection: judge.URL, ClientID: "x", Secret: secret.New("x"), HTTP: judge.Client(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		p := &pair{imap: provider.MailServer{Host: "127.0.0.1", Port: servers.IMAP.Port, Security: provider.ImplicitTLS}}
		err = refusesReading(t.Context(), p, ca, "XOAUTH2", "token")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		servers.Stop()
		judge.Close()
	}
	if err := refusesReading(t.Context(), onlySMTP{}, ca, "XOAUTH2", "token"); err == nil {
		t.Error("nothing was asked, and that passed")
	}
}

type onlySMTP struct{ mailServers }

func (onlySMTP) ends() []mailEnd { return []mailEnd{{protocol: upstream.SMTP}} }

// TestArrives: another subject, text or author is not the mail.
func TestArrives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "letterlock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := "Received: x\r\nFrom: you@try.test (Cron Daemon)\r\nSubject: s\r\n\r\na\r\n.\r\n"
	for name, c := range map[string]struct {
		letter string
		good   bool
	}{
		"good": {good, true}, "another text": {good + "b\r\n", false}, "cut": {strings.TrimSuffix(good, ".\r\n"), false},
		"another subject": {strings.Replace(good, ": s", ": t", 1), false}, "another author": {strings.Replace(good, "you@", "root@", 1), false},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		s := &story{servers: lying{letter: []byte(c.letter), looked: cancel}, program: &program{path: path}}
		if c.good {
			s.servers = lying{letter: []byte(c.letter), looked: func() {}}
		}
		if err := s.arrives(ctx, "s", "a\n.\n"); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// lying has one letter in every mailbox; looking at it ends the wait.
type lying struct {
	mailServers
	letter []byte
	looked func()
}

func (l lying) inbox(string) ([][]byte, error) {
	l.looked()
	return [][]byte{l.letter}, nil
}

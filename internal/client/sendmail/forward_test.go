package sendmail

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/message"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// What is handed over has every recipient, no Bcc, and the time it was written; aliases
// and senders are left to the system, which knows them.
func TestForward(t *testing.T) {
	var got Options
	var text string
	s, kept := machine(t)
	s.Ways = nil
	s.Aliases = func() (Aliases, error) { return Aliases{}, errors.New("not asked here") }
	s.Forward = func(_ context.Context, o Options, m *message.Message) (queue.ID, error) {
		data, err := io.ReadAll(m.Reader())
		if int64(len(data)) != m.Size() {
			t.Errorf("%d octets, announced as %d", len(data), m.Size())
		}
		got, text = o, string(data)
		return "there", err
	}
	sender := "bob"
	id, err := s.Send(t.Context(), Options{Recipients: []string{"root, a@x"}, FromHeader: true, Sender: &sender, Name: "B", Account: "w", Notify: "NEVER"},
		strings.NewReader("From: bob\nTo: to@x\nBcc: secret@x\n\nbody\n"))
	if err != nil || id != "there" {
		t.Fatalf("%q, %v", id, err)
	}
	if strings.Join(got.Recipients, " ") != "root a@x to@x secret@x" || *got.Sender != "bob" || got.FromHeader || got.Name != "B" || got.Account != "w" || got.Notify != "NEVER" {
		t.Errorf("%+v", got)
	}
	if strings.Contains(text, "secret") || !strings.Contains(text, "\r\nDate: ") || !strings.Contains(text, "From: bob\r\n") || strings.Contains(text, "Message-ID") {
		t.Errorf("%s", text)
	}
	if n := kept.count; n != 0 {
		t.Errorf("%d were queued here too", n)
	}
	_, err = s.Send(t.Context(), Options{FromHeader: true}, strings.NewReader("Subject: x\n\n"))
	var fault *cli.Fault
	if !errors.As(err, &fault) || fault.Code != cli.Usage {
		t.Errorf("no recipients: %v", err)
	}
}

// The system's side names the submitter, and keeps a From that it replaces visible.
func TestSubmitter(t *testing.T) {
	s, kept := machine(t)
	s.Submitter = "userid 1001"
	if _, err := s.Send(t.Context(), Options{Recipients: []string{"b@x"}}, strings.NewReader("From: Boss <boss@elsewhere.example>\nX-Original-From: forged\n\nx\n")); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(kept.text, "Received: by "+s.Host+" (Letterlock, from userid 1001);\r\n\tWed, 04 Mar 2026 05:06:07 +0000\r\n") ||
		strings.Contains(kept.text, "forged") || !strings.Contains(kept.text, "X-Original-From: Boss <boss@elsewhere.example>\r\n") ||
		!strings.Contains(kept.text, "From: Boss <cron@x.test>\r\n") {
		t.Errorf("%s", kept.text)
	}
}

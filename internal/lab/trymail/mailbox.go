package trymail

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// mailboxes are the users of the IMAP server; each is made when first asked for, with
// an inbox and a welcome in it.
type mailboxes struct {
	mu    sync.Mutex
	users map[string]*imapmemserver.User
	sent  map[string][][]byte // by address: what was delivered; go-imap's users give nothing back
}

func newMailboxes() *mailboxes {
	return &mailboxes{users: map[string]*imapmemserver.User{}, sent: map[string][][]byte{}}
}

func (m *mailboxes) of(address string) *imapmemserver.User {
	m.mu.Lock()
	defer m.mu.Unlock()
	address = strings.ToLower(address)
	user, ok := m.users[address]
	if !ok {
		user = imapmemserver.NewUser(address, "")
		m.users[address] = user
		if user.Create("INBOX", nil) == nil {
			_, _ = user.Append("INBOX", bytes.NewReader([]byte(welcome(address))), &imap.AppendOptions{})
		}
	}
	return user
}

func (m *mailboxes) deliver(address string, message []byte) error {
	if _, err := m.of(address).Append("INBOX", bytes.NewReader(message), &imap.AppendOptions{}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	address = strings.ToLower(address)
	m.sent[address] = append(m.sent[address], message)
	return nil
}

func (m *mailboxes) delivered(address string) [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sent[strings.ToLower(address)])
}

func (m *mailboxes) count(address string) (uint32, error) {
	status, err := m.of(address).Status("INBOX", &imap.StatusOptions{NumMessages: true})
	if err != nil {
		return 0, fmt.Errorf("count messages: %w", err)
	}
	return *status.NumMessages, nil
}

func welcome(address string) string {
	return "From: Letterlock <postmaster@try.test>\r\nTo: <" + address + ">\r\nSubject: Welcome\r\n" +
		"Date: Mon, 05 Jan 2026 10:00:00 +0000\r\nMessage-ID: <welcome@try.test>\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" +
		"You came in with a token; no password exists for this mailbox.\r\n"
}

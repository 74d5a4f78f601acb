package message

import (
	"errors"
	"slices"
	"strings"
)

// Recipients returns the addresses of To, Cc and Bcc or, when the message is resent,
// of the newest block of Resent- fields (RFC 5322 section 3.6.6), without
// duplicates, bare local names as they are. Addresses that cannot be used are
// AddressErrors joined in err, beside those that can.
func (m *Message) Recipients() (addresses []string, err error) {
	fields, names := m.header, []string{"To", "Cc", "Bcc"}
	if block := m.header.resentBlock(); len(block) > 0 {
		fields, names = block, []string{"Resent-To", "Resent-Cc", "Resent-Bcc"}
	}
	seen := map[string]bool{}
	var faults []error
	for _, f := range fields {
		if !nameIn(f.name, names) {
			continue
		}
		list, err := parseList(string(f.body()))
		if err != nil {
			faults = append(faults, err)
		}
		for _, e := range list {
			if e.err != nil {
				faults = append(faults, e.err)
			} else if !seen[sameAddress(e.Address)] {
				seen[sameAddress(e.Address)] = true
				addresses = append(addresses, e.Address)
			}
		}
	}
	return addresses, errors.Join(faults...)
}

// sameAddress is equal for addresses that are surely the same: domains have no case,
// local parts may have one (RFC 5321 section 2.4).
func sameAddress(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address
	}
	return address[:at] + strings.ToLower(address[at:])
}

// From returns the mailboxes of the From field; of all, where there are several, since
// readers differ in which they show.
func (m *Message) From() ([]Mailbox, error) { return m.mailboxes("From") }

// Sender returns the mailboxes of all Sender fields, of which there should be one at
// most (RFC 5322 section 3.6.2).
func (m *Message) Sender() ([]Mailbox, error) { return m.mailboxes("Sender") }

// ResentFrom and ResentSender return who resends the message: the mailboxes of the newest
// block of Resent- fields. Older blocks are others' traces (RFC 5322 section 3.6.6).
func (m *Message) ResentFrom() ([]Mailbox, error) {
	return m.header.resentBlock().mailboxes("Resent-From")
}

// ResentSender is ResentFrom for Resent-Sender.
func (m *Message) ResentSender() ([]Mailbox, error) {
	return m.header.resentBlock().mailboxes("Resent-Sender")
}

func (m *Message) mailboxes(name string) ([]Mailbox, error) { return m.header.mailboxes(name) }

func (h header) mailboxes(name string) ([]Mailbox, error) {
	var boxes []Mailbox
	for _, f := range h {
		if !f.is(name) {
			continue
		}
		list, err := parseList(string(f.body()))
		if err != nil {
			return boxes, err
		}
		for _, e := range list {
			if e.err != nil {
				return boxes, e.err
			}
			boxes = append(boxes, e.Mailbox)
		}
	}
	return boxes, nil
}

// RewriteFrom makes address the only one in From (and takes Sender out), keeping the
// display name: what `sender = rewrite` wants. A From that cannot be read is
// replaced too.
func (m *Message) RewriteFrom(address string) error {
	addresses, err := ParseAddresses(address)
	if err != nil {
		return err
	}
	m.Remove("Sender")
	i := m.header.index("From")
	if i >= 0 {
		body := string(m.header[i].body())
		list, err := parseList(body)
		if err == nil && len(list) == 1 && list[0].err == nil && m.count("From") == 1 {
			// In place: name, comments and folds stay byte for byte.
			m.header[i].raw = []byte("From:" + body[:list[0].specStart] + addresses[0] + body[list[0].specEnd:])
			return nil
		}
	}
	name := ""
	if boxes, _ := m.From(); len(boxes) > 0 {
		name = boxes[0].Name
	}
	m.Set("From", "")
	i = m.header.index("From")
	m.header[i].raw = []byte("From: " + FormatMailbox(Mailbox{Name: name, Address: addresses[0]}) + "\r\n")
	return nil
}

// RewriteResentFrom is RewriteFrom for the newest block of Resent- fields; a message
// without one stays as it is.
func (m *Message) RewriteResentFrom(address string) error {
	addresses, err := ParseAddresses(address)
	if err != nil {
		return err
	}
	block := m.header.resentBlock()
	if len(block) == 0 {
		return nil
	}
	box := Mailbox{Address: addresses[0]}
	if boxes, _ := m.ResentFrom(); len(boxes) > 0 {
		box.Name = boxes[0].Name
	}
	mine := field{name: "Resent-From", raw: []byte("Resent-From: " + FormatMailbox(box) + "\r\n")}
	m.replaceResent(append(header{mine}, block.without("Resent-From", "Resent-Sender")...))
	return nil
}

// RemoveResentSender takes Resent-Sender out of the newest block.
func (m *Message) RemoveResentSender() {
	m.replaceResent(m.header.resentBlock().without("Resent-Sender"))
}

// replaceResent puts a block in the place of the newest one, which stands in one piece.
func (m *Message) replaceResent(block header) {
	old := m.header.resentBlock()
	if len(old) == 0 {
		return
	}
	at := m.header.index(old[0].name)
	m.header = slices.Concat(m.header[:at], block, m.header[at+len(old):])
}

func (m *Message) count(name string) int {
	n := 0
	for _, f := range m.header {
		if f.is(name) {
			n++
		}
	}
	return n
}

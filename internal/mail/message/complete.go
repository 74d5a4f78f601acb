package message

import (
	"encoding/base32"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Complete adds what is missing: Date, Message-ID, From, and MIME-Version,
// Content-Type and Content-Transfer-Encoding for 8-bit text without MIME headers;
// for a resent message Resent-Date, Resent-From and Resent-Message-ID. Bare local
// names in address fields get the domain.
func (m *Message) Complete(c Completion) error {
	if c.Domain != "" {
		m.qualify(c.Domain)
	}
	id, err := c.messageID()
	if err != nil {
		return err
	}
	m.completeResent(c, id)
	if !m.Has("Date") {
		m.Set("Date", c.date())
	}
	if !m.Has("Message-ID") {
		m.Set("Message-ID", id)
	}
	if !m.Has("From") {
		// Not through Set: the words of a long name are folded.
		m.header = append(m.header, c.from("From"))
	}
	m.completeMIME()
	return nil
}

func (c Completion) date() string {
	return c.Now.Format("Mon, 02 Jan 2006 15:04:05 -0700") // RFC 5322 section 3.3
}

func (c Completion) from(name string) field {
	box := c.From
	if c.Domain != "" && !strings.Contains(box.Address, "@") {
		box.Address += "@" + c.Domain
	}
	return field{name: name, raw: []byte(name + ": " + FormatMailbox(box) + "\r\n")}
}

func (c Completion) messageID() (string, error) {
	random := make([]byte, 10)
	if _, err := io.ReadFull(c.Random, random); err != nil {
		return "", fmt.Errorf("make a message id: %w", err)
	}
	unique := strings.ToLower(base32.StdEncoding.EncodeToString(random))
	return "<" + strconv.FormatInt(c.Now.UnixMilli(), 36) + "." + unique + "@" + c.Host + ">", nil
}

// completeResent puts what a resent block lacks in front of it; RFC 5322 section
// 3.6.6 wants at least date and originator in each.
func (m *Message) completeResent(c Completion, id string) {
	block := m.header.resentBlock()
	if len(block) == 0 {
		return
	}
	var missing header
	if block.index("Resent-Date") < 0 {
		missing = append(missing, newField("Resent-Date", c.date()))
	}
	if block.index("Resent-From") < 0 {
		missing = append(missing, c.from("Resent-From"))
	}
	if block.index("Resent-Message-ID") < 0 {
		missing = append(missing, newField("Resent-Message-ID", id))
	}
	at := m.header.index(block[0].name)
	m.header = append(m.header[:at:at], append(missing, m.header[at:]...)...)
}

// completeMIME labels 8-bit text, which without a label is against RFC 2045 section
// 6.1 (the default is 7bit) and shown as question marks.
func (m *Message) completeMIME() {
	if !m.facts.eightBit || m.header.signed() {
		return
	}
	labelled := m.Has("Content-Type")
	if !labelled {
		m.Set("Content-Type", "text/plain; charset="+m.facts.charset())
	}
	if !m.Has("MIME-Version") {
		m.Set("MIME-Version", "1.0")
	}
	if !m.Has("Content-Transfer-Encoding") {
		m.Set("Content-Transfer-Encoding", "8bit")
	}
}

// charset names what the text is in. Text in another charset than UTF-8 cannot be
// told from its octets: RFC 1428 has a name for that.
func (f *facts) charset() string {
	if f.notUTF8 {
		return "unknown-8bit"
	}
	return "utf-8"
}

// qualify appends the domain to bare local names ("From: root"), which no server
// beyond this host would know. Everything else in the fields stays as it is.
func (m *Message) qualify(domain string) {
	for i, f := range m.header {
		if !isAddressField(f.name) || m.header.signed() {
			continue
		}
		body := string(f.body())
		list, err := parseList(body)
		if err != nil {
			continue // what cannot be read is not ours to mend
		}
		var b strings.Builder
		b.Write(f.raw[:len(f.raw)-len(body)])
		done := 0
		for _, e := range list {
			if e.err != nil || strings.LastIndexByte(e.Address, '@') > strings.LastIndexByte(e.Address, '"') {
				continue
			}
			b.WriteString(body[done:e.specEnd] + "@" + domain)
			done = e.specEnd
		}
		b.WriteString(body[done:])
		m.header[i].raw = []byte(b.String())
	}
}

func isAddressField(name string) bool {
	return nameIn(name, []string{"From", "Sender", "Reply-To", "To", "Cc", "Bcc",
		"Resent-From", "Resent-Sender", "Resent-Reply-To", "Resent-To", "Resent-Cc", "Resent-Bcc"})
}

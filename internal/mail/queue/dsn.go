package queue

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"time"
	"unicode"
)

// A Kind says what a report reports.
type Kind string

// The kinds, by the words of Action in RFC 3464 section 2.3.3.
const (
	Failed  Kind = "failed"
	Delayed Kind = "delayed"
	Relayed Kind = "relayed"
)

// A Reporter is who reports come from.
type Reporter struct {
	Host string // Reporting-MTA, and right side of Message-IDs
	From string // header From of reports; "" means MAILER-DAEMON@Host
}

// A Report is a delivery status notification in the making.
type Report struct {
	Kind     Kind
	ID       ID
	Envelope Envelope
	Arrived  time.Time
	Outcomes []Outcome // of the recipients it is about
	Until    time.Time // Will-Retry-Until of a delay
	Now      time.Time
	Reporter Reporter
	Message  io.Reader // what came back; its header goes into the report, all of it with RET=FULL when it is small
}

// What a report returns of a message is bounded: a report is mail too.
const (
	maxReturned       = 256 << 10
	maxReturnedHeader = 64 << 10
)

// DSN writes the report as a message (RFC 3464; RFC 6533 when a UTF-8 address is in
// it). It fails only if Message cannot be read.
func DSN(report Report) ([]byte, error) {
	returned, full, err := report.returned()
	if err != nil {
		return nil, fmt.Errorf("read the message to report on: %w", err)
	}
	// One UTF-8 address makes the whole report one of RFC 6533.
	d := dsn{Report: report, global: !ascii(report.Envelope.From)}
	for _, o := range report.Outcomes {
		d.global = d.global || !ascii(o.Recipient)
	}
	var status, text bytes.Buffer
	d.text(&text)
	d.status(&status)
	boundary := fmt.Sprintf("=_%s_%016x", d.ID, d.digest())
	for bytes.Contains(returned, []byte(boundary)) {
		boundary += "="
	}
	var b bytes.Buffer
	d.header(&b, boundary, returned)
	part := func(kind string, content []byte) {
		encoding := "7bit"
		if !ascii(string(content)) {
			encoding = "8bit"
		}
		fmt.Fprintf(&b, "--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s\r\n", boundary, kind, encoding, content)
	}
	part("text/plain; charset=utf-8", text.Bytes())
	part(d.kind("message/delivery-status", "message/global-delivery-status; charset=utf-8"), status.Bytes())
	// Raw UTF-8 header fields make what is returned global by themselves.
	head, _, _ := bytes.Cut(returned, []byte("\r\n\r\n"))
	utf8Header := !ascii(string(head))
	switch {
	case full && utf8Header:
		part("message/global", returned)
	case full:
		part("message/rfc822", returned)
	case utf8Header:
		part("message/global-headers; charset=utf-8", returned)
	default:
		part("text/rfc822-headers", returned)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.Bytes(), nil
}

type dsn struct {
	Report
	global bool
}

func (d dsn) kind(plain, global string) string {
	if d.global {
		return global
	}
	return plain
}

// unique is the left side of the report's Message-ID: the same for the same report.
func (r Report) unique() string { return fmt.Sprintf("%s.%s.%016x", r.ID, r.Kind, r.digest()) }

// digest tells the reports of one entry apart.
func (r Report) digest() uint64 {
	h := fnv.New64a()
	for _, o := range r.Outcomes {
		fmt.Fprintf(h, "%s\x00", o.Recipient)
	}
	return h.Sum64()
}

func (d dsn) header(b *bytes.Buffer, boundary string, returned []byte) {
	host := d.clean(d.Reporter.Host)
	from := d.clean(d.Reporter.From)
	if from == "" {
		from = "Mail Delivery System <MAILER-DAEMON@" + host + ">"
	}
	subject := map[Kind]string{Failed: "Undelivered mail returned to sender", Delayed: "Delayed mail (still being tried)",
		Relayed: "Mail relayed without delivery report"}[d.Kind]
	fmt.Fprintf(b, "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\n", from, d.clean(d.Envelope.From), subject, date(d.Now))
	fmt.Fprintf(b, "Message-ID: <%s@%s>\r\n", d.unique(), host)
	if id := messageID(returned); id != "" {
		fmt.Fprintf(b, "In-Reply-To: %s\r\nReferences: %s\r\n", id, id)
	}
	// RFC 3834 section 5: no vacation program shall answer this.
	fmt.Fprintf(b, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n")
	kind := d.kind("delivery-status", "global-delivery-status")
	fmt.Fprintf(b, "Content-Type: multipart/report; report-type=%s;\r\n boundary=\"%s\"\r\n", kind, boundary)
	if !ascii(string(returned)) || d.global {
		fmt.Fprintf(b, "Content-Transfer-Encoding: 8bit\r\n")
	}
	fmt.Fprintf(b, "\r\n")
}

func date(t time.Time) string { return t.Format("Mon, 02 Jan 2006 15:04:05 -0700") }

// messageID looks the Message-ID up in a returned header, if it is a plain one.
func messageID(returned []byte) string {
	for line := range bytes.Lines(returned) {
		name, value, ok := strings.Cut(strings.TrimRight(string(line), "\r\n"), ":")
		if name == "" {
			break
		}
		value = strings.TrimSpace(value)
		if ok && strings.EqualFold(strings.TrimSpace(name), "Message-ID") && ascii(value) && len(value) < 500 &&
			strings.HasPrefix(value, "<") && strings.HasSuffix(value, ">") && !strings.ContainsFunc(value, unicode.IsControl) {
			return value
		}
	}
	return ""
}

func (d dsn) text(b *bytes.Buffer) {
	fmt.Fprintf(b, "This is the mail system at %s.\r\n\r\n", d.clean(d.Reporter.Host))
	switch d.Kind {
	case Failed:
		fmt.Fprintf(b, "Your message could not be delivered to the following recipients,\r\nand nothing more will be tried.\r\n\r\n")
	case Delayed:
		fmt.Fprintf(b, "Your message could not be delivered yet to the following recipients.\r\nIt need not be sent again: this goes on until %s.\r\n\r\n", date(d.Until))
	case Relayed:
		fmt.Fprintf(b, "Your message was handed to the next server for the following recipients.\r\nThat server sends no reports, so this is the last one.\r\n\r\n")
	}
	for _, o := range d.Outcomes {
		fmt.Fprintf(b, "  %s\r\n", d.clean(o.Recipient))
		if reply := d.clean(o.Reply); reply != "" {
			fmt.Fprintf(b, "      %s\r\n", reply)
		}
		if server := d.clean(o.Server); server != "" {
			fmt.Fprintf(b, "      (said by %s)\r\n", server)
		}
	}
}

func (d dsn) status(b *bytes.Buffer) {
	if d.Envelope.EnvelopeID != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", d.clean(d.Envelope.EnvelopeID))
	}
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\nArrival-Date: %s\r\n", d.clean(d.Reporter.Host), date(d.Arrived))
	for _, o := range d.Outcomes {
		fmt.Fprintf(b, "\r\n")
		d.recipient(b, o)
	}
}

// recipient writes the fields of RFC 3464 section 2.3 in their order.
func (d dsn) recipient(b *bytes.Buffer, o Outcome) {
	for _, to := range d.Envelope.To {
		if to.Address == o.Recipient && to.Original != "" {
			fmt.Fprintf(b, "Original-Recipient: %s\r\n", d.clean(to.Original))
			break
		}
	}
	kind := "rfc822"
	if !ascii(o.Recipient) {
		kind = "utf-8"
	}
	fmt.Fprintf(b, "Final-Recipient: %s; %s\r\nAction: %s\r\nStatus: %s\r\n", kind, d.clean(o.Recipient), d.Kind, d.statusCode(o))
	if o.Server != "" {
		fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", d.clean(o.Server))
	}
	if reply := d.clean(o.Reply); reply != "" {
		// "smtp" promises a reply line (RFC 3464 section 2.3.6).
		kind := "x-letterlock"
		if len(reply) > 3 && strings.Trim(reply[:3], "0123456789") == "" && strings.ContainsAny(reply[3:4], " -") {
			kind = "smtp"
		}
		fmt.Fprintf(b, "Diagnostic-Code: %s; %s\r\n", kind, reply)
	}
	if !o.At.IsZero() {
		fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", date(o.At))
	}
	if d.Kind == Delayed {
		fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", date(d.Until))
	}
}

// statusCode is the outcome's if it is one (RFC 3463 section 2).
func (d dsn) statusCode(o Outcome) string {
	parts := strings.Split(o.Status, ".")
	good := len(parts) == 3 && (parts[0] == "2" || parts[0] == "4" || parts[0] == "5")
	for _, p := range parts {
		good = good && len(p) >= 1 && len(p) <= 3 && strings.Trim(p, "0123456789") == ""
	}
	switch {
	case good:
		return o.Status
	case d.Kind == Failed:
		return "5.0.0"
	case d.Kind == Delayed:
		return "4.0.0"
	}
	return "2.0.0"
}

// clean makes foreign text fit for one line of the report.
func (d dsn) clean(text string) string {
	const limit = 900
	var b strings.Builder
	for _, r := range text {
		switch {
		case b.Len() >= limit:
			return b.String()
		case r == '\r' || r == '\n' || r == '\t':
			r = ' '
		case unicode.IsControl(r) || r == '\u2028' || r == '\u2029', r >= 0x80 && !d.global:
			r = '?'
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

func ascii(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}

// returned reads what goes back to the sender: the header or, if that was asked for
// (RFC 3461 section 4.3) and it is small, all.
func (r Report) returned() (text []byte, full bool, err error) {
	if r.Message == nil {
		return nil, false, nil
	}
	if strings.EqualFold(r.Envelope.Return, "FULL") && r.Kind == Failed && r.Envelope.Size <= maxReturned {
		text, err = io.ReadAll(io.LimitReader(r.Message, maxReturned))
		return text, true, err
	}
	lines := bufio.NewReader(io.LimitReader(r.Message, maxReturnedHeader))
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimRight(line, "\r\n")) == 0 || errors.Is(err, io.EOF) {
			return text, false, nil // a line that the limit cut is left out
		}
		if err != nil {
			return nil, false, err
		}
		text = append(text, line...)
	}
}

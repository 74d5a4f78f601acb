package delivery

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/letterlock-mail/letterlock/internal/mail/message"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// prepare fits message and addresses to what the server can, and returns MAIL.
func (t *transaction) prepare() (mail string, refusal *answer) {
	e := t.job.envelope
	from, utf8 := e.From, t.foreign()
	if utf8 && !t.can.has("SMTPUTF8") {
		ok := false
		if from, ok = asciiAddress(e.From); !ok {
			return "", t.needsUTF8("the sender's address")
		}
		utf8 = false
		t.refuseNames()
	}
	header, refusal := t.fit(utf8)
	if refusal != nil {
		return "", refusal
	}
	params := ""
	if utf8 || header {
		params += " SMTPUTF8" // RFC 6531 section 3.4
	}
	if t.message.eight && t.can.has("8BITMIME") {
		params += " BODY=8BITMIME" // RFC 6152
	}
	if t.can.has("SIZE") {
		if t.can.size > 0 && t.message.size > t.can.size {
			// RFC 1870 section 6.1: what is known to be too large need not be tried.
			return "", &answer{verdict: queue.Refused, status: "5.3.4", server: t.peer.name, reply: fmt.Sprintf(
				"the message has %d octets, the server takes %d", t.message.size, t.can.size)}
		}
		params += " SIZE=" + strconv.FormatInt(t.message.size, 10)
	}
	return "MAIL FROM:<" + from + ">" + params + t.notices(e), nil
}

// foreign reports whether an address of this transaction is not ASCII.
func (t *transaction) foreign() bool {
	return !isASCII(t.job.envelope.From) || slices.ContainsFunc(t.job.open(), func(a *addressee) bool { return !isASCII(a.Address) })
}

// fit has the message rewritten where the server cannot take it as it is. SMTPUTF8 is
// claimed only when addresses need it: what needs it less gets further.
func (t *transaction) fit(utf8 bool) (header bool, refusal *answer) {
	can := message.Capabilities{EightBit: t.can.has("8BITMIME"), UTF8: utf8}
	fitted, header, err := t.job.message.fit(can)
	if errors.Is(err, message.ErrNeedsUTF8) && t.can.has("SMTPUTF8") {
		can.UTF8 = true
		fitted, header, err = t.job.message.fit(can)
	}
	switch {
	case errors.Is(err, message.ErrNeedsUTF8):
		return false, t.needsUTF8("an address in the header")
	case err != nil:
		return false, &answer{verdict: queue.Deferred, status: "4.3.0", server: t.peer.name, reply: "read the message: " + err.Error()}
	}
	t.message = fitted
	return header && can.UTF8, nil
}

// needsUTF8 refuses what has no ASCII form: X.6.7 of RFC 6531 section 3.7.4.2.
func (t *transaction) needsUTF8(what string) *answer {
	return &answer{verdict: queue.Refused, status: "5.6.7", server: t.peer.name, reply: "the server takes no SMTPUTF8, and " + what + " needs it"}
}

// notices are the parameters of RFC 3461 sections 4.3 and 4.4.
func (t *transaction) notices(e queue.Envelope) string {
	params := ""
	if t.can.has("DSN") && e.Return != "" {
		params += " RET=" + e.Return
	}
	if t.can.has("DSN") && e.EnvelopeID != "" {
		params += " ENVID=" + xtext(e.EnvelopeID)
	}
	return params
}

// refuseNames refuses the recipients that have no ASCII form.
func (t *transaction) refuseNames() {
	for _, to := range t.job.open() {
		if _, ok := asciiAddress(to.Address); !ok {
			to.answer = t.needsUTF8("the address")
		}
	}
}

func (t *transaction) rcpt(to *addressee) string {
	address := to.Address
	if !t.can.has("SMTPUTF8") {
		address, _ = asciiAddress(address) // refuseNames has looked
	}
	line := "RCPT TO:<" + address + ">"
	if !t.can.has("DSN") {
		return line
	}
	if to.Notify != "" {
		line += " NOTIFY=" + to.Notify
	}
	if to.Original != "" {
		line += " ORCPT=" + originalParameter(to.Original)
	}
	return line
}

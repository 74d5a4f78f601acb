package delivery

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// Limits of RFC 5321 section 4.5.3.1. A local part may be longer than its 64 octets:
// mailing lists with VERP make such, and the server is there to say no.
const (
	maxPath  = 254
	maxLabel = 63
)

var errAddress = errors.New("not a mail address")

// CheckAddress says why an address cannot be put between the angle brackets of MAIL
// or RCPT. It is stricter than RFC 5321 in one thing: "<", ">" and "\" are refused in
// quoted local parts too, because servers have been seen to look for them before
// they look for quotes. An address without a domain passes: LMTP has those.
func CheckAddress(address string) error {
	local, domain, found := cutDomain(address)
	switch {
	case len(address) > maxPath:
		return fmt.Errorf("%w: longer than %d octets", errAddress, maxPath)
	case !utf8.ValidString(address):
		return fmt.Errorf("%w: not UTF-8", errAddress)
	case !isLocal(local):
		return fmt.Errorf("%w: the part before the @ has characters that mail does not allow", errAddress)
	case found && !isDomain(domain):
		return fmt.Errorf("%w: the part after the @ is no domain", errAddress)
	}
	return nil
}

// cutDomain splits at the last @: one in a quoted local part is not the separator.
func cutDomain(address string) (local, domain string, found bool) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address, "", false
	}
	return address[:at], address[at+1:], true
}

// isLocal accepts dot-string and quoted-string (RFC 5321 section 4.1.2), both with
// UTF-8 (RFC 6531 section 3.3). Dots at the ends or in a row are let through: a
// large Japanese provider gave such addresses out.
func isLocal(local string) bool {
	if local == "" {
		return false
	}
	if quoted, ok := unquote(local); ok {
		for _, r := range quoted {
			if r < ' ' || r == 0x7f || strings.ContainsRune(`"\<>`, r) || unsafeRune(r) {
				return false
			}
		}
		return true
	}
	for _, r := range local {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>[]:;@\,"`, r) || unsafeRune(r) {
			return false
		}
	}
	return true
}

// unsafeRune refuses C1 controls, Unicode's own line ends and spaces, and what did
// not decode.
func unsafeRune(r rune) bool {
	return r >= 0x80 && r < 0xa1 || r == 0x2028 || r == 0x2029 || r == 0x3000 || r == utf8.RuneError
}

func unquote(local string) (string, bool) {
	if len(local) < 3 || local[0] != '"' || local[len(local)-1] != '"' {
		return "", false
	}
	return local[1 : len(local)-1], true
}

// isDomain accepts host names with UTF-8 labels, underscores (they exist), and
// address literals.
func isDomain(domain string) bool {
	if strings.HasPrefix(domain, "[") {
		_, ok := literal(domain)
		return ok
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > maxLabel*2 || label[0] == '-' {
			return false
		}
		for _, r := range label {
			letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
			if !letter && (r < 0x80 || unsafeRune(r)) {
				return false
			}
		}
	}
	return true
}

// literal reads "[192.0.2.1]" and "[IPv6:2001:db8::1]" (RFC 5321 section 4.1.3).
func literal(domain string) (netip.Addr, bool) {
	inside, ok := strings.CutPrefix(domain, "[")
	if !ok {
		return netip.Addr{}, false
	}
	if inside, ok = strings.CutSuffix(inside, "]"); !ok {
		return netip.Addr{}, false
	}
	six := false
	if len(inside) > 5 && strings.EqualFold(inside[:5], "IPv6:") {
		inside, six = inside[5:], true
	}
	ip, err := netip.ParseAddr(inside)
	if err != nil || ip.Zone() != "" || ip.Is4() == six {
		return netip.Addr{}, false
	}
	return ip, true
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}

// asciiAddress writes the domain in its ASCII form, for servers without SMTPUTF8. ok
// is false when the local part is not ASCII: that has no other form (RFC 6531 section
// 3.5).
func asciiAddress(address string) (ascii string, ok bool) {
	if isASCII(address) {
		return address, true
	}
	local, domain, _ := cutDomain(address)
	if !isASCII(local) {
		return "", false
	}
	domain, ok = asciiDomain(domain)
	return local + "@" + domain, ok
}

func asciiDomain(domain string) (string, bool) {
	if isASCII(domain) {
		return strings.ToLower(domain), true
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	return ascii, err == nil && isDomain(ascii)
}

// checkEnvelope looks at what all recipients share.
func checkEnvelope(e queue.Envelope) *answer {
	if e.From != "" {
		if err := CheckAddress(e.From); err != nil {
			// RFC 3463: 5.1.7, bad sender's mailbox address syntax.
			return &answer{verdict: queue.Refused, status: "5.1.7", reply: "sender: " + err.Error()}
		}
	}
	if e.Return != "" && e.Return != "FULL" && e.Return != "HDRS" || !isEnvelopeID(e.EnvelopeID) {
		return &answer{verdict: queue.Refused, status: "5.5.4", reply: "invalid parameter for delivery notifications"}
	}
	return nil
}

func checkRecipient(r queue.Recipient) *answer {
	if err := CheckAddress(r.Address); err != nil {
		// RFC 3463: 5.1.3, bad destination mailbox address syntax.
		return &answer{verdict: queue.Refused, status: "5.1.3", reply: err.Error()}
	}
	if !isNotify(r.Notify) || !isOriginal(r.Original) {
		return &answer{verdict: queue.Refused, status: "5.5.4", reply: "invalid parameter for delivery notifications"}
	}
	return nil
}

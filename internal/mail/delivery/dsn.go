package delivery

import (
	"fmt"
	"strings"
)

// Parameters of RFC 3461. They come from argv (-N, -R, -V) like the addresses do, so
// they are checked like them.

// isEnvelopeID: RFC 3461 section 4.4, printable US-ASCII, at most 100 characters.
func isEnvelopeID(id string) bool {
	return len(id) <= 100 && isPrintable(id)
}

func isPrintable(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// isNotify: RFC 3461 section 4.1, NEVER alone or any of the others, each once.
func isNotify(notify string) bool {
	if notify == "" || notify == "NEVER" {
		return true
	}
	seen := 0
	for word := range strings.SplitSeq(notify, ",") {
		bit := 0
		switch word {
		case "SUCCESS":
			bit = 1
		case "FAILURE":
			bit = 2
		case "DELAY":
			bit = 4
		}
		if bit == 0 || seen&bit != 0 {
			return false
		}
		seen |= bit
	}
	return true
}

// isOriginal: an address, or "type;address", not yet encoded (RFC 3461 section 4.2).
func isOriginal(original string) bool {
	if len(original) > 500 {
		return false
	}
	kind, address := cutType(original)
	for _, r := range address {
		if r < ' ' || r == 0x7f || r == '<' || r == '>' || unsafeRune(r) {
			return false
		}
	}
	for i := range len(kind) {
		c := kind[i] | 0x20
		if (c < 'a' || c > 'z') && (kind[i] < '0' || kind[i] > '9') && kind[i] != '-' {
			return false
		}
	}
	return original == "" || kind != "" && address != ""
}

func cutType(original string) (kind, address string) {
	kind, address, found := strings.Cut(original, ";")
	if !found {
		return "rfc822", original
	}
	return kind, address
}

// originalParameter is ORCPT's value.
func originalParameter(original string) string {
	kind, address := cutType(original)
	if isASCII(address) {
		return kind + ";" + xtext(address)
	}
	// RFC 6533 section 3: utf-8-addr-xtext, which is ASCII and needs no SMTPUTF8.
	var b strings.Builder
	for _, r := range address {
		switch {
		case r < 0x80 && r > ' ' && r != '\\' && r != '+' && r != '=':
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\x{%02X}`, r)
		}
	}
	return "utf-8;" + b.String()
}

// xtext is the encoding of RFC 3461 section 4. It may encode more than it must: angle
// brackets, in which servers have been seen to look for the end of the path.
func xtext(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c > ' ' && c <= '~' && c != '+' && c != '=' && c != '<' && c != '>' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "+%02X", c)
		}
	}
	return b.String()
}

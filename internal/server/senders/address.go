package senders

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// maxAddress is RFC 5321's 256 of a path, doubled for UTF-8 (RFC 6531 section 3.3
// counts octets; domains grow as A-labels).
const maxAddress = 512

// Canonical returns the one form of an address that everything here is compared in: NFC
// and lower case, the domain in A-labels. ok is false when it is no mailbox that
// anybody here could own.
func Canonical(address string) (canonical string, ok bool) {
	if len(address) > maxAddress || !utf8.ValidString(address) {
		return "", false
	}
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || at == len(address)-1 {
		return "", false
	}
	local, ok := localPart(address[:at])
	if !ok {
		return "", false
	}
	domain, ok := canonicalDomain(address[at+1:])
	if !ok {
		return "", false
	}
	return local + "@" + domain, true
}

// canonicalEntry is Canonical for lists that also hold "@domain".
func canonicalEntry(entry string) (string, bool) {
	if domain, whole := strings.CutPrefix(entry, "@"); whole {
		domain, ok := canonicalDomain(domain)
		return "@" + domain, ok
	}
	return Canonical(entry)
}

// localPart takes a dot-atom, and a quoted string that needed no quotes (RFC 5321
// section 4.1.2 calls them the same mailbox). Nobody here has any other.
func localPart(local string) (string, bool) {
	if len(local) >= 2 && local[0] == '"' && local[len(local)-1] == '"' {
		local = local[1 : len(local)-1]
	}
	local = strings.ToLower(norm.NFC.String(local))
	// An encoded word is a legal local part by its characters, and some programs show
	// what it decodes to.
	if local == "" || len(local) > 128 || strings.Contains(local, "=?") || strings.HasPrefix(local, ".") ||
		strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		return "", false
	}
	for _, r := range local {
		if r < utf8.RuneSelf && !isAtext(byte(r)) && r != '.' {
			return "", false
		}
		if r >= utf8.RuneSelf && !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			return "", false
		}
	}
	return local, true
}

// isAtext is RFC 5322 section 3.2.3.
func isAtext(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// canonicalDomain maps a domain to lower-case A-labels (RFC 5891, as look-ups do).
func canonicalDomain(domain string) (string, bool) {
	ascii := true
	for i := range len(domain) {
		ascii = ascii && domain[i] < utf8.RuneSelf
	}
	mapped := strings.ToLower(domain)
	if !ascii || strings.Contains(mapped, "xn--") {
		var err error
		if mapped, err = idna.Lookup.ToASCII(domain); err != nil {
			return "", false
		}
	}
	if mapped == "" || len(mapped) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(mapped, ".") {
		if label == "" || len(label) > 63 || !isLabel(label) {
			return "", false
		}
	}
	return mapped, true
}

func isLabel(label string) bool {
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return label[0] != '-' && label[len(label)-1] != '-'
}

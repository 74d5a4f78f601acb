package identity

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// The lengths of RFC 5321 section 4.5.3.1 and RFC 1035 section 2.3.4. A local part in
// UTF-8 is given the double (RFC 6531 section 3.3 counts octets).
const (
	maxLocal   = 128
	maxDomain  = 253
	maxAddress = maxLocal + 1 + 2*maxDomain
)

// ErrAddress means that a text is no mail address that anybody here could have.
var ErrAddress = errors.New("no mail address")

// CanonicalAddress brings an address into the one form in which addresses are kept and
// compared: lower case, normal form C, the domain in A-labels. Control and invisible
// characters are refused, whatever they hide: the result goes into line protocols, logs
// and other people's queries. Quoted local parts are taken only when they needed no
// quotes, which RFC 5321 section 4.1.2 calls the same mailbox.
func CanonicalAddress(address string) (string, error) {
	if len(address) > maxAddress || !utf8.ValidString(address) {
		return "", ErrAddress
	}
	at := strings.LastIndexByte(address, '@')
	if at <= 0 {
		return "", ErrAddress
	}
	local, domain := address[:at], address[at+1:]
	if plainLocal(local) && plainDomain(domain) {
		return address, nil
	}
	local, err := canonicalLocal(local)
	if err != nil {
		return "", err
	}
	if domain, err = CanonicalDomain(domain); err != nil {
		return "", err
	}
	return local + "@" + domain, nil
}

// plainLocal and plainDomain know the form that nearly all addresses have already.
func plainLocal(local string) bool {
	for i := range len(local) {
		c := local[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '+' && (c != '.' || i == 0 || i == len(local)-1 || local[i-1] == '.') {
			return false
		}
	}
	return local != "" && len(local) <= maxLocal
}

// plainDomain leaves "--" to the long way: such a label may be an A-label.
func plainDomain(domain string) bool {
	label := 0
	for i := range len(domain) {
		c := domain[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-' && label > 0 && domain[i-1] != '-' && i < len(domain)-1 && domain[i+1] != '.':
			label++
		case c == '.' && label > 0:
			label = 0
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	return label > 0 && len(domain) <= maxDomain
}

func canonicalLocal(local string) (string, error) {
	if len(local) > 2 && local[0] == '"' && local[len(local)-1] == '"' {
		local = local[1 : len(local)-1]
	}
	local = norm.NFC.String(strings.ToLower(norm.NFC.String(local)))
	if local == "" || len(local) > maxLocal || local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "..") {
		return "", ErrAddress
	}
	// An encoded word is a legal local part by its characters, and some programs show
	// what it decodes to.
	if strings.Contains(local, "=?") {
		return "", ErrAddress
	}
	for _, r := range local {
		if r < utf8.RuneSelf && r != '.' && !isAtext(byte(r)) || r >= utf8.RuneSelf && !unicode.IsPrint(r) || r == utf8.RuneError {
			return "", ErrAddress
		}
	}
	return local, nil
}

// isAtext is RFC 5322 section 3.2.3.
func isAtext(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// CanonicalDomain maps a domain to lower-case A-labels (RFC 5891, as look-ups do).
func CanonicalDomain(domain string) (string, error) {
	if plainDomain(domain) {
		return domain, nil
	}
	if len(domain) > 2*maxDomain || !utf8.ValidString(domain) {
		return "", ErrAddress
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil || len(ascii) > maxDomain {
		return "", ErrAddress
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
		}) {
			return "", ErrAddress
		}
	}
	return ascii, nil
}

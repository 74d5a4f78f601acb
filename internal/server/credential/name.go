package credential

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// The lengths of RFC 5321 section 4.5.3.1 and RFC 1035 section 2.3.4.
const (
	maxUser   = 320
	maxLocal  = 64
	maxDomain = 253
)

// errName is no detail: nobody but a log sees it.
var errName = errors.New("not a mail address")

// CanonicalUser brings a user name into the one form that identities have: an address
// in lower case and normal form C, its domain in A-labels. A name without a domain
// gets the given one. Control and invisible characters are refused, whatever they
// hide: the name goes into line protocols, logs and other people's queries.
func CanonicalUser(name, domain string) (string, error) {
	if len(name) > maxUser {
		return "", errName
	}
	name = strings.Trim(name, " ") // telephones put one behind a completed word
	local, at, found := strings.Cut(name, "@")
	if !found {
		at = domain
	}
	if plainLocal(local) && plainDomain(at) {
		if found {
			return name, nil
		}
		return local + "@" + at, nil
	}
	local, err := canonicalLocal(local)
	if err != nil {
		return "", err
	}
	if at, err = canonicalDomain(at); err != nil {
		return "", err
	}
	return local + "@" + at, nil
}

// plainLocal and plainDomain know the form that nearly all names have already.
func plainLocal(local string) bool {
	for i := range len(local) {
		c := local[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' && c != '+' {
			return false
		}
	}
	return local != "" && len(local) <= maxLocal
}

func plainDomain(domain string) bool {
	last := byte('.')
	for i := range len(domain) {
		c := domain[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '.' && last != '.' && last != '-':
		case c == '-' && last != '.' && last != '-':
		default:
			return false // also "--": it may be an A-label, which idna looks at
		}
		last = c
	}
	return domain != "" && last != '.' && last != '-' && len(domain) <= maxDomain && labelsFit(domain)
}

func labelsFit(domain string) bool {
	for label := range strings.SplitSeq(domain, ".") {
		if len(label) > 63 {
			return false
		}
	}
	return true
}

// canonicalLocal takes the dot-string of RFC 5321 section 4.1.2, with the characters
// of RFC 6531. Quoted local parts are refused: no person here has one, and they are
// how blanks and a second "@" would come in.
func canonicalLocal(local string) (string, error) {
	if !utf8.ValidString(local) {
		return "", errName
	}
	local = norm.NFC.String(strings.ToLower(norm.NFC.String(local)))
	if local == "" || len(local) > maxLocal {
		return "", errName
	}
	for _, r := range local {
		if !unicode.IsPrint(r) || unicode.IsSpace(r) || r == utf8.RuneError || strings.ContainsRune(`"(),:;<>@[\]`, r) {
			return "", errName
		}
	}
	return local, nil
}

func canonicalDomain(domain string) (string, error) {
	if !utf8.ValidString(domain) || len(domain) > maxUser {
		return "", errName
	}
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(domain, "."))
	if err != nil || ascii == "" || len(ascii) > maxDomain || !labelsFit(ascii) {
		return "", errName
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" {
			return "", errName
		}
	}
	return ascii, nil
}

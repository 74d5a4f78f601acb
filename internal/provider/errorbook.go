package provider

import (
	"cmp"
	"slices"
	"strings"
)

// A Kind says who can do something about an error, in terms that do not know the
// command line.
type Kind string

// The kinds of errors.
const (
	SignIn        Kind = "sign-in"       // signing in again helps
	BadClient     Kind = "client"        // the client's registration is wrong
	Setting       Kind = "setting"       // an option of ours or of the account is wrong
	Administrator Kind = "administrator" // the administrator of the organization has to act
	Refused       Kind = "refused"       // the person or the server said no
	Retry         Kind = "retry"         // passes by itself
	Fault         Kind = "fault"         // a mistake in the protocol, ours or the server's
)

// An Entry of the error book explains one error.
type Entry struct {
	Code     string // "AADSTS50011", "5.7.139", "invalid_grant"
	Meaning  string // what the code says
	Cause    string // what usually lies behind it
	Remedy   string // what to do now
	Provider string // Provider.Family; empty: anybody's
	Kind     Kind
}

// A page of the book is one explanation for one or more codes.
type page struct {
	codes []string // how the error shows itself; the first text of several is the code
	entry Entry
}

// maxQuery bounds what Explain searches: a pasted error, not a log.
const maxQuery = 16 << 10

// Explain finds what it can explain in a code ("AADSTS50011", "50011", "5.7.139",
// "invalid_grant") or in a pasted error, in the order of appearance; where a provider
// has a meaning of its own for a code, that comes before the general one.
func Explain(query string) []Entry {
	query = strings.ToLower(query[:min(len(query), maxQuery)])
	type hit struct {
		at    int
		entry Entry
	}
	var hits []hit
	for _, page := range book() {
		for _, code := range page.codes {
			at := mention(query, strings.ToLower(code))
			if at < 0 {
				continue
			}
			entry := page.entry
			entry.Code = code
			hits = append(hits, hit{at, entry})
		}
	}
	slices.SortStableFunc(hits, func(a, b hit) int { return cmp.Compare(a.at, b.at) })
	entries := make([]Entry, 0, len(hits))
	for _, h := range hits {
		entries = append(entries, h.entry)
	}
	return entries
}

// book is the whole book. Pages of providers come before the general ones.
func book() []page {
	return slices.Concat(
		microsoftClientPages(), microsoftTenantPages(), microsoftGrantPages(), microsoftPolicyPages(), microsoftRequestPages(),
		googlePages(), googleAPIPages(), microsoftMailPages(), googleMailPages(), otherPages(), mailPages(), oauthPages(), registrationPages(),
	)
}

// mention returns where text mentions code, or -1. Microsoft's numbers are also found
// without AADSTS, but only where it is plain that they are such: a port or a time in a
// log may have the same digits.
func mention(text, code string) int {
	if at := word(text, code); at >= 0 {
		return at
	}
	number, ok := strings.CutPrefix(code, "aadsts")
	if !ok {
		return -1
	}
	if strings.TrimSpace(text) == number {
		return 0
	}
	for _, lead := range []string{`"error_codes":[`, `"error_codes": [`, "error?code=", "error code: ", "error code "} {
		if at := word(text, lead+number); at >= 0 {
			return at
		}
	}
	return -1
}

// word finds code in text where no letter, digit or further part of a dotted number
// touches it: 5.7.1 is not in 5.7.139 nor in 15.7.1, and AADSTS50020 not in
// AADSTS500208.
func word(text, code string) int {
	for from := 0; ; {
		at := strings.Index(text[from:], code)
		if at < 0 {
			return -1
		}
		at += from
		if !joined(text, at-1, -1) && !joined(text, at+len(code), 1) {
			return at
		}
		from = at + 1
	}
}

// joined reports whether the byte at i continues a word; a dot or a dash does when a
// letter or digit lies behind it, as in 5.7.139 and in foo-invalid_grant.
func joined(text string, i, direction int) bool {
	if i < 0 || i >= len(text) {
		return false
	}
	if wordByte(text[i]) {
		return true
	}
	next := i + direction
	return text[i] == '.' && next >= 0 && next < len(text) && text[next] >= '0' && text[next] <= '9'
}

func wordByte(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b == '_'
}

package credential

import (
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// HasForm reports whether a secret looks like one of ours: an app password, however it was
// typed, or a token, also in quotes or behind the "Bearer" that web mail puts before it.
// Such a one is judged here and never handed to anybody else.
func HasForm(s secret.String) bool {
	text := strings.Trim(s.Reveal(), " \t\r\n\"'`<>()[]{}.,;:")
	if _, ok := parseAppPassword(text); ok {
		// A UUID, or what openssl rand -hex 16 gives, is what services have elsewhere for a
		// password. One in four thousand million of ours has no letter behind f.
		return strings.ContainsFunc(text, beyondHex)
	}
	return holdsToken(text)
}

func beyondHex(r rune) bool {
	return r >= 'g' && r <= 'z' || r >= 'G' && r <= 'Z'
}

// tokenTail is how much of a token behind its prefix makes one of it.
const tokenTail = 20

// holdsToken finds llat_, llrt_ and their like (ll, a letter or two, an underscore) with what
// follows them; a telephone writes the first letter large.
func holdsToken(text string) bool {
	// At the beginning, and of the two that are shown at mail servers, any length will do.
	if len(text) > 5 && strings.EqualFold(text[:2], "ll") && strings.EqualFold(text[3:5], "t_") {
		return true
	}
	for i := range len(text) {
		if text[i] == '_' && prefixed(text[:i]) && tail(text[i+1:]) >= tokenTail {
			return true
		}
	}
	return false
}

// prefixed reports whether a text ends in a word of ll and one or two letters. In the
// middle of a long token of somebody else's such letters come by chance.
func prefixed(text string) bool {
	for _, n := range []int{3, 4} {
		if len(text) < n || !strings.EqualFold(text[len(text)-n:][:2], "ll") {
			continue
		}
		if len(text) == n || tail(text[len(text)-n-1:len(text)-n]) == 0 {
			return true
		}
	}
	return false
}

// tail is how many characters of base64url a text begins with.
func tail(text string) int {
	for i := range len(text) {
		if c := text[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return i
		}
	}
	return len(text)
}

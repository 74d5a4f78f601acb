package credential

import (
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// HasForm reports whether a secret looks like one of ours: an app password, however it was
// typed, or a token. Such a one is judged here and never handed to anybody else.
func HasForm(s secret.String) bool {
	text := strings.TrimSpace(s.Reveal())
	if _, ok := parseAppPassword(text); ok {
		return true
	}
	// llat_, llrt_ and what may follow them; a telephone writes the first letter large.
	return len(text) > 5 && strings.EqualFold(text[:2], "ll") && strings.EqualFold(text[3:5], "t_")
}

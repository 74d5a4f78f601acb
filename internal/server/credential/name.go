package credential

import (
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// userName brings what was typed for a user name into the form of addresses. Telephones
// put a space behind a completed word, and some people write the root's dot; a name
// without a domain gets the given one.
func userName(name, domain string) (string, error) {
	if len(name) > 1024 {
		return "", identity.ErrAddress
	}
	name = strings.Trim(name, " ")
	if !strings.Contains(name, "@") {
		name += "@" + domain
	}
	return identity.CanonicalAddress(strings.TrimSuffix(name, "."))
}

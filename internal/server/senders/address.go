package senders

import (
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// canonicalEntry is identity.CanonicalAddress for lists that also hold "@domain".
func canonicalEntry(entry string) (string, error) {
	if domain, whole := strings.CutPrefix(entry, "@"); whole {
		domain, err := identity.CanonicalDomain(domain)
		return "@" + domain, err
	}
	return identity.CanonicalAddress(entry)
}

// Package domain is what a sending domain publishes: its DKIM keys and signatures, the
// records of SPF, DKIM, DMARC, MTA-STS and TLSRPT, and checks of what stands in DNS.
//
//	dkim new ---> Create -> FOLDER/DOMAIN/SELECTOR.pem, FOLDER/DOMAIN/signing
//	delivery ---> OpenKeys -> Keys.Sign -> DKIM-Signature fields
//	dns DOMAIN -> Publish -> records          (nothing is asked)
//	          \-> Checker.Check -> findings   (DNS, one HTTPS request, one connection)
//
// It publishes nothing by itself: a zone belongs to whoever runs its name servers.
//
// Signatures are made and tested by emersion/go-msgauth; the header list, the choice of
// keys and the limits are ours. go-msgauth's dmarc package was looked at: it refuses a
// record for the first tag that it does not know the value of, without saying which
// tag a postmaster has to mend. blitiri.com.ar/go/spf is a good evaluator of SPF, and
// the tests compare ours with it; but its seven regular expressions are compiled before
// main in each run of letterlock, by every cron job, and it does not tell how many of
// the ten lookups a record takes. DNS goes through net.Resolver behind a small interface:
// everything asked here are A, AAAA, MX, TXT and PTR, for which miekg/dns is not worth
// its start-up time.
package domain

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/idna"
)

// ErrName means that a domain or a selector cannot be written in DNS.
var ErrName = errors.New("not a domain name")

// Name gives a domain as DNS has it: lower case, A-labels (RFC 5890), no final dot.
func Name(domain string) (string, error) {
	name := strings.TrimSuffix(domain, ".")
	if strings.ContainsFunc(name, func(r rune) bool { return r > '~' }) {
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", fmt.Errorf("%w: %q", ErrName, shorten(domain))
		}
		name = ascii
	}
	name = strings.ToLower(name)
	if !isName(name) || !strings.Contains(name, ".") {
		return "", fmt.Errorf("%w: %q", ErrName, shorten(domain))
	}
	return name, nil
}

// isName reports whether name is made of labels of letters, digits and inner hyphens
// (RFC 1123 section 2.1). It is also what makes it fit for a file name.
func isName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}

// shorten keeps foreign text in errors short.
func shorten(text string) string {
	const limit = 100
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit], "") + "..."
	}
	return text
}

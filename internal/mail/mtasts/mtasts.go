// Package mtasts is MTA-STS (RFC 8461) for those who send: whether a domain has a
// policy, what it says, and whether a mail exchanger fits it. delivery asks before it
// delivers; domain uses the same reading to check what a postmaster has published.
//
//	TXT _mta-sts.DOMAIN  -> id        changed or unknown?
//	https://mta-sts.DOMAIN/.well-known/mta-sts.txt -> Policy -> Cache (memory, folder)
//
// It is written here because no library of it could be had that keeps the cache on
// disk: a policy that is forgotten at each start protects nobody, since the attacker
// whom it is meant for can also stop it from being fetched.
package mtasts

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/trust"
)

// ErrPolicy means a record or policy that is not one.
var ErrPolicy = errors.New("not an MTA-STS policy")

// A Mode says what is to happen when a server does not fit.
type Mode string

// The modes of RFC 8461 section 5.
const (
	Enforce Mode = "enforce"
	Testing Mode = "testing"
	None    Mode = "none"
)

// MaxPolicy is the size of the largest policy read (RFC 8461 section 3.3: 64 KB).
const MaxPolicy = 64 << 10

const (
	maxAge     = 31557600 * time.Second // RFC 8461 section 3.2
	maxHosts   = 200
	maxIDChars = 32
)

// A Policy is what a domain asks of those who send to it.
type Policy struct {
	ID     string // of the record that announced it
	Mode   Mode
	MX     []string // host names, or "*." and a domain
	MaxAge time.Duration
}

// Enforced reports whether a server that does not fit must not be used. nil is no
// policy.
func (p *Policy) Enforced() bool { return p != nil && p.Mode == Enforce }

// Matches reports whether host is one of the policy's (RFC 8461 section 4.1): the
// star stands for exactly one label.
func (p *Policy) Matches(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, pattern := range p.MX {
		if pattern == host {
			return true
		}
		if parent, wild := strings.CutPrefix(pattern, "*."); wild {
			if _, rest, found := strings.Cut(host, "."); found && rest == parent && !strings.HasPrefix(host, ".") {
				return true
			}
		}
	}
	return false
}

// ParsePolicy reads the file (RFC 8461 section 3.2).
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > MaxPolicy {
		return nil, fmt.Errorf("%w: over %d bytes", ErrPolicy, MaxPolicy)
	}
	p := &Policy{}
	seen := map[string]bool{}
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, value, found := strings.Cut(line, ":")
		if !found || !isKey(key) {
			return nil, fmt.Errorf("%w: a line without a key", ErrPolicy)
		}
		// Keys but mx count once; of others the first is taken.
		if seen[key] && key != "mx" {
			continue
		}
		if len(seen) == 0 && key != "version" {
			return nil, fmt.Errorf("%w: it does not begin with its version", ErrPolicy)
		}
		seen[key] = true
		if err := p.set(key, strings.Trim(value, " \t")); err != nil {
			return nil, err
		}
	}
	switch {
	case !seen["version"] || !seen["mode"] || !seen["max_age"]:
		return nil, fmt.Errorf("%w: version, mode or max_age is missing", ErrPolicy)
	case p.Mode != None && len(p.MX) == 0:
		return nil, fmt.Errorf("%w: it names no mx", ErrPolicy)
	}
	return p, nil
}

func (p *Policy) set(key, value string) error {
	switch key {
	case "version":
		if value != "STSv1" {
			return fmt.Errorf("%w: unknown version", ErrPolicy)
		}
	case "mode":
		p.Mode = Mode(value)
		if p.Mode != Enforce && p.Mode != Testing && p.Mode != None {
			return fmt.Errorf("%w: unknown mode", ErrPolicy)
		}
	case "max_age":
		seconds, err := strconv.ParseUint(value, 10, 40)
		if err != nil || len(value) > 10 || value[0] == '+' {
			return fmt.Errorf("%w: max_age is no number of seconds", ErrPolicy)
		}
		p.MaxAge = min(time.Duration(min(seconds, uint64(maxAge/time.Second)))*time.Second, maxAge)
	case "mx":
		value = strings.ToLower(strings.TrimSuffix(value, "."))
		if !isPattern(value) || len(p.MX) == maxHosts {
			return fmt.Errorf("%w: mx is no host name", ErrPolicy)
		}
		p.MX = append(p.MX, value)
	}
	return nil // RFC 8461 section 3.2: unknown keys are for later versions
}

// ParseRecord reads a TXT record (RFC 8461 section 3.1). ok is false for one that is
// about something else; err is about one that should be a policy's and is not.
func ParseRecord(text string) (id string, ok bool, err error) {
	rest, ok := strings.CutPrefix(text, "v=STSv1")
	if !ok || rest != "" && rest[0] != ';' && rest[0] != ' ' && rest[0] != '\t' {
		return "", false, nil
	}
	for field := range strings.SplitSeq(rest, ";") {
		key, value, found := strings.Cut(strings.Trim(field, " \t"), "=")
		if found && key == "id" && id == "" {
			id = value
		}
	}
	if id == "" || len(id) > maxIDChars || strings.IndexFunc(id, notAlphanumeric) >= 0 {
		return "", true, fmt.Errorf("%w: the record has no proper id", ErrPolicy)
	}
	return id, true, nil
}

func notAlphanumeric(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

func isKey(key string) bool {
	if key == "" || len(key) > 32 {
		return false
	}
	return strings.IndexFunc(key, func(r rune) bool { return notAlphanumeric(r) && r != '_' && r != '-' && r != '.' }) < 0
}

func isPattern(pattern string) bool {
	pattern = strings.TrimPrefix(pattern, "*.")
	if pattern == "" || len(pattern) > 253 {
		return false
	}
	for label := range strings.SplitSeq(pattern, ".") {
		if label == "" || len(label) > 63 || strings.IndexFunc(label, func(r rune) bool { return notAlphanumeric(r) && r != '-' && r != '_' }) >= 0 {
			return false
		}
	}
	return true
}

// Verify checks a certificate as the policy wants it (RFC 8461 section 4.2): a chain
// to a known root, and the MX host's name. roots nil: the system's.
func Verify(state tls.ConnectionState, host string, roots *x509.CertPool) error {
	return trust.Verify(state.PeerCertificates, host, roots, time.Time{})
}

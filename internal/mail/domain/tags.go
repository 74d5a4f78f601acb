package domain

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// ErrRecord means a record that does not follow its RFC.
var ErrRecord = errors.New("not a valid record")

// recordLimit is far above any record that means something.
const recordLimit = 16 << 10

// A tag is one name=value of a list (RFC 6376 section 3.2), which DMARC and TLSRPT have
// taken over.
type tag struct{ name, value string }

type tags []tag

func (t tags) get(name string) (string, bool) {
	for _, tag := range t {
		if tag.name == name {
			return tag.value, true
		}
	}
	return "", false
}

func parseTags(text string) (tags, error) {
	if len(text) > recordLimit {
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrRecord, recordLimit)
	}
	var out tags
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.Trim(part, " \t\r\n"); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.TrimRight(name, " \t\r\n")
		if !ok || name == "" {
			return nil, fmt.Errorf("%w: %q is no name=value", ErrRecord, shorten(part))
		}
		if _, twice := out.get(name); twice {
			return nil, fmt.Errorf("%w: %q stands there twice", ErrRecord, shorten(name))
		}
		out = append(out, tag{name, strings.TrimLeft(value, " \t\r\n")})
	}
	return out, nil
}

// A KeyRecord is what a DKIM record says (RFC 6376 section 3.6.1).
type KeyRecord struct {
	Kind     string // rsa, ed25519, or one that is not known
	Public   crypto.PublicKey
	Revoked  bool     // p= is empty
	Hashes   []string // nil: all
	Services []string // nil: all
	Testing  bool     // t=y: verifiers treat the mail as unsigned
}

// ParseKeyRecord reads a DKIM record.
func ParseKeyRecord(text string) (KeyRecord, error) {
	var k KeyRecord
	list, err := parseTags(text)
	if err != nil {
		return k, err
	}
	if v, ok := list.get("v"); ok && (v != "DKIM1" || list[0].name != "v") {
		return k, fmt.Errorf("%w: it must begin with v=DKIM1", ErrRecord)
	}
	k.Kind = "rsa"
	if kind, ok := list.get("k"); ok {
		k.Kind = kind
	}
	if h, ok := list.get("h"); ok {
		k.Hashes = splitTrim(h, ":")
	}
	if s, ok := list.get("s"); ok && !slices.Contains(splitTrim(s, ":"), "*") {
		k.Services = splitTrim(s, ":")
	}
	if t, ok := list.get("t"); ok {
		k.Testing = slices.Contains(splitTrim(t, ":"), "y")
	}
	p, ok := list.get("p")
	if !ok {
		return k, fmt.Errorf("%w: it has no p=", ErrRecord)
	}
	p = strings.Join(strings.Fields(p), "")
	if k.Revoked = p == ""; k.Revoked {
		return k, nil
	}
	k.Public, err = parsePublic(k.Kind, p)
	return k, err
}

func parsePublic(kind, text string) (crypto.PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: p= is not base64", ErrRecord)
	}
	switch kind {
	case "ed25519":
		if len(raw) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: p= has %d bytes, an Ed25519 key has 32", ErrRecord, len(raw))
		}
		return ed25519.PublicKey(bytes.Clone(raw)), nil
	case "rsa":
		if key, err := x509.ParsePKCS1PublicKey(raw); err == nil {
			return key, nil // erratum 3017
		}
		key, err := x509.ParsePKIXPublicKey(raw)
		if rsaKey, ok := key.(*rsa.PublicKey); err == nil && ok {
			return rsaKey, nil
		}
		return nil, fmt.Errorf("%w: p= is no RSA key", ErrRecord)
	}
	return nil, fmt.Errorf("%w: k=%s is not known", ErrRecord, shorten(kind))
}

// A DMARC is what a DMARC record says (RFC 9989 section 4.7).
type DMARC struct {
	Policy     string // none, quarantine, reject
	Subdomains string // sp=; empty: as Policy
	Testing    bool   // t=y
	StrictDKIM bool
	StrictSPF  bool
	Reports    []string // rua=
	Removed    []string // tags that RFC 9989 has taken out
}

// ParseDMARC reads a record; ok is false for one that is about something else. err is
// about one that receivers ignore or read as p=none.
func ParseDMARC(text string) (d DMARC, ok bool, err error) {
	head, _, _ := strings.Cut(text, ";")
	if name, version, _ := strings.Cut(head, "="); strings.Trim(name, " \t") != "v" || strings.Trim(version, " \t") != "DMARC1" {
		return d, false, nil
	}
	list, err := parseTags(text)
	if err != nil {
		return d, true, err
	}
	d.Policy = "none"
	for _, t := range list {
		value := strings.ToLower(t.value)
		switch t.name {
		case "p", "sp", "np":
			if value != "none" && value != "quarantine" && value != "reject" {
				err = fmt.Errorf("%w: %s=%s is neither none, quarantine nor reject", ErrRecord, t.name, shorten(t.value))
			} else if t.name == "p" {
				d.Policy = value
			} else if t.name == "sp" {
				d.Subdomains = value
			}
		case "adkim", "aspf":
			if value != "r" && value != "s" {
				err = fmt.Errorf("%w: %s=%s is neither r nor s", ErrRecord, t.name, shorten(t.value))
			} else if t.name == "adkim" {
				d.StrictDKIM = value == "s"
			} else {
				d.StrictSPF = value == "s"
			}
		case "t":
			d.Testing = value == "y"
		case "rua":
			d.Reports = splitTrim(t.value, ",")
		case "pct", "rf", "ri":
			d.Removed = append(d.Removed, t.name)
		}
	}
	if _, has := list.get("p"); !has && err == nil {
		err = fmt.Errorf("%w: it has no p=", ErrRecord)
	}
	return d, true, err
}

// ParseTLSRPT reads a TLSRPT record (RFC 8460 section 3) and gives where reports go; ok
// is false for a record that is about something else.
func ParseTLSRPT(text string) (reports []string, ok bool, err error) {
	if head, _, _ := strings.Cut(text, ";"); strings.TrimRight(head, " \t") != "v=TLSRPTv1" {
		return nil, false, nil
	}
	list, err := parseTags(text)
	if err != nil {
		return nil, true, err
	}
	rua, _ := list.get("rua")
	reports = splitTrim(rua, ",")
	for _, uri := range reports {
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "mailto" && u.Scheme != "https" {
			return nil, true, fmt.Errorf("%w: rua=%s has neither of the schemes mailto and https", ErrRecord, shorten(uri))
		}
	}
	if len(reports) == 0 {
		return nil, true, fmt.Errorf("%w: it has no rua=", ErrRecord)
	}
	return reports, true, nil
}

func splitTrim(text, sep string) []string {
	var out []string
	for part := range strings.SplitSeq(text, sep) {
		if part = strings.Trim(part, " \t\r\n"); part != "" {
			out = append(out, part)
		}
	}
	return out
}

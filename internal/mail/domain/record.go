package domain

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"strings"
)

// Name is where the key's record stands.
func (k Key) Name() string { return k.Selector + "._domainkey." + k.Domain }

// Record is the TXT record of the public half (RFC 6376 section 3.6.1, RFC 8463
// section 4), as one string.
func (k Key) Record() string {
	if k.private == nil {
		return ""
	}
	switch public := k.private.Public().(type) {
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	case *rsa.PublicKey:
		// SubjectPublicKeyInfo, not PKCS #1: erratum 3017 allows both, and every verifier
		// reads this one.
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return ""
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	}
	return ""
}

// A Record is one DNS record to publish.
type Record struct {
	Name  string // without the final dot
	Type  string // TXT, MX, ...
	Value string // of TXT the text as one string, else as a zone file has it
}

// Zone is the record as a line of a zone file. Texts are cut into strings of at most
// 255 octets (RFC 1035 section 3.3.14), which readers join without a blank.
func (r Record) Zone() string {
	value := r.Value
	if r.Type == "TXT" {
		value = quoteTXT(value)
	}
	return r.Name + ". IN " + r.Type + " " + value
}

func quoteTXT(text string) string {
	const limit = 255
	var parts []string
	for len(text) > limit {
		parts, text = append(parts, text[:limit]), text[limit:]
	}
	parts = append(parts, text)
	var out strings.Builder
	for i, part := range parts {
		if i > 0 {
			out.WriteByte(' ')
		}
		out.WriteString(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(part) + `"`)
	}
	return out.String()
}

package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
)

// maxBundle bounds what is looked through: Debian's has 220 KB. A larger one is left to
// crypto/x509.
const maxBundle = 8 << 20

// candidates are the certificates of the bundle that can end the chain: an issuer that
// it names, or a certificate in it. nil: there is none, or no bundle.
func candidates(chain []*x509.Certificate) *x509.CertPool {
	text := bundle()
	if text == nil {
		return nil
	}
	var pool *x509.CertPool
	for len(text) > 0 {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		// As x509.CertPool reads it: headers make it none.
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 || !named(chain, subject(block.Bytes)) {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		if pool == nil {
			pool = x509.NewCertPool()
		}
		pool.AddCert(cert)
	}
	return pool
}

func named(chain []*x509.Certificate, subject []byte) bool {
	if subject == nil {
		return false
	}
	for _, cert := range chain {
		if bytes.Equal(cert.RawIssuer, subject) || bytes.Equal(cert.RawSubject, subject) {
			return true
		}
	}
	return false
}

// subject finds the subject in a certificate without a look at the rest (RFC 5280 section
// 4.1): a sequence that begins with a sequence of version, serial number, signature,
// issuer, validity, subject. nil: it is no certificate. What it finds only chooses:
// ParseCertificate and Verify judge.
func subject(der []byte) []byte {
	var outer, fields, field asn1.RawValue
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &fields); err != nil {
		return nil
	}
	rest := fields.Bytes
	for left := 4; left >= 0; left-- {
		var err error
		if rest, err = asn1.Unmarshal(rest, &field); err != nil {
			return nil
		}
		if field.Class == asn1.ClassContextSpecific && field.Tag == 0 {
			left++ // the version, which may be left out, is not counted
		}
	}
	return field.FullBytes
}

// readBundle reads a file; nil without an error: it is there, and not for us. A pipe gives
// its text once, and that is for crypto/x509.
func readBundle(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxBundle {
		return nil, nil
	}
	return os.ReadFile(path)
}

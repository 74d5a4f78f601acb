package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// CA is a certificate authority made for one run. Its key never leaves memory.
type CA struct {
	File string // PEM file of the authority's certificate, for programs
	SPKI string // base64 SHA-256 of its public key, for Chromium

	dir  string
	own  bool // dir was made here and goes with Stop
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Cert is a server certificate signed by a CA.
type Cert struct {
	CertFile string // PEM: the server's certificate, then the authority's
	KeyFile  string // PEM, PKCS #8
	TLS      tls.Certificate
}

// NewCA makes an authority that writes its files into dir, or into a temporary
// folder when dir is empty.
func NewCA(dir string) (*CA, error) {
	ca := &CA{dir: dir}
	if dir == "" {
		var err error
		if ca.dir, err = newFolder("ca"); err != nil {
			return nil, err
		}
		ca.own = true
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Letterlock lab, not for use"},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := sign(template, template, key, key)
	if err != nil {
		return nil, err
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	ca.key = key
	sum := sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo)
	ca.SPKI = base64.StdEncoding.EncodeToString(sum[:])
	ca.File = filepath.Join(ca.dir, "ca.pem")
	return ca, writePEM(ca.File, 0o644, "CERTIFICATE", der)
}

// Stop removes the folder NewCA made.
func (ca *CA) Stop() {
	if ca.own {
		os.RemoveAll(ca.dir)
	}
}

// Pool holds the authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Client is a TLS configuration that trusts only this authority.
func (ca *CA) Client() *tls.Config {
	return &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
}

// Server makes a certificate and the TLS configuration that serves it.
func (ca *CA) Server(names ...string) (*tls.Config, error) {
	cert, err := ca.Issue(names...)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{cert.TLS}, MinVersion: tls.VersionTLS12}, nil
}

// Issue makes a server certificate for localhost, 127.0.0.1, ::1 and names.
func (ca *CA) Issue(names ...string) (*Cert, error) {
	return ca.issue(append([]string{"localhost", "127.0.0.1", "::1"}, names...), time.Time{})
}

// IssueOnly makes a certificate for exactly these names: the wrong one, for
// tests that must see it refused.
func (ca *CA) IssueOnly(names ...string) (*Cert, error) { return ca.issue(names, time.Time{}) }

// IssueExpired makes one that was good until a minute ago.
func (ca *CA) IssueExpired(names ...string) (*Cert, error) {
	return ca.issue(names, time.Now().Add(-time.Minute))
}

func (ca *CA) issue(names []string, until time.Time) (*Cert, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotAfter:    until,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := sign(template, ca.cert, key, ca.key)
	if err != nil {
		return nil, err
	}
	return ca.write(der, key)
}

func (ca *CA) write(der []byte, key *ecdsa.PrivateKey) (*Cert, error) {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	// A folder each: a name may be a wildcard or longer than a file name.
	dir, err := os.MkdirTemp(ca.dir, "cert-")
	if err != nil {
		return nil, fmt.Errorf("make folder for certificate: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	c := &Cert{
		CertFile: filepath.Join(dir, "cert.pem"),
		KeyFile:  filepath.Join(dir, "key.pem"),
		// The authority goes along: Chromium accepts a chain by the hash of
		// any key in it.
		TLS: tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key},
	}
	if err := writePEM(c.CertFile, 0o644, "CERTIFICATE", der, ca.cert.Raw); err != nil {
		return nil, err
	}
	return c, writePEM(c.KeyFile, 0o600, "PRIVATE KEY", private)
}

func sign(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(7 * 24 * time.Hour)
	}
	return x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
}

func writePEM(file string, mode os.FileMode, kind string, blocks ...[]byte) error {
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})...)
	}
	return os.WriteFile(file, out, mode)
}

// newFolder makes a folder that servers running as other users may enter. It is
// short, because the path of a Unix socket ends at 107 bytes.
func newFolder(name string) (string, error) {
	parent := ""
	if runtime.GOOS != "windows" && len(os.TempDir()) > 40 {
		parent = "/tmp" // a socket's path may have 107 octets
	}
	dir, err := os.MkdirTemp(parent, "lab-"+name+"-")
	if err != nil {
		return "", fmt.Errorf("make lab folder: %w", err)
	}
	return dir, os.Chmod(dir, 0o755)
}

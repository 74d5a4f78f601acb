package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pair writes a certificate with that serial number, stamped at.
func pair(t *testing.T, folder string, serial int64, at time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(serial)},
		&x509.Certificate{SerialNumber: big.NewInt(serial)}, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func serial(t *testing.T, c *Certificate) int64 {
	t.Helper()
	got, err := c.TLS().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(got.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.SerialNumber.Int64()
}

// A renewed pair is served without a restart; a broken one leaves the last good one.
func TestCertificateRenewed(t *testing.T) {
	folder := t.TempDir()
	now := time.Now()
	cert, key := pair(t, folder, 1, now)
	c, err := LoadCertificate(cert, key, func() time.Time { return now }, quiet())
	if err != nil {
		t.Fatal(err)
	}
	pair(t, folder, 2, now.Add(time.Hour))
	if got := serial(t, c); got != 1 {
		t.Errorf("files are read at every handshake: serial %d", got)
	}
	now = now.Add(certificatePause)
	if got := serial(t, c); got != 2 {
		t.Errorf("serial %d after the renewal", got)
	}
	if err := os.WriteFile(cert, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(certificatePause)
	if got := serial(t, c); got != 2 {
		t.Errorf("serial %d after a broken renewal", got)
	}
	if _, err := LoadCertificate(cert, key, time.Now, quiet()); err == nil {
		t.Error("a broken pair was accepted at the start")
	}
}

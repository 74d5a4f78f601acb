package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An authority signs certificates of the test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(t testing.TB, name string, by *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func server(c *x509.Certificate) {
	c.IsCA, c.KeyUsage, c.DNSNames, c.IPAddresses = false, x509.KeyUsageDigitalSignature, []string{"mail.test"}, []net.IP{net.IPv4(127, 0, 0, 1)}
}

func pemOf(certs ...*authority) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
	}
	return b.Bytes()
}

// file points SSL_CERT_FILE to text, and SSL_CERT_DIR to an empty folder.
func file(t testing.TB, text []byte) {
	t.Helper()
	folder := t.TempDir()
	path := filepath.Join(folder, "bundle.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", path)
	t.Setenv("SSL_CERT_DIR", filepath.Join(folder, "none"))
}

// What the candidates are good for is compared with a pool of the whole bundle, for good
// and bad chains and bundles.
func TestCandidatesAreAsGoodAsTheWhole(t *testing.T) {
	root, other := issue(t, "root", nil, nil), issue(t, "other", nil, nil)
	twin := issue(t, "root", nil, nil) // the same subject, another key
	middle := issue(t, "middle", root, nil)
	leaf, direct := issue(t, "mail.test", middle, server), issue(t, "mail.test", root, server)
	late := issue(t, "mail.test", root, func(c *x509.Certificate) { server(c); c.NotAfter = time.Now().Add(-time.Minute) })
	alone := issue(t, "alone", nil, server)
	chain := func(certs ...*authority) (all []*x509.Certificate) {
		for _, c := range certs {
			all = append(all, c.cert)
		}
		return all
	}
	headers := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"X": "y"}, Bytes: root.cert.Raw})
	key := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: root.cert.Raw})
	for _, c := range []struct {
		name   string
		bundle []byte
		chain  []*x509.Certificate
		host   string
		good   bool
	}{
		{"root", pemOf(other, root), chain(direct), "mail.test", true},
		{"through an intermediate", pemOf(other, root), chain(leaf, middle), "mail.test", true},
		{"with the root in the chain", pemOf(root), chain(leaf, middle, root), "mail.test", true},
		{"an intermediate is trusted", pemOf(middle), chain(leaf), "mail.test", true},
		{"an intermediate is trusted and sent", pemOf(middle), chain(leaf, middle), "mail.test", true},
		{"the server itself is trusted", pemOf(alone), chain(alone), "mail.test", true},
		{"its twin first", pemOf(twin, root), chain(leaf, middle), "mail.test", true},
		{"address", pemOf(root), chain(direct), "127.0.0.1", true},
		{"rubbish around", append([]byte("# Root\n-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"), append(pemOf(root), "rest"...)...), chain(direct), "mail.test", true},
		{"the twin alone", pemOf(twin), chain(leaf, middle), "mail.test", false},
		{"intermediate missing", pemOf(root), chain(leaf), "mail.test", false},
		{"unknown", pemOf(other), chain(direct), "mail.test", false},
		{"empty bundle", nil, chain(direct), "mail.test", false},
		{"another name", pemOf(root), chain(direct), "other.test", false},
		{"another address", pemOf(root), chain(direct), "127.0.0.2", false},
		{"expired", pemOf(root), chain(late), "mail.test", false},
		{"with headers", headers, chain(direct), "mail.test", false},
		{"no certificate", key, chain(direct), "mail.test", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			file(t, c.bundle)
			verdict := func(pool *x509.CertPool) error {
				if pool == nil {
					pool = x509.NewCertPool()
				}
				options := x509.VerifyOptions{DNSName: c.host, Intermediates: x509.NewCertPool(), Roots: pool}
				for _, cert := range c.chain[1:] {
					options.Intermediates.AddCert(cert)
				}
				_, err := c.chain[0].Verify(options)
				return err
			}
			whole := x509.NewCertPool()
			whole.AppendCertsFromPEM(c.bundle)
			if want, got := verdict(whole), verdict(candidates(c.chain)); (want == nil) != c.good || (got == nil) != c.good {
				t.Errorf("the whole bundle says %v, the candidates %v; want good: %v", want, got, c.good)
			}
			if err := Verify(c.chain, c.host, nil, time.Time{}); err != nil && c.good {
				t.Errorf("Verify: %v", err)
			}
		})
	}
}

// The last word is the whole pool's: the system's when nothing in the bundle fits, and
// that of the roots which are given.
func TestVerdictOfThePool(t *testing.T) {
	root := issue(t, "root", nil, nil)
	direct := []*x509.Certificate{issue(t, "mail.test", root, server).cert}
	file(t, nil)
	var unknown x509.UnknownAuthorityError
	var wrapped *tls.CertificateVerificationError
	if err := Verify(direct, "mail.test", nil, time.Time{}); !errors.As(err, &unknown) || !errors.As(err, &wrapped) {
		t.Errorf("%v", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	if err := Verify(direct, "mail.test", pool, time.Time{}); err != nil {
		t.Error(err)
	}
	if err := Verify(direct, "mail.test", pool, time.Now().Add(2*time.Hour)); err == nil {
		t.Error("good after its end")
	}
	file(t, pemOf(root)) // roots are instead of the machine's
	if err := Verify(direct, "mail.test", x509.NewCertPool(), time.Time{}); err == nil {
		t.Error("the machine's authorities count beside others")
	}
	if err := Verify(nil, "mail.test", nil, time.Time{}); err == nil {
		t.Error("no certificate is good")
	}
	if err := Verify(direct, "", nil, time.Time{}); err == nil {
		t.Error("good for no name")
	}
}

// Config leaves alone what is settled, and its verification takes part in a handshake.
func TestConfig(t *testing.T) {
	root := issue(t, "root", nil, nil)
	own := issue(t, "mail.test", root, server)
	file(t, pemOf(root))
	for _, c := range []*tls.Config{
		{ServerName: "a", RootCAs: x509.NewCertPool()}, {ServerName: "a", InsecureSkipVerify: true}, {},
		{ServerName: "a", VerifyConnection: func(tls.ConnectionState) error { return nil }},
		// It would be handed no verified chains any more, and might take that for a yes.
		{ServerName: "a", VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { return nil }},
		{ServerName: "a", EncryptedClientHelloConfigList: []byte{0}}, // which changes whose name counts
	} {
		if Config(c) != c {
			t.Errorf("%+v is changed", c)
		}
	}
	for host, good := range map[string]bool{"mail.test": true, "other.test": false, "127.0.0.1": true, "127.0.0.2": false} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			there, err := listener.Accept()
			if err != nil {
				done <- err
				return
			}
			conn := tls.Server(there, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{own.cert.Raw}, PrivateKey: own.key}}})
			done <- conn.HandshakeContext(t.Context())
			there.Close()
		}()
		here, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		err = tls.Client(here, Config(&tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})).HandshakeContext(t.Context())
		here.Close()
		<-done
		listener.Close()
		var wrapped *tls.CertificateVerificationError
		if (err == nil) != good || err != nil && !errors.As(err, &wrapped) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func FuzzSubject(f *testing.F) {
	f.Add(issue(f, "root", nil, nil).cert.Raw)
	f.Add([]byte{0x30, 0x03, 0x30, 0x01, 0xa0})
	f.Fuzz(func(t *testing.T, der []byte) {
		found := subject(der)
		if cert, err := x509.ParseCertificate(der); err == nil && !bytes.Equal(found, cert.RawSubject) {
			t.Errorf("%x, crypto/x509 says %x", found, cert.RawSubject)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	root := issue(b, "root", nil, nil)
	chain := []*x509.Certificate{issue(b, "mail.test", root, server).cert}
	text, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		b.Fatal(err)
	}
	file(b, append(text, pemOf(root)...))
	for b.Loop() {
		if err := Verify(chain, "mail.test", nil, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}

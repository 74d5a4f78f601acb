// Package trust verifies servers' certificates with the authorities of this machine, and
// reads no more of them than it needs.
//
// crypto/x509 reads the whole pool before the first verification: on Debian a bundle of
// 140 certificates and, once more, each of them from a file of its own. That is most of
// the time that a process takes which sends one message. Here the bundle is looked
// through for the subjects that the server's chain names as issuers, and only those
// certificates are parsed.
//
//	chain -> candidates of the bundle -> x509.Verify   good: done
//	                                     else: x509.Verify with the whole pool decides
//
// It is never more lenient: the bundle is part of the pool that crypto/x509 would read,
// by the same variables (SSL_CERT_FILE) and the same list of places, so that a chain
// which ends in it is good there too; and whatever is not good here is judged there.
// Systems that ask the operating system (Windows, macOS) are left to crypto/x509.
//
// No library does this: golang.org/x/crypto/x509roots brings a pool of its own, which
// would overrule the administrator's.
package trust

import (
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"
)

// Verify checks the server's chain for host, a name or an IP address, at that time (zero:
// now). With roots nil the machine's authorities count, else roots alone.
func Verify(chain []*x509.Certificate, host string, roots *x509.CertPool, at time.Time) error {
	if len(chain) == 0 || host == "" {
		return errors.New("the server sent no certificate")
	}
	options := x509.VerifyOptions{DNSName: host, Intermediates: x509.NewCertPool(), Roots: roots, CurrentTime: at}
	for _, cert := range chain[1:] {
		options.Intermediates.AddCert(cert)
	}
	if roots == nil {
		if options.Roots = candidates(chain); options.Roots != nil {
			if _, err := chain[0].Verify(options); err == nil {
				return nil
			}
			options.Roots = nil
		}
	}
	if _, err := chain[0].Verify(options); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
	}
	return nil
}

// Config returns config such that it verifies the server ServerName in this way. One that
// has roots, or a verification of its own, stays as it is; so does every one where FIPS
// 140 is asked for, whose rules crypto/tls keeps to itself.
func Config(config *tls.Config) *tls.Config {
	if config.RootCAs != nil || config.ServerName == "" || ownVerification(config) || fips140.Enabled() {
		return config
	}
	config = config.Clone()
	host, now := config.ServerName, config.Time
	// It moves the verification to VerifyConnection, which crypto/tls calls for every
	// connection, resumed ones too, before anything is sent on it.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		at := time.Time{}
		if now != nil {
			at = now()
		}
		return Verify(state.PeerCertificates, host, nil, at)
	}
	return config
}

// ownVerification reports what InsecureSkipVerify would change the meaning of:
// VerifyPeerCertificate gets no verified chains with it, and encrypted client hellos have
// two names to verify.
func ownVerification(config *tls.Config) bool {
	return config.InsecureSkipVerify || config.VerifyConnection != nil || config.VerifyPeerCertificate != nil || config.EncryptedClientHelloConfigList != nil
}

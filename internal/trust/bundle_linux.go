package trust

import "os"

// places are those of crypto/x509, in its order: it takes the first that can be read.
func places() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/ssl/cert.pem",
	}
}

// bundle is the file of authorities that crypto/x509 would read first. SSL_CERT_DIR only
// says which folders it reads besides.
func bundle() []byte {
	paths := places()
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		paths = []string{file}
	}
	for _, path := range paths {
		if text, err := readBundle(path); err == nil {
			return text
		}
	}
	return nil
}

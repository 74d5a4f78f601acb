//go:build !linux

package trust

// bundle: crypto/x509 decides here, by what the operating system says or by places of
// its own.
func bundle() []byte { return nil }

package daemon

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// A Certificate is a pair of PEM files that is read again when they change, so that a
// renewed certificate needs no restart. A pair that cannot be read leaves the last good
// one in service.
type Certificate struct {
	cert, key string
	now       func() time.Time
	log       *slog.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	stamp   [2]time.Time
	checked time.Time
}

const (
	// certificatePause is how often the files are looked at.
	certificatePause = 10 * time.Second
	maxPEM           = 1 << 20
)

// LoadCertificate reads the pair; it must be good now.
func LoadCertificate(cert, key string, now func() time.Time, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, now: now, log: log}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// TLS is the configuration of a server with this certificate. TLS 1.2 is the least:
// RFC 8996 ended what was before it.
func (c *Certificate) TLS(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}
}

func (c *Certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked) >= certificatePause {
		c.checked = now
		if stamp, err := c.stamps(); err != nil || stamp != c.stamp {
			if err := c.readLocked(); err != nil {
				c.log.Warn("certificate not renewed", "file", c.cert, "error", err)
			}
		}
	}
	return c.pair
}

func (c *Certificate) read() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = c.now()
	return c.readLocked()
}

func (c *Certificate) readLocked() error {
	stamp, err := c.stamps()
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	pair, err := c.load()
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	c.pair, c.stamp = &pair, stamp
	return nil
}

func (c *Certificate) load() (tls.Certificate, error) {
	cert, err := atomicfile.ReadRegular(c.cert, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := atomicfile.ReadRegular(c.key, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

func (c *Certificate) stamps() (stamp [2]time.Time, err error) {
	for i, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return stamp, err
		}
		stamp[i] = info.ModTime()
	}
	return stamp, nil
}

//go:build unix

package intake

import (
	"errors"
	"syscall"
)

// passes tells a shortage that ends by itself from a listener that is gone.
func passes(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ECONNABORTED)
}

//go:build unix

package agent

import (
	"errors"
	"syscall"
)

// isExhausted tells a shortage that passes from a listener that is gone.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
}

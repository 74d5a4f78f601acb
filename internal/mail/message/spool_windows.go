//go:build windows

package message

import "os"

// An open file cannot be unlinked here; close does it.
func unlinkOpen(*os.File) {}

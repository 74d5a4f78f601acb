//go:build unix

package message

import "os"

func unlinkOpen(file *os.File) { _ = os.Remove(file.Name()) }

//go:build !linux

package queue

import "os"

func dataSync(file *os.File) error { return file.Sync() }

package main

import (
	"path/filepath"
	"testing"
)

// What comes while one process is about to leave is left to it by the next, and done.
func TestLastLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	waiting, done, others := 1, 0, 0
	more := func() bool { return waiting > 0 }
	work := func() error {
		done, waiting = done+waiting, 0
		if done > 1 {
			return nil
		}
		// It has looked and goes. Another message comes now, and whoever brings it finds
		// the lock held.
		waiting++
		return byOne(path, more, func() error { others++; return nil })
	}
	if err := byOne(path, more, work); err != nil {
		t.Fatal(err)
	}
	if waiting != 0 || done != 2 || others != 0 {
		t.Errorf("%d still wait, %d done, %d by the one that was to leave", waiting, done, others)
	}
}

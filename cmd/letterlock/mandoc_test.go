//go:build lab

package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func TestManualsPassLint(t *testing.T) {
	pages, err := filepath.Glob("../../docs/man/*.[158]")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no manual pages: %v", err)
	}
	if out, err := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "style"}, pages...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}

//go:build lab

package main

import "testing"

// TestCallers has the real programs call our sendmail in their own ways.
func TestCallers(t *testing.T) { runScripts(t, "testdata/callers") }

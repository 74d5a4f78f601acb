//go:build long && unix

package intake

import "testing"

// TestKilledLong kills thousands of servers.
func TestKilledLong(t *testing.T) {
	for seed := range uint64(20) {
		crashes(t, 100+seed, 200)
	}
}

//go:build lab && long

package main

import "testing"

// TestRoundcubeSecondProviderWhole is all of TestRoundcubeGateway at glewlwyd: past the end
// of tokens with six requests under way, what is out of reach, and a revocation from
// another browser while a message is being written.
func TestRoundcubeSecondProviderWhole(t *testing.T) {
	w := startSecondWebmail(t)
	w.story(patiently(t), w.browser())
}

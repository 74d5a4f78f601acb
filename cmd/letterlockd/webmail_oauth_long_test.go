//go:build lab && long

package main

import "testing"

// TestRoundcubeOAuthStays is way (b) over the life of several tokens: each of them ends while
// six requests are under way, and all are answered; then the log-out ends the last.
func TestRoundcubeOAuthStays(t *testing.T) {
	w := startRoundcubeOAuth(t)
	ctx := patiently(t)
	b := w.browser()
	w.enterRoundcube(ctx, b)
	w.inFlight(ctx, b, 6, 3*accessLife)
	w.loggedOutOfRoundcube(ctx, b)
}

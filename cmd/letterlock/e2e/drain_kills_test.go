//go:build lab && !long

package e2e

// drainKills is how many senders the sweep kills: a sample.
const drainKills = 60

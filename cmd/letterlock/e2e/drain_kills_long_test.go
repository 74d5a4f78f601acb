//go:build lab && long

package e2e

// drainKills is how many senders the sweep kills.
const drainKills = 3000

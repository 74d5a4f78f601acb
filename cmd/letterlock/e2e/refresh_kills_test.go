//go:build lab && !long

package e2e

// refreshKills is how many processes the sweep kills: a sample.
const refreshKills = 40

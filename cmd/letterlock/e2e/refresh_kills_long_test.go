//go:build lab && long

package e2e

// refreshKills is how many processes the sweep kills.
const refreshKills = 3000

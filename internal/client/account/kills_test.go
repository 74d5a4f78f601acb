//go:build !long

package account

// kills is a sample of the sweep.
const kills = 80

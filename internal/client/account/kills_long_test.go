//go:build long

package account

// kills is the whole sweep.
const kills = 4000

//go:build unix && !linux

package tokenstore

// controllingTerminal: no way without cgo. Setting GPG_TTY helps there, as the gpg
// manual tells everybody to.
func controllingTerminal() string { return "" }

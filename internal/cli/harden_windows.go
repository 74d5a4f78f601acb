package cli

// Harden does nothing on Windows, which writes no core files by default.
func Harden() {}

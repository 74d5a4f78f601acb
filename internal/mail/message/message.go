// Package message reads a mail message (RFC 5322) from whatever bytes a program
// hands over, completes it, takes Bcc out, and says what a server must be able to do
// to take it. The body stays byte for byte but for its line endings.
package message

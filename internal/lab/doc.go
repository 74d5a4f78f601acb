// Package lab starts real mail servers and identity providers on free
// loopback ports in folders of their own, and stops them again.
//
// It is for tests and cmd/try only; no installed binary links it. Nothing in
// it replaces the thing it stands for: Dovecot, Postfix and the npm
// oidc-provider are the programs people run, so a test against them says
// something about the world outside. What is ours is the wiring (configuration
// files, certificates), the far ends (Sink, Internet) and the faults between
// them (HTTPFault, TCPFault).
//
//	          browser (lab/browser)        terminal (lab/pty)
//	                 |                          |
//	StartOP <--------+----- program under test -+--> HTTPFault, TCPFault
//	   ^                     |            |                  |
//	   | introspection       | IMAP POP3  | SMTP             v
//	StartDovecot <-----------+ submission +--> StartPostfix  StartInternet
//	   ^      |                                  |   |
//	   |      +--> Sink <------------------------+   | SASL
//	   +---------------------------------------------+
//
// StartRoom makes a private root in which programs that would be in the way
// here are installed and run: a machine in the machine.
//
// Every Start function returns an error and a value with Stop; the Run
// functions of tb.go wrap them for tests. A program that is not installed is an
// error that names its Debian package (Missing), never a skipped test.
package lab

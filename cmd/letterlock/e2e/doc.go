// Package e2e holds tests that use letterlock as people do: the binary is built,
// signs in at a real identity provider (npm oidc-provider), and real mail programs
// fetch and send with it from a real Dovecot. Nothing is linked from the rooms of
// letterlock, so that only what a person could see and do counts.
//
//	letterlock login  --- browser, device code, paste --->  oidc-provider
//	letterlock setup  --->  a file in the HOME of one test       ^
//	                            |                                | introspection
//	mutt, msmtp, ...  <---------+                                |
//	     +--- letterlock token | letterlock tunnel ---> Dovecot -+--> lab.Sink
//
// What needs those programs carries the build tag lab (see internal/lab) and runs in
// `make test`. What needs only Go, bad input, hostile requests, and the hunt for
// canaries, runs in `make quick` at an issuer inside the test (issuer_test.go).
package e2e

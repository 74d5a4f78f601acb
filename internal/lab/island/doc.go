// Package island is an Internet of a test's own: a network namespace with public
// addresses on its loopback interface, a DNS server that says what the test wants, and
// hosts that serve MTA-STS policies. Real mail servers listen there on port 25, and the
// program under test runs with nothing changed: it looks names up in /etc/resolv.conf
// and connects to public addresses.
//
//	test process --unshare--> the same test again, in the island
//	                            |- DNS      127.0.0.53, named in resolv.conf
//	                            |- Policies mta-sts.DOMAIN, port 443
//	                            |- lab.StartPostfix on 8.20.x.x:25
//	                            \- letterlock
//
// It needs root and Linux, and leaves nothing behind: the namespace ends with the last
// process in it.
package island

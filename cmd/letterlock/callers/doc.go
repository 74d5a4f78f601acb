// Package callers has Debian's own programs call our sendmail and mail, on a machine
// where those stand in the place of the system's (a lab.Room, by make install and make
// install-sendmail), and compares what lies in the mailbox with what they wrote.
//
//	cron, at, sudo, PHP, fail2ban, ...        (room: a private root)
//	     |  argv, standard input  -> recorded
//	     v
//	/usr/sbin/sendmail, /usr/bin/mail = letterlock, a queue each for root and joe
//	     |  XOAUTH2 or OAUTHBEARER with a token that can only send
//	     v
//	Postfix (Dovecot SASL) ---------------> Maildir    envelope, header, body compared
//	Dovecot submission ---> Postfix ------> Maildir
//
// It needs root and the packages of internal/lab: build tag lab.
package callers

package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// A failure ends a session: it is the answer for every recipient that the server has
// not answered for.
type failure struct {
	answer
	err error
}

// Error returns what happened, as it goes into the queue.
func (f *failure) Error() string { return f.reply }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }

// lost makes a failure of an I/O error: a hang, a drop, half an answer, garbage.
func lost(stage, server string, err error) *failure {
	status := "4.4.2" // RFC 3463: bad connection
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return deferred("4.4.2", stage+": no answer in time", server, err)
	case errors.Is(err, errProtocol), errors.Is(err, errTooLong):
		status = "4.5.0" // other protocol status
	}
	return deferred(status, fmt.Sprintf("%s: %v", stage, err), server, err)
}

// deferred is a failure that time or another server may mend.
func deferred(status, text, server string, err error) *failure {
	return &failure{answer: answer{verdict: queue.Deferred, status: status, reply: text, server: server, retry: true}, err: err}
}

// refusedConnection makes a failure of a reply. A 5xx that concerns the connection says nothing
// about the message: it must not bounce mail that another day would take.
func refusedConnection(stage string, r reply, server string) *failure {
	f := deferred("4.3.2", stage+": "+r.String(), server, nil)
	if r.is(4) && r.status != "" {
		f.status = r.status
	}
	return f
}

// noTLS is a failure to get the TLS that was asked for.
func noTLS(text, server string, err error) *failure {
	status := "4.7.4" // RFC 3463: security features not supported
	if certificate := (*tls.CertificateVerificationError)(nil); errors.As(err, &certificate) {
		status = "4.7.5" // cryptographic failure
	}
	return deferred(status, text, server, err)
}

// unconnected is a failure to reach a server.
func unconnected(address string, err error) *failure {
	status := "4.4.1" // RFC 3463: no answer from host
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		status = "4.4.3" // directory server failure
	}
	return deferred(status, fmt.Sprintf("connect to %s: %v", address, err), address, err)
}

package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/client/upstream"
)

// Each fault from below the sign-in has a cause, a remedy, and an opinion on whether
// it may pass by itself.
func TestKnownFaults(t *testing.T) {
	tests := []struct {
		err     error
		cause   string
		passing bool
	}{
		{x509.UnknownAuthorityError{}, "authority that this machine does not trust", false},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, "for another name", false},
		{x509.CertificateInvalidError{Reason: x509.Expired}, "out of date", false},
		{tls.RecordHeaderError{Msg: "x"}, "does not begin with TLS", false},
		{&net.DNSError{Name: "h"}, "cannot be resolved", true},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, "nothing can be reached", true},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, "did not answer in time", true},
		{context.DeadlineExceeded, "did not answer in time", true},
		{upstream.ErrInjected, "puts words into the connection", false},
		{upstream.ErrNoSTARTTLS, "does not let the connection be encrypted", false},
		{upstream.ErrProtocol, "does not speak this protocol", false},
		{upstream.ErrTooLong, "does not speak this protocol", false},
		{upstream.ErrPlain, "plain text would show", false},
		{upstream.ErrClosed, "hung up", true},
		{&upstream.MechanismError{Offered: []string{"PLAIN"}}, "takes no tokens here", false},
	}
	for _, tt := range tests {
		err := fmt.Errorf("somewhere: %w", tt.err)
		a, ok := known(err)
		if !ok || !strings.Contains(a.Cause, tt.cause) || a.Remedy == "" {
			t.Errorf("%v: %+v", tt.err, a)
		}
		if passing(err) != tt.passing {
			t.Errorf("%v: passing is %v", tt.err, passing(err))
		}
	}
	if a, ok := known(errors.New("something else")); ok {
		t.Errorf("advice out of nothing: %+v", a)
	}
}

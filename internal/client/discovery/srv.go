package discovery

import (
	"context"
	"errors"
	"fmt"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A label is one name of RFC 6186 or RFC 8314 section 5.1.
type label struct {
	service  Service
	name     string
	security provider.Security
}

// labels are in the order of RFC 8314: TLS from the first byte comes before STARTTLS.
func labels() []label {
	return []label{
		{IMAP, "_imaps", provider.ImplicitTLS}, {IMAP, "_imap", provider.STARTTLS},
		{POP3, "_pop3s", provider.ImplicitTLS}, {POP3, "_pop3", provider.STARTTLS},
		{SMTP, "_submissions", provider.ImplicitTLS}, {SMTP, "_submission", provider.STARTTLS},
		{Sieve, "_sieve", provider.STARTTLS}, // RFC 5804 section 1.8
	}
}

// srv asks for one label. Of several servers the best is taken: what is written into
// the configuration is one host.
func (s *search) srv(ctx context.Context, l label) (*Server, string, error) {
	name := l.name + "._tcp." + s.domain
	records, err := s.DNS.SRV(ctx, name)
	if errors.Is(err, dnsask.ErrNoName) {
		return nil, name, fmt.Errorf("%w: %w", errAbsent, err)
	}
	if err != nil {
		return nil, name, err
	}
	for _, r := range records {
		switch {
		case r.Target == "":
			// RFC 2782: decidedly not available.
			return nil, name, fmt.Errorf("%w: the domain says that it has no such service", errAbsent)
		case r.Port == 0:
			err = errors.New("a server on port 0")
		default:
			if err = checkHost(r.Target); err != nil {
				continue
			}
			server := &Server{
				MailServer: provider.MailServer{Host: r.Target, Port: int(r.Port), Security: l.security},
				Origin:     Origin{Source: SRV, Place: name, Proof: ByDNS},
			}
			if !within(r.Target, s.domain) {
				server.Doubt = fmt.Sprintf("DNS, which can be forged, says that the %s server of %s is %s", l.service, s.domain, r.Target)
			}
			return server, name, nil
		}
	}
	return nil, name, err
}

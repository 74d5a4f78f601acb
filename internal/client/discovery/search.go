package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A search is one run of Find.
type search struct {
	*Finder
	address, domain string
	result          *Result

	mu     sync.Mutex // while gathering
	papers [3]*paper  // PACC, autoconfig, well-known autoconfig
	found  map[string]*Server
	mx     []dnsask.MX
}

// gather asks all places that need no other's answer, at once.
func (s *search) gather(ctx context.Context) {
	s.found = map[string]*Server{}
	var asking sync.WaitGroup
	paperAt := func(i int, source Source, ask func() (*paper, string, error)) {
		asking.Go(func() {
			p, place, err := ask()
			s.mu.Lock()
			defer s.mu.Unlock()
			s.papers[i] = p
			s.tried(source, place, err)
		})
	}
	paperAt(0, PACC, func() (*paper, string, error) { return s.pacc(ctx) })
	for i, place := range s.autoconfigPlaces() {
		paperAt(1+i, Autoconfig, func() (*paper, string, error) { return s.autoconfig(ctx, place) })
	}
	for _, l := range labels() {
		asking.Go(func() {
			server, place, err := s.srv(ctx, l)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.found[l.name] = server
			s.tried(SRV, place, err)
		})
	}
	asking.Go(func() {
		mx, err := s.DNS.MX(ctx, s.domain)
		if errors.Is(err, dnsask.ErrNoName) {
			err = fmt.Errorf("%w: %w", errAbsent, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mx = mx
		s.tried(MX, s.domain, err)
	})
	asking.Wait()
	slices.SortStableFunc(s.result.Tried, func(a, b Attempt) int {
		return strings.Compare(string(a.Source)+a.Place, string(b.Source)+b.Place)
	})
}

func (s *search) tried(source Source, place string, err error) {
	if err != nil {
		s.result.Tried = append(s.result.Tried, Attempt{source, place, err})
	}
}

// notThere reports that DNS has no address for a host.
func notThere(err error) bool {
	var missing *net.DNSError
	return errors.As(err, &missing) && missing.IsNotFound
}

// weigh chooses each server: the domain's own documents before DNS, and what nobody
// doubts before what somebody has to be asked about.
func (s *search) weigh() {
	for _, doubtful := range []bool{false, true} {
		for _, p := range s.papers {
			if p == nil || (p.Doubt != "") != doubtful {
				continue
			}
			for service, server := range p.servers {
				server.Origin = p.Origin
				s.offer(service, server)
			}
		}
		for _, l := range labels() {
			if server := s.found[l.name]; server != nil && (server.Doubt != "") == doubtful {
				s.offer(l.service, *server)
			}
		}
	}
}

func (s *search) offer(service Service, server Server) {
	if _, taken := s.result.Servers[service]; !taken {
		s.result.Servers[service] = server
	}
}

// take settles on a provider of the book: all that is known of it is known better
// than the domain says.
func (s *search) take(p provider.Provider, from Origin) {
	s.result.Provider, s.result.ProviderOrigin = p.Name, from
	s.result.Servers = map[Service]Server{}
	for service, server := range map[Service]provider.MailServer{IMAP: p.IMAP, POP3: p.POP3, SMTP: p.SMTP} {
		if !server.IsZero() {
			s.result.Servers[service] = Server{MailServer: server, Origin: Origin{Source: Book, Place: p.Title, Proof: BuiltIn}}
		}
	}
}

// documentIssuer takes the issuer that a document of the domain names, without doubt.
func (s *search) documentIssuer(ctx context.Context) bool {
	for _, p := range s.papers {
		if p != nil && p.issuer != "" && p.Doubt == "" && s.paperIssuer(ctx, p) {
			return true
		}
	}
	return false
}

func (s *search) paperIssuer(ctx context.Context, p *paper) bool {
	if known, ok := bookByIssuer(p.issuer); ok {
		if exact, ok := s.byMX(); ok && exact.Family() == known.Family() {
			known = exact
		}
		s.take(known, p.Origin)
		return true
	}
	issuer, err := s.issuer(ctx, p.issuer)
	if err != nil {
		s.tried(p.Source, p.Place, fmt.Errorf("issuer %s: %w", shown(p.issuer), err))
		return false
	}
	issuer.Origin, issuer.Scopes, issuer.Open = p.Origin, p.scopes, true
	if printable(p.clientID) && printable(p.secret) {
		issuer.ClientID, issuer.ClientSecret = p.clientID, secretOf(p.secret)
	}
	s.result.Issuer = issuer
	return true
}

// book looks whether the domain's mail is with a provider that is known: by its mail
// exchangers, or by the servers that were found.
func (s *search) book() bool {
	if known, ok := s.byMX(); ok && len(known.Resources) > 0 {
		s.take(known, Origin{Source: MX, Place: s.domain, Proof: ByDNS})
		return true
	}
	for _, service := range Services() {
		server, ok := s.result.Servers[service]
		if !ok {
			continue
		}
		for _, known := range provider.All() {
			if len(known.Resources) > 0 && slices.Contains([]string{known.IMAP.Host, known.POP3.Host, known.SMTP.Host}, server.Host) {
				s.take(known, server.Origin)
				return true
			}
		}
	}
	return false
}

func (s *search) byMX() (provider.Provider, bool) {
	for _, mx := range s.mx {
		if known, ok := provider.ByMX(mx.Host); ok {
			return known, true
		}
	}
	return provider.Provider{}, false
}

// bookByIssuer finds a provider whose issuer is on the host that is named. Documents
// from before issuers were URLs have the host alone.
func bookByIssuer(text string) (provider.Provider, bool) {
	issuer, err := oauth.ParseIssuer(text)
	if err != nil {
		return provider.Provider{}, false
	}
	host := hostOf(string(issuer))
	for _, known := range provider.All() {
		if len(known.Resources) > 0 && known.Endpoints.Issuer != "" && hostOf(string(known.Endpoints.Issuer)) == host {
			return known, true
		}
	}
	return provider.Provider{}, false
}

func hostOf(text string) string {
	_, rest, _ := strings.Cut(text, "://")
	host, _, _ := strings.Cut(rest, "/")
	return strings.ToLower(host)
}

// clearDoubts asks the person about the settings that only DNS, or another domain's
// page, stands for. Without a yes, and without anybody to say it, they stay in doubt.
func (s *search) clearDoubts(ctx context.Context) error {
	var doubts []string
	add := func(doubt string) {
		if doubt != "" && !slices.Contains(doubts, doubt) {
			doubts = append(doubts, doubt)
		}
	}
	for _, service := range Services() {
		add(s.result.Servers[service].Doubt)
	}
	for _, p := range s.papers {
		if p != nil && p.issuer != "" {
			add(p.Doubt)
		}
	}
	if len(doubts) == 0 || s.Confirm == nil {
		return nil
	}
	yes, err := s.Confirm(ctx, doubts)
	if err != nil || !yes {
		return err
	}
	for service, server := range s.result.Servers {
		if server.Doubt != "" {
			server.Doubt, server.Proof = "", ByPerson
			s.result.Servers[service] = server
		}
	}
	for _, p := range s.papers {
		if p != nil && p.Doubt != "" {
			p.Doubt, p.Proof = "", ByPerson
		}
	}
	return nil
}

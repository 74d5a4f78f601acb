package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/discovery"
	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// findTime bounds each answer while settings are looked for: what a domain publishes
// is small, and somebody waits.
const findTime = 10 * time.Second

// finder looks for settings with this machine's DNS servers, or the one that is named.
func (p *program) finder(ctx context.Context, caFile, dnsServer string) (*discovery.Finder, error) {
	client := &dnsask.Client{}
	if dnsServer == "" {
		client.Servers = dnsask.SystemServers(ctx)
	} else {
		server, err := serverAddress(dnsServer)
		if err != nil {
			return nil, err
		}
		client.Servers = []string{server}
	}
	roots, err := readRoots(caFile)
	if err != nil {
		return nil, err
	}
	dial, err := p.dialOptions(caFile, nil)
	if err != nil {
		return nil, err
	}
	dial.Timeout = findTime
	return &discovery.Finder{
		DNS:   client,
		HTTP:  oauth.NewHTTPClient(oauth.HTTPOptions{Roots: roots, Timeout: findTime, Trace: p.trace(), ShowRedirects: true}),
		OAuth: oauth.NewHTTPClient(oauth.HTTPOptions{Roots: roots, Timeout: findTime, Trace: p.trace()}),
		Ask: func(ctx context.Context, server provider.MailServer, user string) (string, error) {
			return askServer(ctx, server, user, dial)
		},
	}, nil
}

// askServer presents a token that is none to an IMAP server, for the address of its
// issuer in the refusal (RFC 7628 section 3.2.2).
func askServer(ctx context.Context, server provider.MailServer, user string, opts upstream.Options) (string, error) {
	conn, err := upstream.Dial(ctx, upstream.IMAP, server, opts)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	err = conn.Authenticate(ctx, upstream.Login{User: user, Token: secret.New("none")})
	var refused *upstream.AuthError
	if err == nil {
		return "", errors.New("it takes any token at all")
	}
	if !errors.As(err, &refused) {
		return "", err
	}
	if refusal, ok := sasl.ParseRefusal([]byte(refused.Challenge)); ok && refusal.OpenIDConfiguration != "" {
		return refusal.OpenIDConfiguration, nil
	}
	return "", errors.New("it refuses tokens without saying whose it wants")
}

// find is login's last way to a provider: what the domain of the address publishes.
func (s *signIn) find(ctx context.Context, conf *config.Config) error {
	finder, err := s.p.finder(ctx, s.caFile(conf), s.o.dnsServer)
	if err != nil {
		return err
	}
	finder.Confirm = s.agree
	found, err := finder.Find(ctx, s.login)
	if err != nil {
		return s.findFault(err)
	}
	switch {
	case found.Provider != "":
		s.providerName = found.Provider
		if s.provider, err = s.p.providerOf(s.providerName); err == nil && found.ProviderOrigin.Source != discovery.Book {
			s.p.term.Sayf("the mail of %s is handled by %s, as its %s says", cli.Line(found.Domain), s.title(), sourceInWords(found.ProviderOrigin))
		}
		return err
	case found.Issuer == nil:
		return nobodySays(found)
	}
	s.found = found
	s.p.term.Sayf("%s says by %s that its people sign in at %s", cli.Line(found.Domain), sourceInWords(found.Issuer.Origin), cli.Line(string(found.Issuer.Metadata.Issuer)))
	return s.fromIssuer(conf, found.Issuer.Metadata.Issuer)
}

func (s *signIn) findFault(err error) error {
	var fault *cli.Fault
	if errors.As(err, &fault) || errors.Is(err, context.Canceled) || errors.Is(err, cli.ErrInterrupted) {
		return err
	}
	return cli.Wrap(cli.Config, fmt.Errorf("look for the settings of %s: %w", cli.Line(s.login), err),
		"add --provider NAME ("+strings.Join(signInNames(), ", ")+") or --issuer URL")
}

// agree is the person's yes to what DNS alone stands for.
func (s *signIn) agree(ctx context.Context, doubts []string) (bool, error) {
	if !s.p.term.Interactive {
		return false, nil
	}
	for _, doubt := range doubts {
		s.p.term.Sayf("%s %s", s.p.term.Bad("note:"), cli.Line(doubt))
	}
	return s.p.term.Confirm(ctx, "is that right, and may your sign-in go there?")
}

// nobodySays is the fault of a domain that publishes nothing that leads to a sign-in.
func nobodySays(found *discovery.Result) error {
	fault := cli.Faultf(cli.Config, "add --provider NAME ("+strings.Join(signInNames(), ", ")+") or --issuer URL",
		"which provider %s belongs to is not known", cli.Line(found.Domain))
	for _, a := range found.Tried {
		if a.Source == discovery.OwnHost || a.Source == discovery.ProtectedResource {
			continue // a guess that came to nothing explains nothing
		}
		if !a.Absent() {
			fault.Details = append(fault.Details, fmt.Sprintf("%s: %v", a.Place, a.Err))
		}
		var answer *oauth.Error
		if errors.Is(a.Err, dnsask.ErrDNS) || errors.As(a.Err, &answer) && answer.Temporary() && !a.Absent() {
			fault.Code = cli.TempFail
		}
	}
	if fault.Code == cli.TempFail {
		fault.Hint = "try again in a moment, or add --provider NAME or --issuer URL"
	}
	for _, service := range discovery.Services() {
		if server := found.Servers[service]; server.Doubt != "" {
			fault.Details = append(fault.Details, server.Doubt)
			fault.Hint = fmt.Sprintf("if that is right, say so: --%s %s --issuer URL", service, server.Host)
		}
	}
	return fault
}

func sourceInWords(from discovery.Origin) string {
	switch from.Source {
	case discovery.MX, discovery.SRV:
		return "DNS"
	case discovery.Challenge:
		return "its mail server " + cli.Line(from.Place)
	}
	return cli.Line(from.Place)
}

// foundServers are the settings of mail servers that were found and that neither a
// flag nor the configuration names.
func (s *signIn) foundServers(conf *config.Config) []config.Setting {
	if s.found == nil {
		return nil
	}
	account := conf.Accounts[s.name]
	var settings []config.Setting
	for _, one := range []struct {
		service discovery.Service
		flag    string
		set     config.Server
	}{{discovery.IMAP, s.o.imap, account.IMAP}, {discovery.POP3, s.o.pop3, account.POP3}, {discovery.SMTP, s.o.smtp, account.SMTP}} {
		server, ok := s.found.Servers[one.service]
		switch {
		case !ok || one.flag != "" || !one.set.IsZero():
			continue
		case server.Doubt != "":
			s.p.term.Sayf("note: %s; it is not used: add --%s %s if that is right", cli.Line(server.Doubt), one.service, server.Host)
			continue
		}
		settings = append(settings, config.Setting{Name: string(one.service), Text: net.JoinHostPort(server.Host, strconv.Itoa(server.Port))},
			config.Setting{Name: string(one.service) + "_security", Text: string(server.Security)})
		// The name belongs to the server: not when another one is used, or none.
		if one.service == discovery.IMAP && server.User != "" && s.o.mailbox == "" && account.Mailbox == "" {
			settings = append(settings, config.Setting{Name: "mailbox", Text: server.User})
		}
	}
	return settings
}

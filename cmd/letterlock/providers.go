package main

import (
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// providerOf is what configuration says about a provider, laid over what is known.
func (p *program) providerOf(name string) (provider.Provider, error) {
	conf, err := p.config()
	if err != nil {
		return provider.Provider{}, err
	}
	section, configured := conf.Providers[name]
	preset := section.Preset
	if preset == "" {
		preset = name
	}
	known, isKnown := knownProvider(preset)
	switch {
	case !isKnown && section.Preset != "":
		return provider.Provider{}, cli.Faultf(cli.Config, "known are "+strings.Join(knownNames(), ", "),
			"[provider.%s] builds on preset %q, which is not known", name, section.Preset)
	case !isKnown && !configured && name != "":
		return provider.Provider{}, cli.Faultf(cli.Config, "known are "+strings.Join(signInNames(), ", ")+"; for another use --issuer URL",
			"there is no provider %q", cli.Line(name))
	}
	known.Name = name
	return overlay(known, section), nil
}

// overlay lays a [provider.NAME] section over a preset.
func overlay(p provider.Provider, section config.Provider) provider.Provider {
	if section.Tenant != "" {
		p.Tenant = section.Tenant
	}
	if section.Issuer != "" {
		p.Endpoints = oauth.Endpoints{Issuer: oauth.Issuer(section.Issuer)}
		p.Discover = true
	}
	set(&p.Endpoints.Authorization, section.Authorization)
	set(&p.Endpoints.Token, section.Token)
	set(&p.Endpoints.DeviceAuthorization, section.Device)
	set(&p.Endpoints.Revocation, section.Revocation)
	set(&p.Endpoints.Registration, section.Registration)
	if section.Authorization != "" && section.Token != "" && section.Issuer == "" {
		p.Discover = false
	}
	if section.Auth != "" {
		p.Auth = oauth.AuthStyle(section.Auth)
	}
	if section.RedirectURI != "" {
		p.Redirect = redirectOf(p.Redirect, section.RedirectURI)
	}
	if len(section.Scopes) > 0 || len(section.SendScopes) > 0 || section.Resource != "" {
		p.Resources = ownResources(p.Resources, section)
	}
	if len(section.Mechanisms) > 0 {
		p.Mechanisms = section.Mechanisms
	}
	overrideServers(&p, section.Servers)
	return p
}

func set(place *string, value string) {
	if value != "" {
		*place = value
	}
}

// redirectOf keeps what the provider does with ports when the registered URI is the
// usual one, and takes any other literally unless it is a loopback without a port.
func redirectOf(usual provider.Redirect, uri string) provider.Redirect {
	if uri == usual.URI {
		return usual
	}
	return provider.Redirect{URI: uri, AnyPort: usual.AnyPort && loopbackWithoutPort(uri), Fixed: !loopbackWithoutPort(uri)}
}

func loopbackWithoutPort(uri string) bool {
	rest, ok := strings.CutPrefix(uri, "http://")
	host, _, _ := strings.Cut(rest, "/")
	return ok && (host == "localhost" || host == "127.0.0.1" || host == "[::1]")
}

// ownResources replaces the scopes of a provider by configured ones: one token for
// every purpose, as issuers other than the great ones do it.
func ownResources(known []provider.Resource, section config.Provider) []provider.Resource {
	mail := provider.Resource{Name: "mail", Purposes: []provider.Purpose{provider.IMAP, provider.POP3, provider.SMTP, provider.Send},
		Scopes: map[provider.Right][]string{}}
	if len(known) > 0 {
		mail.Scopes[provider.Full] = known[0].Scopes[provider.Full]
		mail.Scopes[provider.SendOnly] = known[0].Scopes[provider.SendOnly]
		mail.Indicator = known[0].Indicator
	}
	if len(section.Scopes) > 0 {
		mail.Scopes[provider.Full] = section.Scopes
	}
	if len(section.SendScopes) > 0 {
		mail.Scopes[provider.SendOnly] = section.SendScopes
	}
	set(&mail.Indicator, section.Resource)
	for right, scopes := range mail.Scopes {
		if len(scopes) == 0 {
			delete(mail.Scopes, right)
		}
	}
	return []provider.Resource{mail}
}

func overrideServers(p *provider.Provider, servers config.Servers) {
	override(&p.IMAP, servers.IMAP, 993, 143)
	override(&p.POP3, servers.POP3, 995, 110)
	override(&p.SMTP, servers.SMTP, 465, 587)
}

// override fills in the usual port for a security and the usual security for a port.
func override(place *provider.MailServer, s config.Server, tlsPort, plainPort int) {
	if s.IsZero() {
		if s.Security != "" {
			place.Security = provider.Security(s.Security)
		}
		return
	}
	m := provider.MailServer{Host: s.Host, Port: s.Port, Security: provider.Security(s.Security)}
	if m.Security == "" {
		m.Security = provider.ImplicitTLS
		if m.Port == plainPort || m.Port == 25 {
			m.Security = provider.STARTTLS
		}
	}
	if m.Port == 0 {
		m.Port = tlsPort
		if m.Security != provider.ImplicitTLS {
			m.Port = plainPort
		}
	}
	*place = m
}

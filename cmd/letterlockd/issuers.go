package main

import (
	"maps"
	"slices"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/issuer"
)

// outside are the issuers whose own tokens are let in; nil: none.
func (l *plan) outside() (credential.Outside, error) {
	var all issuer.List
	var anyhow []string // those who do not say how their tokens begin
	for _, name := range slices.Sorted(maps.Keys(l.conf.Issuers)) {
		one, err := l.outsideIssuer(l.conf.Issuers[name])
		if err != nil {
			return nil, cli.Wrap(cli.Config, err, "correct [issuer."+name+"] in "+l.conf.Path)
		}
		all = append(all, one)
		if conf := l.conf.Issuers[name]; conf.Introspection != "" && conf.TokenPrefix == "" {
			anyhow = append(anyhow, name)
		}
	}
	if len(anyhow) > 1 {
		l.log.Warn("these issuers are shown each other's tokens: token_prefix keeps them apart", "issuers", anyhow)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

func (l *plan) outsideIssuer(one config.Issuer) (*issuer.Issuer, error) {
	o := issuer.Options{
		URL: one.URL, Audiences: one.Audiences, Clients: one.Clients, Scopes: one.Scopes, Need: one.Need,
		Introspection: one.Introspection, Prefix: one.TokenPrefix, ClientID: one.ClientID, Now: l.now,
	}
	var options oauth.HTTPOptions
	var err error
	if one.ClientSecretFile != "" {
		if o.Secret, err = config.SecretFile(one.ClientSecretFile); err != nil {
			return nil, err
		}
	}
	if one.CAFile != "" {
		if options.Roots, err = roots(one.CAFile); err != nil {
			return nil, err
		}
	}
	o.HTTP = oauth.NewHTTPClient(options)
	return issuer.New(o)
}

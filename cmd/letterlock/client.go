package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/login"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// findClient settles whom the provider takes us for: the id of the flags, the one
// kept for the provider, one that we register ourselves, or one that the person is
// led to.
func (s *signIn) findClient(ctx context.Context) error {
	conf, err := s.p.config()
	if err != nil {
		return err
	}
	if s.machine() {
		return s.machineClient(conf)
	}
	s.redirect = s.provider.Redirect
	section := conf.Providers[s.providerName]
	if s.o.clientID == "" && section.ClientID == "" {
		done, err := s.ownClient(ctx)
		if err != nil || done {
			return err
		}
		if s.o.clientID == "" {
			if section, err = s.leadToClient(ctx); err != nil {
				return err
			}
		}
	}
	return s.takeClient(section)
}

// ownClient gets along without an id of the person's: it takes one that the domain's
// document lends to everybody, registers one, or is "open" (the profile for open public
// clients), in that order. done means that the client is settled.
func (s *signIn) ownClient(ctx context.Context) (done bool, err error) {
	if s.found != nil && s.found.Issuer.ClientID != "" {
		s.o.clientID, s.o.secret = s.found.Issuer.ClientID, s.found.Issuer.ClientSecret
		return false, nil
	}
	if s.endpoints.Registration != "" {
		err = s.registerOurselves(ctx)
		if err == nil {
			return true, nil
		}
		var answer *oauth.Error
		if !s.open() || !errors.As(err, &answer) || answer.Temporary() {
			return false, err
		}
		s.p.log().Info("registration refused, the client id is open", "provider", s.providerName, "error", err)
	}
	if !s.open() {
		return false, nil
	}
	s.o.clientID = openClient
	s.redirect = provider.Redirect{URI: "http://127.0.0.1/", AnyPort: true}
	return false, nil
}

// openClient is the id of every program where nothing can be registered
// (draft-ietf-mailmaint-autoconfig, OAuth2 requirements).
const openClient = "open"

func (s *signIn) open() bool { return s.found != nil && s.found.Issuer.Open }

// takeClient lays flags over the section and keeps them for the provider.
func (s *signIn) takeClient(section config.Provider) error {
	s.client = oauth.Client{ID: section.ClientID, Secret: section.ClientSecret, Auth: s.provider.Auth}
	secretFile := section.ClientSecretFile
	if s.o.clientID != "" && s.o.clientID != section.ClientID {
		if err := checkClientID(s.presetName(section), s.o.clientID); err != nil {
			return err
		}
		// The secret of the configuration belongs to the old id.
		s.client = oauth.Client{ID: s.o.clientID, Secret: s.o.secret, Auth: s.provider.Auth}
		secretFile = ""
		s.providerSettings = append(s.providerSettings, config.Setting{Name: "client_id", Text: s.o.clientID},
			config.Setting{Name: "client_secret", Secret: s.o.secret}, config.Setting{Name: "client_secret_file", Text: absolute(s.o.secretFile)})
	} else if s.o.secretFile != "" {
		s.providerSettings = append(s.providerSettings, config.Setting{Name: "client_secret"},
			config.Setting{Name: "client_secret_file", Text: absolute(s.o.secretFile)})
	}
	if s.o.secretFile != "" {
		secretFile = absolute(s.o.secretFile)
	}
	if secretFile != "" {
		value, err := readSecretFile(secretFile)
		if err != nil {
			return err
		}
		s.client.Secret = value
	}
	if s.client.Secret.IsZero() && s.provider.NeedsSecret {
		return cli.Faultf(cli.Config, "letterlock register "+shellWord(s.providerName)+" asks for it, --client-secret-file FILE names one",
			"%s gives its clients a secret and wants to see it", s.title())
	}
	s.client.Auth = authStyle(s.client)
	return nil
}

func (s *signIn) presetName(section config.Provider) string {
	if section.Preset != "" {
		return section.Preset
	}
	return s.providerName
}

// authStyle makes style and secret agree: a style that needs a secret without one
// would fail at the token endpoint with a riddle.
func authStyle(c oauth.Client) oauth.AuthStyle {
	switch {
	case c.Secret.IsZero():
		return oauth.AuthNone
	case c.Auth == "" || c.Auth == oauth.AuthNone:
		return oauth.AuthPost
	}
	return c.Auth
}

// registerOurselves is dynamic registration (RFC 7591): a client for this account.
func (s *signIn) registerOurselves(ctx context.Context) error {
	s.redirect = login.NewRedirect()
	client, err := oauth.Register(ctx, s.http, s.endpoints.Registration, oauth.RegisterRequest{
		RedirectURIs: []string{s.redirect.URI}, Scopes: s.scopes(),
		GrantTypes: s.grantTypes(),
	})
	if err != nil {
		return cli.Wrap(cli.Unavailable, fmt.Errorf("register a client with %s: %w", s.title(), err),
			"register one by hand and give it with --client-id; the redirect URI is http://127.0.0.1")
	}
	s.p.log().Info("registered a client", "provider", s.providerName, "client_id", client.ID)
	s.client = client
	return nil
}

// abandon takes back the registration of a sign-in that came to nothing: nobody will
// use it, and nobody could remove it later. The person may have pressed Ctrl-C.
func (s *signIn) abandon(ctx context.Context) {
	if s.kept || s.client.Registration == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := oauth.Unregister(ctx, s.http, *s.client.Registration); err != nil {
		s.p.log().Warn("the registration stays", "provider", s.providerName, "error", err)
	}
}

func (s *signIn) grantTypes() []string {
	types := []string{"authorization_code", "refresh_token"}
	if s.endpoints.DeviceAuthorization != "" {
		types = append(types, "urn:ietf:params:oauth:grant-type:device_code")
	}
	return types
}

// replaced is the registration of the grant that this sign-in is about to replace, unless
// it stays in use. A grant that cannot be read is replaced all the same.
func (s *signIn) replaced(ctx context.Context) *oauth.Registered {
	grant, err := s.manager.Grant(ctx, s.name)
	if err != nil || grant.Client.Registration == nil || grant.Client.Registration.ClientURI == "" {
		return nil
	}
	if now := s.client.Registration; now != nil && now.ClientURI == grant.Client.Registration.ClientURI {
		return nil
	}
	return grant.Client.Registration
}

// unregister takes back a registration that nobody uses any more.
func (s *signIn) unregister(ctx context.Context, old *oauth.Registered) {
	if old == nil {
		return
	}
	if err := oauth.Unregister(ctx, s.http, *old); err != nil {
		s.p.log().Warn("the old registration stays", "provider", s.providerName, "error", err)
	}
}

// fromMetadata fills in what a bare issuer does not bring along.
func (s *signIn) fromMetadata(found oauth.Metadata) {
	if s.provider.Auth == "" {
		s.provider.Auth = oauth.AuthPost
		if !slices.Contains(found.AuthMethods, string(oauth.AuthPost)) && (len(found.AuthMethods) == 0 || slices.Contains(found.AuthMethods, string(oauth.AuthBasic))) {
			s.provider.Auth = oauth.AuthBasic // the default of RFC 8414 section 2
		}
	}
	if s.provider.Redirect.URI == "" {
		s.provider.Redirect = provider.Redirect{URI: "http://127.0.0.1", AnyPort: true}
	}
	if s.machine() && s.remembered(found) {
		s.provider.Resources[0].Scopes[provider.Full] = []string{}
	}
	if len(s.provider.Resources) == 0 && s.machine() && s.right == provider.Full {
		// What the machine was given, by asking for nothing (RFC 6749 section 3.3): to ask
		// for all of mail would be refused where it was given less.
		s.provider.Resources = []provider.Resource{{Name: "mail", Purposes: []provider.Purpose{provider.IMAP, provider.POP3, provider.SMTP, provider.Send}, Scopes: map[provider.Right][]string{provider.Full: {}}}}
	}
	if len(s.provider.Resources) == 0 {
		s.provider.Resources = genericResources(found.ScopesSupported, s.namedScopes())
		if len(s.provider.Resources) > 0 {
			scopes := s.provider.Resources[0].Scopes
			s.providerSettings = append(s.providerSettings, config.Setting{Name: "scopes", List: scopes[provider.Full]})
			if send := scopes[provider.SendOnly]; len(send) > 0 {
				s.providerSettings = append(s.providerSettings, config.Setting{Name: "send_scopes", List: send})
			}
		}
	}
}

// namedScopes are those of the domain's document.
func (s *signIn) namedScopes() []string {
	if s.found == nil {
		return nil
	}
	return s.found.Issuer.Scopes
}

// remembered reports whether the configured scopes are those that a person's sign-in at the
// same issuer left there, and not ones that somebody wrote: a machine does without them.
func (s *signIn) remembered(found oauth.Metadata) bool {
	conf, err := s.p.config()
	if err != nil || len(s.provider.Resources) == 0 {
		return false
	}
	kept := conf.Providers[s.providerName].Scopes
	all := genericResources(found.ScopesSupported, s.namedScopes())
	return len(kept) > 0 && len(all) > 0 && slices.Equal(kept, all[0].Scopes[provider.Full])
}

// genericResources picks the scopes of an issuer that nothing else is known about:
// those of draft-ietf-mailmaint-oauth-public where it has them, those that the domain's
// document named, else what OpenID Connect gives for signing in, which is what Dovecot
// checks behind most issuers.
func genericResources(supported, named []string) []provider.Resource {
	has := func(scope string) bool { return slices.Contains(supported, scope) }
	pick := func(wanted ...string) []string {
		var out []string
		for _, scope := range wanted {
			if has(scope) {
				out = append(out, scope)
			}
		}
		return out
	}
	full := pick("urn:ietf:params:oauth:scope:mail")
	if len(full) == 0 {
		full = pick("mail", "imap", "pop3", "smtp")
	}
	if len(full) == 0 {
		full = slices.DeleteFunc(slices.Clone(named), isIdentity)
	}
	send := pick("send-only")
	if len(send) == 0 {
		send = pick("smtp", "mail.send")
	}
	identity := pick("openid", "email", "profile", "offline_access")
	if len(full) == 0 && !has("openid") {
		return nil
	}
	scopes := map[provider.Right][]string{provider.Full: append(full, identity...)}
	if len(send) > 0 {
		scopes[provider.SendOnly] = append(send, identity...)
	}
	for _, scope := range named {
		if isIdentity(scope) && !slices.Contains(identity, scope) {
			scopes[provider.Full] = append(scopes[provider.Full], scope)
		}
	}
	return []provider.Resource{{Name: "mail", Purposes: []provider.Purpose{provider.IMAP, provider.POP3, provider.SMTP, provider.Send}, Scopes: scopes}}
}

func isIdentity(scope string) bool {
	return slices.Contains([]string{"openid", "email", "profile", "offline_access"}, scope)
}

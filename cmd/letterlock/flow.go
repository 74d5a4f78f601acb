package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/login"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A grantInfo is a grant on its way to the store.
type grantInfo struct{ *account.Grant }

// A granted is the answer to a sign-in and what is needed to check it.
type granted struct {
	oauth.Token
	nonce string
}

// resource is the one that the sign-in itself asks a token for; tokens for others
// are had with the refresh token.
func (s *signIn) resource() provider.Resource {
	for _, r := range s.provider.Resources {
		if _, has := r.Scopes[s.right]; has {
			return r
		}
	}
	return provider.Resource{}
}

func (s *signIn) scopes() []string { return s.resource().Scopes[s.right] }

func (s *signIn) signIn(ctx context.Context) (granted, provider.Flow, error) {
	flow, err := s.chooseFlow()
	if err != nil {
		return granted{}, "", err
	}
	req := s.request(flow)
	who := &person{ctx: ctx, p: s.p, noBrowser: s.o.noBrowser}
	var token oauth.Token
	switch flow {
	case provider.FlowDevice:
		token, err = login.Device(ctx, req, who)
	case provider.FlowPaste:
		token, err = login.Paste(ctx, req, who)
	default:
		token, err = login.Browser(ctx, req, who)
	}
	if err != nil {
		return granted{}, "", s.signInFault(err, flow)
	}
	return granted{token, req.Nonce}, flow, nil
}

func (s *signIn) request(flow provider.Flow) login.Request {
	req := login.Request{
		Conn:     &oauth.Conn{HTTP: s.http, Endpoints: s.endpoints, Client: s.client, Now: s.p.now},
		Scopes:   s.scopes(),
		Redirect: s.redirect,
		App:      "Letterlock",
		Extra:    map[string][]string{},
	}
	// One consent page covers all resources, one token covers one. A device code is
	// asked for the first alone: Microsoft lets the person agree to two and then
	// refuses the token (AADSTS28000).
	if all := s.provider.ConsentScopes(s.right); flow != provider.FlowDevice && len(all) > len(req.Scopes) {
		req.Scopes, req.TokenScopes = all, req.Scopes
	}
	for name, values := range s.provider.Params {
		req.Extra[name] = slices.Clone(values)
	}
	if indicator := s.resource().Indicator; indicator != "" {
		req.Extra.Set("resource", indicator)
	}
	if !s.o.noHint {
		req.LoginHint = s.login
	}
	// RFC 8628 has no nonce.
	if slices.Contains(req.Scopes, "openid") && flow != provider.FlowDevice {
		req.Nonce = oauth.NewState()
	}
	// OpenID Connect Core section 11: without it offline_access is ignored, and no
	// refresh token comes. Microsoft, which wants none, has a prompt of its own.
	if slices.Contains(req.Scopes, "openid") && slices.Contains(req.Scopes, "offline_access") && !req.Extra.Has("prompt") {
		req.Extra.Set("prompt", "consent")
	}
	return req
}

func (s *signIn) allowedFlows() []provider.Flow {
	allowed := s.provider.Flows
	if len(allowed) == 0 {
		allowed = []provider.Flow{provider.FlowBrowser, provider.FlowDevice, provider.FlowPaste}
	}
	if s.endpoints.DeviceAuthorization != "" {
		return allowed
	}
	return slices.DeleteFunc(slices.Clone(allowed), func(f provider.Flow) bool { return f == provider.FlowDevice })
}

func (s *signIn) chooseFlow() (provider.Flow, error) {
	allowed := s.allowedFlows()
	if flow := provider.Flow(s.o.flow); flow != "" {
		if flow == provider.FlowDevice && !slices.Contains(allowed, flow) {
			return "", cli.Faultf(cli.Unavailable, "use --flow browser, or --flow paste where the browser is on another computer",
				"%s has no sign-in by device code for mail", s.title())
		}
		return flow, nil
	}
	around := login.Look(s.p.desktop())
	around.Terminal = s.p.term.Interactive
	if conf, err := s.p.config(); err == nil {
		around.Last = provider.Flow(conf.Accounts[s.name].Flow)
	}
	if s.o.noBrowser {
		around.Display, around.BrowserSet = false, false
	}
	flow, why := login.Choose(around, allowed)
	s.p.term.Sayf("signing in by %s: %s", flow, why)
	return flow, nil
}

// signInFault adds what usually mends a refused sign-in.
func (s *signIn) signInFault(err error, flow provider.Flow) error {
	var fault *cli.Fault
	var answer *oauth.Error
	switch {
	case errors.As(err, &fault):
		return err
	case errors.Is(err, context.Canceled):
		// What a provider shows as a page never comes back to us.
		return &cli.Fault{Code: cli.TempFail, What: "interrupted", Hint: "nothing was changed; if the provider's page showed an error, letterlock explain CODE knows what it means", Err: err}
	case !errors.As(err, &answer):
		return err
	case answer.Temporary():
		return cli.Wrap(cli.TempFail, err, "try again in a moment")
	}
	code, hint := s.refusedSignIn(answer)
	if flow == provider.FlowDevice && len(answer.Numbers) == 0 && (answer.Code == "unauthorized_client" || answer.Code == "invalid_client") {
		hint = "the client may not use device codes: allow it in the provider's console, or use --flow browser"
	}
	return cli.Wrap(code, err, hint)
}

// grant checks whose the answer is and what it allows, and makes a grant of it.
func (s *signIn) grant(ctx context.Context, token granted, flow provider.Flow) (*grantInfo, error) {
	s.narrow(token.Scopes)
	if err := s.checkScopes(token.Scopes); err != nil {
		return nil, err
	}
	subject, err := s.subject(ctx, token)
	if err != nil {
		return nil, err
	}
	now := s.p.now()
	g := &account.Grant{
		Account: s.name, Login: s.login, Subject: subject, Provider: s.providerName, Right: s.right,
		Client: s.client, Endpoints: s.endpoints, Refresh: token.Refresh, RefreshExpiry: token.RefreshExpiry,
		SignedIn: now, Flow: flow, KeyFile: s.keyFile,
		Access: map[string]account.Access{s.resource().Name: {Token: token.Access, Expiry: token.Expiry, Issued: now, Scopes: token.Scopes}},
	}
	for _, r := range s.provider.Resources {
		if scopes, has := r.Scopes[s.right]; has {
			g.Resources = append(g.Resources, account.Resource{Name: r.Name, Purposes: purposes(r, s.right), Scopes: scopes, Indicator: r.Indicator})
		}
	}
	return &grantInfo{g}, nil
}

// narrow follows a person who allowed sending alone where all of mail was asked for:
// letterlockd's consent page offers that.
func (s *signIn) narrow(got []string) {
	for _, r := range s.provider.Resources {
		wanted := slices.DeleteFunc(slices.Clone(r.Scopes[provider.SendOnly]), isIdentity)
		if s.right == provider.Full && slices.Equal(wanted, []string{"send-only"}) && slices.Contains(got, "send-only") {
			s.right = provider.SendOnly
			s.p.term.Sayf("note: you allowed sending only")
		}
	}
}

// checkScopes notices a person who left a box unticked: the token would be refused by
// every mail server. Identity scopes may be left out without harm.
func (s *signIn) checkScopes(got []string) error {
	if got == nil {
		return nil // RFC 6749 section 5.1: what was asked for
	}
	var missing []string
	for _, scope := range s.scopes() {
		if isIdentity(scope) {
			continue
		}
		if !slices.ContainsFunc(got, func(g string) bool { return strings.EqualFold(g, scope) }) {
			missing = append(missing, scope)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return cli.Faultf(cli.NoPerm, "sign in again and leave every box on the consent page ticked; nothing was kept",
		"the sign-in did not grant %s", cli.Line(strings.Join(missing, " ")))
}

// subject says who signed in, by the ID token, and compares with the address. A
// token of somebody else's mailbox logs in at some servers and fails later, or worse,
// does not fail.
func (s *signIn) subject(ctx context.Context, token granted) (string, error) {
	if token.ID.IsZero() || s.endpoints.JWKS == "" {
		return "", nil
	}
	conn := &oauth.Conn{HTTP: s.http, Endpoints: s.endpoints, Client: s.client, Now: s.p.now}
	claims, err := conn.VerifyID(ctx, token.ID, token.nonce, s.templated)
	if err != nil {
		return "", cli.Wrap(cli.Unavailable, err, "the provider's answer cannot be trusted; nothing was kept")
	}
	names := []string{claims.Email, claims.PreferredUsername}
	who := claims.Email
	if who == "" {
		who = claims.PreferredUsername
	}
	if who == "" || slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, s.login) }) {
		return who, nil
	}
	return who, s.otherPerson(ctx, who)
}

func (s *signIn) otherPerson(ctx context.Context, who string) error {
	what := fmt.Sprintf("%s signed in, not %s", cli.Line(who), s.login)
	hint := fmt.Sprintf("if that is you: letterlock login %s --account %s; if not, sign out in the browser and sign in again; nothing was kept", shellWord(cli.Line(who)), shellWord(s.name))
	if s.p.term.Interactive {
		s.p.term.Sayf("%s %s", s.p.term.Bad("note:"), what)
		yes, err := s.p.term.Confirm(ctx, "is this the right person for "+s.login+" all the same?")
		if err != nil || yes {
			return err
		}
		return cli.Faultf(cli.NoPerm, hint, "%s", what)
	}
	if _, known := knownProvider(s.providerName); known {
		return cli.Faultf(cli.NoPerm, hint, "%s", what)
	}
	// An issuer of one's own often knows people by another address than their mailbox.
	s.p.term.Sayf("note: %s; mail servers may mind", what)
	return nil
}

// purposes are those of a resource that the right covers: a token that can only send
// is not handed out for reading, so that no server sees it presented for that.
func purposes(r provider.Resource, right provider.Right) []provider.Purpose {
	if right != provider.SendOnly {
		return r.Purposes
	}
	return slices.DeleteFunc(slices.Clone(r.Purposes), func(p provider.Purpose) bool { return p == provider.IMAP || p == provider.POP3 })
}

package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// maxIssuers is how many authorization servers one place may send us to.
const maxIssuers = 4

// issuer asks an authorization server who it is. Text without a scheme is a host, as
// older documents have it.
func (s *search) issuer(ctx context.Context, text string) (*Issuer, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	if _, err := checkURL(text); err != nil {
		return nil, err
	}
	name, err := oauth.ParseIssuer(text)
	if err != nil {
		return nil, err
	}
	found, err := oauth.Discover(ctx, s.OAuth, name)
	switch {
	case err != nil:
		return nil, err
	case found.TemplatedIssuer:
		return nil, errors.New("it does not say for certain who it is")
	case found.PKCE != nil && !slices.Contains(found.PKCE, "S256"):
		return nil, errors.New("it does not take PKCE with S256")
	}
	return &Issuer{Metadata: found}, nil
}

// serverIssuer looks for an issuer where no document names one: in documents that a
// person has now vouched for, and at the servers themselves.
func (s *search) serverIssuer(ctx context.Context) {
	if s.documentIssuer(ctx) {
		return
	}
	hosts := s.ownHosts()
	for _, host := range hosts {
		if s.protectedResource(ctx, host) {
			return
		}
	}
	if s.challenge(ctx) {
		return
	}
	for _, host := range hosts {
		if s.ownHost(ctx, host) {
			return
		}
	}
}

// ownHosts are the domain and those of its mail servers that may be spoken to.
func (s *search) ownHosts() []string {
	hosts := []string{s.domain}
	for _, service := range []Service{IMAP, SMTP} {
		server, ok := s.result.Servers[service]
		if ok && server.Doubt == "" && !slices.Contains(hosts, server.Host) {
			hosts = append(hosts, server.Host)
		}
	}
	return hosts
}

// proofOf says what a word of one of ownHosts is worth.
func (s *search) proofOf(host string) Proof {
	for _, server := range s.result.Servers {
		if server.Host == host && server.Proof == ByPerson {
			return ByPerson
		}
	}
	return ByCertificate
}

// protectedResource reads the metadata of RFC 9728. A host can be a resource of many
// kinds: it, or the issuer that it names, has to know mail.
func (s *search) protectedResource(ctx context.Context, host string) bool {
	place := "https://" + host + "/.well-known/oauth-protected-resource"
	servers, scopes, err := s.resource(ctx, host, place)
	if err != nil {
		s.tried(ProtectedResource, place, err)
		return false
	}
	for _, name := range servers {
		if known, ok := bookByIssuer(name); ok && hasMailScope(scopes) {
			s.take(known, Origin{Source: ProtectedResource, Place: place, Proof: s.proofOf(host)})
			return true
		}
		issuer, err := s.issuer(ctx, name)
		if err == nil && !hasMailScope(scopes) && !hasMailScope(issuer.ScopesSupported) {
			err = errors.New("it knows no scope for mail")
		}
		if err != nil {
			s.tried(ProtectedResource, place, fmt.Errorf("issuer %s: %w", shown(name), err))
			continue
		}
		issuer.Origin = Origin{Source: ProtectedResource, Place: place, Proof: s.proofOf(host)}
		issuer.Scopes = mailScopes(scopes)
		s.result.Issuer = issuer
		return true
	}
	return false
}

func (s *search) resource(ctx context.Context, host, place string) (servers, scopes []string, err error) {
	d, err := s.fetch(ctx, place, 0)
	if err != nil {
		return nil, nil, err
	}
	return parseResource(d.body, host)
}

// parseResource reads RFC 9728 section 2. The resource must be the one that was asked
// (section 3.3): else one server could speak for another.
func parseResource(body []byte, host string) (servers, scopes []string, err error) {
	if err := shallow(body); err != nil {
		return nil, nil, err
	}
	var doc struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Scopes   []string `json:"scopes_supported"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, nil, errors.New("not the JSON of RFC 9728")
	}
	switch {
	case doc.Resource != "https://"+host && doc.Resource != "https://"+host+"/":
		return nil, nil, fmt.Errorf("it describes another resource: %s", shown(doc.Resource))
	case len(doc.Servers) == 0:
		return nil, nil, errors.New("it names no authorization server")
	}
	return doc.Servers[:min(len(doc.Servers), maxIssuers)], doc.Scopes, nil
}

// challenge asks the mail server itself, by a sign-in that cannot succeed.
func (s *search) challenge(ctx context.Context) bool {
	server, ok := s.result.Servers[IMAP]
	if !ok || server.Doubt != "" || s.Ask == nil {
		return false
	}
	place := fmt.Sprintf("%s:%d", server.Host, server.Port)
	user := server.User
	if user == "" {
		user = s.address
	}
	text, err := s.Ask(ctx, server.MailServer, user)
	if err != nil {
		s.tried(Challenge, place, err)
		return false
	}
	name, err := issuerOf(text)
	if err != nil {
		s.tried(Challenge, place, err)
		return false
	}
	from := Origin{Source: Challenge, Place: place, Proof: s.proofOf(server.Host)}
	if known, ok := bookByIssuer(name); ok {
		s.take(known, from)
		return true
	}
	issuer, err := s.issuer(ctx, name)
	if err != nil {
		s.tried(Challenge, place, fmt.Errorf("issuer %s: %w", shown(name), err))
		return false
	}
	issuer.Origin = from
	s.result.Issuer = issuer
	return true
}

// issuerOf turns the address of metadata into the issuer whose it must be: OpenID
// Connect appends to the issuer, RFC 8414 inserts before its path.
func issuerOf(text string) (string, error) {
	u, err := checkURL(text)
	if err != nil {
		return "", err
	}
	if u.RawQuery != "" || u.ForceQuery {
		return "", errors.New("the address of metadata with a query")
	}
	base, path := "https://"+strings.ToLower(u.Host), u.EscapedPath()
	for _, name := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		if rest, ok := strings.CutPrefix(path, name); ok && (rest == "" || rest[0] == '/') {
			return base + rest, nil
		}
		if rest, ok := strings.CutSuffix(path, name); ok {
			return base + rest, nil
		}
	}
	return "", errors.New("not the address of an issuer's metadata")
}

// ownHost tries whether a host of the domain is an authorization server for mail.
func (s *search) ownHost(ctx context.Context, host string) bool {
	place := "https://" + host
	issuer, err := s.issuer(ctx, place)
	if err == nil && !hasMailScope(issuer.ScopesSupported) {
		err = errors.New("it knows no scope for mail")
	}
	var answer *oauth.Error
	if errors.As(err, &answer) && (answer.Status == 404 || notThere(err)) {
		err = fmt.Errorf("%w: %w", errAbsent, err)
	}
	if err != nil {
		s.tried(OwnHost, place, err)
		return false
	}
	issuer.Origin = Origin{Source: OwnHost, Place: place, Proof: s.proofOf(host)}
	s.result.Issuer = issuer
	return true
}

func hasMailScope(scopes []string) bool { return len(mailScopes(scopes)) > 0 }

// mailScopes are those of the drafts, and the words that mail servers use for them.
func mailScopes(scopes []string) []string {
	var found []string
	for _, scope := range scopes {
		if slices.Contains([]string{"urn:ietf:params:oauth:scope:mail", "mail", "imap"}, scope) {
			found = append(found, scope)
		}
	}
	return found
}

func secretOf(text string) secret.String {
	if text == "" {
		return secret.String{}
	}
	return secret.New(text)
}

// printable reports whether text can be a client id or secret: VSCHAR of RFC 6749
// appendix A.
func printable(text string) bool {
	return len(text) <= 1024 && !strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e })
}

// shown keeps foreign text in errors short; whoever prints it cleans it.
func shown(text string) string {
	const limit = 200
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit], "") + "..."
	}
	return text
}

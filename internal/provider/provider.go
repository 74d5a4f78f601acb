// Package provider is what Letterlock knows about mail providers: endpoints, scopes,
// hosts, quirks, the way to a client id, and the book of their errors. It is data:
// it opens no connection and reads no file.
//
// The facts come from the providers' documentation and from Mozilla's ISPDB; where
// a provider does something of its own the entry says what and why.
package provider

import (
	"net/url"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// A Purpose is what a program wants an access token for.
type Purpose string

// The purposes that `token --for` knows. Send is the narrowest way out there is: a
// send-only API or scope. Graph is Microsoft's API for the same.
const (
	IMAP  Purpose = "imap"
	POP3  Purpose = "pop3"
	SMTP  Purpose = "smtp"
	Send  Purpose = "send"
	Graph Purpose = "graph"
)

// A Right is how much a grant may do.
type Right string

// Full reads and sends mail, SendOnly cannot read it.
const (
	Full     Right = "full"
	SendOnly Right = "send-only"
)

// A Resource is a thing that one access token is good for. Providers that bind a
// token to one audience (Microsoft) have several; most have one called "mail".
type Resource struct {
	Name     string
	Purposes []Purpose
	Scopes   map[Right][]string // no entry: this right is not to be had here
	// Indicator is sent as `resource` (RFC 8707) when not empty.
	Indicator string
}

// Security is how a connection gets its TLS.
type Security string

// The two ways of RFC 8314, and plain text for loopback only.
const (
	ImplicitTLS Security = "tls"
	STARTTLS    Security = "starttls"
	Plain       Security = "plain"
)

// A MailServer is one end point of a mail protocol.
type MailServer struct {
	Host     string
	Port     int
	Security Security
}

// IsZero reports whether there is no such server.
func (m MailServer) IsZero() bool { return m.Host == "" }

// A Redirect says which redirect URI a registered client has.
type Redirect struct {
	URI     string // "http://localhost/", "http://127.0.0.1", "https://localhost"
	AnyPort bool   // the provider ignores the port of loopback URIs (RFC 8252 section 7.3)
	AnyPath bool   // registered by ourselves for this run: a random path is fine
	Fixed   bool   // exact match: host, port and path as registered
}

// A Flow is a way to sign in.
type Flow string

// The sign-in flows.
const (
	FlowBrowser           Flow = "browser"
	FlowDevice            Flow = "device"
	FlowPaste             Flow = "paste"
	FlowClientCredentials Flow = "client-credentials"
	FlowAssertion         Flow = "assertion"
)

// A Provider is one mail provider, or one kind of account of it.
type Provider struct {
	Name    string   // "google", "microsoft", "fastmail" ...: what configuration calls it
	Title   string   // "Google"
	Domains []string // mail domains that are always this provider's
	MX      []string // suffixes of MX host names that tell customers' own domains

	// Endpoints are the well-known ones; {tenant} in a URL stands for Tenant. With
	// Discover set they are asked for at Endpoints.Issuer instead.
	Endpoints oauth.Endpoints
	Discover  bool
	Tenant    string // default tenant: "common", "consumers", "organizations" or an id
	// TemplatedIssuer: the metadata's issuer holds {tenantid} and differs from the
	// one in tokens; compare the tenant instead (Microsoft's common).
	TemplatedIssuer bool

	Auth        oauth.AuthStyle // how a client of this provider authenticates
	NeedsSecret bool            // a desktop client has a secret and must send it (Google)
	Redirect    Redirect
	Flows       []Flow     // flows the provider allows for mail scopes, best first
	Params      url.Values // extra authorization parameters: access_type=offline ...
	Resources   []Resource

	IMAP, POP3, SMTP MailServer
	Mechanisms       []string // SASL mechanisms, best first

	// Registration leads to a client id of one's own; None says why the public gets
	// none and what remains.
	Registration Registration
	RevokePage   string // the provider's page for taking rights back by hand
	Rotates      bool   // a refresh may return a new refresh token
	Lifetimes    []Lifetime
}

// A Registration is the guide of `letterlock register`.
type Registration struct {
	None  string // not empty: there is no client id for the public, and what remains
	Links []string
	Steps []string // {redirect} and {scopes} are filled in
	Admin string   // a text ready to send to an administrator where consent is blocked
}

// A Lifetime is a rule by which a grant of this provider ends.
type Lifetime struct {
	Rule string // "refresh tokens of an app in Testing end after 7 days"
	Days int    // after that many days ...
	Idle bool   // ... without use; else since sign-in
	When string // the circumstance under which the rule applies; empty: always
}

// Package discovery finds the settings of a mailbox from its address: which provider
// of the book it belongs to, or which authorization server signs its people in, and
// where its mail servers are. It asks and judges; it signs in nowhere, registers
// nothing and writes nothing down. cmd/letterlock calls it for login and discover.
//
//	book (provider)  the address is of a provider that we know        built in
//	PACC             https://ua-auto-config.DOMAIN + digest in DNS    certificate
//	autoconfig       https://autoconfig.DOMAIN, DOMAIN/.well-known    certificate
//	SRV              RFC 6186, RFC 8314                               DNS: hosts only
//	MX               a provider that we know takes the domain's mail  DNS: book only
//	issuer           RFC 9728, the SASL challenge, RFC 8414 at our own hosts
//
// What is believed follows from what proves it:
//
//   - Documents are fetched by https alone. Thunderbird tries plain http too, where
//     anybody on the way may write the answer; nothing is taken from there.
//   - A document that came with a certificate for a name of the domain is the domain's
//     own word: it may name any host and any issuer.
//   - DNS without signatures chooses no host outside of the domain, and neither does a
//     page of another domain that a redirect led to. Such a setting has a Doubt, and a
//     person has to say yes ([Finder.Confirm]). Only a provider of the book may be
//     taken on the word of DNS: a forger could lead the person to Google and no further.
//   - An issuer has to say itself what it is called, byte for byte (RFC 8414 section 3.3).
//   - Hosts are names: no addresses, nothing on this machine or without a dot. With
//     https everywhere that also answers requests forged into a private network: a
//     server there cannot prove the name, and hears a TLS greeting and nothing else.
//
// Mozilla's data base of providers is not asked: it would tell a third party who is
// about to sign in where, and the book has what it has for OAuth.
package discovery

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A Source is a way of publishing settings.
type Source string

// The sources. Later ones are asked only when the earlier ones leave something open.
const (
	Book              Source = "book"
	PACC              Source = "pacc"
	Autoconfig        Source = "autoconfig"
	SRV               Source = "srv"
	MX                Source = "mx"
	ProtectedResource Source = "protected-resource"
	Challenge         Source = "sasl-challenge"
	OwnHost           Source = "own-host"
)

// A Proof is why a setting may be believed.
type Proof string

// The proofs, best first. ByDNS is none: see [Setting.Doubt].
const (
	BuiltIn       Proof = "built-in"
	ByCertificate Proof = "certificate" // of a name of the domain
	ByPerson      Proof = "person"      // who was asked
	ByDNS         Proof = "dns"
)

// An Origin says where a setting came from.
type Origin struct {
	Source Source
	Place  string // the URL, or the name in DNS
	Proof  Proof
	// Doubt, when not empty, says why it must not be used before a person has agreed.
	Doubt string
}

// A Service is what a mail server is for.
type Service string

// The services.
const (
	IMAP  Service = "imap"
	POP3  Service = "pop3"
	SMTP  Service = "smtp"
	Sieve Service = "sieve"
)

// Services lists them in the order of a table.
func Services() []Service { return []Service{IMAP, POP3, SMTP, Sieve} }

// A Server is one mail server.
type Server struct {
	provider.MailServer
	Origin
	// User is the name to give there when the document says so and it is not the address.
	User string
}

// An Issuer is an authorization server that signs the mailbox's person in.
type Issuer struct {
	oauth.Metadata
	Origin
	// Scopes are those that the document names; nil: none.
	Scopes []string
	// ClientID and ClientSecret are what the document lends to every program.
	ClientID     string
	ClientSecret secret.String
	// Open: the server follows the profile for open public clients, so that where
	// nothing can be registered the client id "open" is taken without a secret.
	Open bool
}

// An Attempt is one place that was asked in vain, and why.
type Attempt struct {
	Source Source
	Place  string
	Err    error
}

// Absent reports that nothing was published there, which is no fault of anybody.
func (a Attempt) Absent() bool { return errors.Is(a.Err, errAbsent) }

// A Result is all that is known about a mailbox. At most one of Provider and Issuer is
// set; neither means that nobody said where its people sign in.
type Result struct {
	Address, Domain string
	Provider        string // name of a provider of the book
	ProviderOrigin  Origin
	Issuer          *Issuer
	Servers         map[Service]Server
	Tried           []Attempt
}

// A DNS answers from records: *dnsask.Client. Its errors wrap dnsask.ErrNoName where
// the answer is that there is none.
type DNS interface {
	TXT(ctx context.Context, name string) ([]string, error)
	MX(ctx context.Context, name string) ([]dnsask.MX, error)
	SRV(ctx context.Context, name string) ([]dnsask.SRV, error)
}

// A Finder finds settings.
type Finder struct {
	DNS DNS
	// HTTP comes from oauth.NewHTTPClient with ShowRedirects, OAuth from the same
	// without.
	HTTP, OAuth *http.Client
	// Confirm asks a person whether settings in doubt may be used; nil: nobody is there,
	// and they are left in doubt.
	Confirm func(ctx context.Context, doubts []string) (bool, error)
	// Ask presents an empty token to a mail server and returns the URL that it answers
	// with (RFC 7628 section 3.2.2, openid-configuration). nil: servers are not asked.
	Ask func(ctx context.Context, server provider.MailServer, user string) (string, error)
	// Timeout bounds the whole search, without the time that a person takes: 0 means 20 s.
	Timeout time.Duration
}

// errAbsent is wrapped by what is simply not published.
var errAbsent = errors.New("nothing is published there")

// Find finds the settings of address. An error means that the address is none, or that
// ctx ended; all else is in the result.
func (f *Finder) Find(ctx context.Context, address string) (*Result, error) {
	domain, err := domainOf(address)
	if err != nil {
		return nil, err
	}
	s := &search{Finder: f, address: address, domain: domain, result: &Result{Address: address, Domain: domain, Servers: map[Service]Server{}}}
	if known, ok := provider.ByAddress(address); ok {
		s.take(known, Origin{Source: Book, Place: known.Title, Proof: BuiltIn})
		return s.result, nil
	}
	timeout := f.Timeout
	if timeout <= 0 {
		timeout = 20 * time.Second
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s.gather(bounded)
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	s.weigh()
	if s.documentIssuer(bounded) || s.book() {
		return s.result, ctx.Err()
	}
	if err := s.clearDoubts(ctx); err != nil {
		return nil, err
	}
	again, cancelAgain := context.WithTimeout(ctx, timeout) // the person took their time
	defer cancelAgain()
	s.serverIssuer(again)
	return s.result, ctx.Err()
}

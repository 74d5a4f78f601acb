// Package authserver is the OAuth 2.0 authorization server for mail: it lets a person
// allow a program to act on their mailbox, and hands out, renews, checks and revokes
// the tokens that say so.
//
//	browser  -> /authorize -> sign in (handed in) -> consent -> code -> program
//	program  -> /token (code + PKCE | refresh | device code)  -> llat_, llrt_
//	mail server -> /introspect -> active, username, scope     (RFC 7662)
//
// One file per endpoint and per grant. Tokens are opaque, 256 random bits behind a
// prefix that secret scanners know, and are kept only as SHA-256: a mail token has to
// be revocable within seconds, which a signed one is not, and it has to fit into an
// initial response of 512 bytes. Whoever looks for the rules: PKCE and the exact
// redirect in authorize.go and redirect.go, replay of codes in grant_code.go, rotation
// and its grace time in grant_refresh.go.
//
// It knows no SQL (its stores are interfaces), no configuration, and does not sign
// anybody in: a [SignIn] tells who sits at the browser. It shows pages of its own, so
// it stands on package web like all page packages; an interface for two pages would
// only have moved their text away from the endpoint that acts on them.
//
// Why not a library: of those that exist for Go, ory/fosite has no device grant in a
// release, brings 464 modules and 6 ms of start; zitadel/oidc and luikyv/go-oidc were
// not to be had. x/oauth2 and go-oidc, which are clients, are the peers in the tests.
package authserver

import (
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// Options shape a Server. Lifetimes that are zero get the default named.
type Options struct {
	Issuer          string // https URL without trailing slash; http on loopback only
	Audience        string // "aud" of introspection: this mail service; default "mail"
	Clients         []identity.Client
	ResourceServers []identity.ResourceServer

	Codes   CodeStore
	Devices DeviceStore
	Tokens  TokenStore
	Grants  GrantStore
	People  People
	SignIn  SignIn

	// Key is 32 bytes that all instances share; uses are split off it by HKDF.
	Key []byte
	// IDKey signs ID tokens, P-256. Keys, which wins, keeps keys that can be rotated. With
	// neither there are no ID tokens, and openid is not known.
	IDKey *ecdsa.PrivateKey
	Keys  KeyStore
	// Registration lets programs register themselves (RFC 7591) without a word from
	// an administrator.
	Registration bool
	// Open takes the client id "open".
	Open bool
	// NoDevice leaves the device grant out, which can be used to phish (RFC 8628
	// section 5.4).
	NoDevice bool

	// What follows may be left out.

	Bearers     Bearers     // asked about tokens instead of Tokens and People
	ClientStore ClientStore // programs that an administrator entered, besides Clients
	Trail       Trail       // is told of consents and of what ended them, in one transaction with each
	Throttle    Throttle    // slows floods and guesses
	Counter     Counter     // shares the count of wrong user codes between instances
	Once        OnceStore   // keeps pushed requests (RFC 9126) and used assertions (RFC 7523); nil: there are none
	// Remote is the network address of who asks, where a proxy stands in front.
	Remote func(*http.Request) netip.Addr
	// Again has somebody who is signed in prove it once more, as SignIn.Begin does.
	Again func(w http.ResponseWriter, r *http.Request, back string)
	// Prove has somebody prove what their session lacks while it is Unproved; nil: they are
	// refused.
	Prove func(w http.ResponseWriter, r *http.Request, back string)
	// SignOut ends the browser's session and adds the line to the audit trail, both or
	// neither; a line that names nobody is not added. nil: no end of session is offered.
	SignOut func(w http.ResponseWriter, r *http.Request, line identity.Event) error

	CodeLifetime    time.Duration // 1 min
	DeviceLifetime  time.Duration // 10 min
	DeviceInterval  time.Duration // 5 s
	AccessLifetime  time.Duration // 1 h
	RefreshLifetime time.Duration // 90 days without use
	Grace           time.Duration // 60 s in which a spent refresh token gives its successor

	Now    func() time.Time
	Random io.Reader // crypto/rand.Reader
	Log    *slog.Logger
}

// A Server answers the endpoints. It has no goroutine and keeps nothing but the
// count of wrong user codes.
type Server struct {
	Options
	path       string // of the issuer
	formKey    web.FormKey
	clientKey  []byte
	guesses    *guessCount
	ids        *keyring // nil: no ID tokens
	keyKey     []byte   // seals signing keys
	clients    map[identity.ClientID]identity.Client
	crossCheck *http.CrossOriginProtection
}

// New checks the options. It makes no promise about the stores: a failing one shows
// as server_error when it fails.
func New(options Options) (*Server, error) {
	issuer, err := checkIssuer(options.Issuer)
	if err != nil {
		return nil, err
	}
	if len(options.Key) != 32 {
		return nil, errors.New("authorization server key: want 32 bytes")
	}
	if options.Codes == nil || options.Devices == nil || options.Tokens == nil || options.Grants == nil ||
		options.People == nil || options.SignIn == nil || options.Now == nil || options.Random == nil || options.Log == nil {
		return nil, errors.New("authorization server: a store, sign-in, clock, randomness or log is missing")
	}
	s := &Server{Options: options, path: issuer.Path, guesses: newGuessCount(), crossCheck: http.NewCrossOriginProtection()}
	s.defaults()
	if err := s.deriveKeys(); err != nil {
		return nil, err
	}
	// A proxy may have changed the Host; the issuer's origin is ours in any case.
	if err := s.crossCheck.AddTrustedOrigin(issuer.Scheme + "://" + issuer.Host); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", options.Issuer, err)
	}
	if s.ids, err = s.newKeyring(); err != nil {
		return nil, err
	}
	if err := s.loadClients(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) defaults() {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&s.CodeLifetime, time.Minute},
		{&s.DeviceLifetime, 10 * time.Minute},
		{&s.DeviceInterval, 5 * time.Second},
		{&s.AccessLifetime, time.Hour},
		{&s.RefreshLifetime, 90 * 24 * time.Hour},
		{&s.Grace, time.Minute},
	} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	if s.Audience == "" {
		s.Audience = "mail"
	}
}

func (s *Server) deriveKeys() error {
	for purpose, key := range map[string]*[]byte{
		"authserver form": (*[]byte)(&s.formKey), "authserver client id": &s.clientKey,
		"authserver signing keys": &s.keyKey,
	} {
		derived, err := hkdf.Key(sha256.New, s.Key, nil, purpose, 32)
		if err != nil {
			return fmt.Errorf("derive %s key: %w", purpose, err)
		}
		*key = derived
	}
	return nil
}

func (s *Server) loadClients() error {
	s.clients = make(map[identity.ClientID]identity.Client, len(s.Clients))
	for _, client := range s.Clients {
		if client.ID == "" || strings.HasPrefix(string(client.ID), dynamicPrefix) {
			return fmt.Errorf("client %q: the id is empty or looks like a registered one", client.ID)
		}
		if _, twice := s.clients[client.ID]; twice {
			return fmt.Errorf("client %q: listed twice", client.ID)
		}
		for _, uri := range client.RedirectURIs {
			if err := checkRedirectURI(uri); err != nil {
				return fmt.Errorf("client %q: redirect URI %q: %w", client.ID, uri, err)
			}
		}
		if client.Keys != "" {
			if _, err := keySet([]byte(client.Keys)); err != nil {
				return fmt.Errorf("client %q: keys: %w", client.ID, err)
			}
		}
		s.clients[client.ID] = client
	}
	return nil
}

// checkIssuer holds an issuer to RFC 8414 section 2. A trailing slash is refused
// because clients disagree on whether to strip it, and it is compared byte for byte.
func checkIssuer(issuer string) (*url.URL, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery ||
		strings.HasSuffix(issuer, "/") || strings.Contains(issuer, "#") {
		return nil, fmt.Errorf("issuer %q: want a URL without user, query, fragment and trailing slash", issuer)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, fmt.Errorf("issuer %q: want https", issuer)
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Handler serves the endpoints below the issuer's path.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.Register(mux)
	return web.Headers(mux)
}

// Register adds the endpoints to mux, whose answers must go through web.Headers.
func (s *Server) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /.well-known/oauth-authorization-server"+s.path, s.metadata)
	mux.HandleFunc("GET "+s.path+"/.well-known/openid-configuration", s.metadata)
	mux.HandleFunc("POST "+s.path+"/token", s.throttled(ThrottleToken, s.token))
	mux.HandleFunc("POST "+s.path+"/introspect", s.throttled(ThrottleToken, s.introspect))
	mux.HandleFunc("POST "+s.path+"/revoke", s.throttled(ThrottleToken, s.revoke))
	if s.ids != nil {
		mux.HandleFunc("GET "+s.path+"/jwks", s.jwks)
		mux.HandleFunc("GET "+s.path+"/userinfo", s.throttled(ThrottleToken, s.userinfo))
		mux.HandleFunc("POST "+s.path+"/userinfo", s.throttled(ThrottleToken, s.userinfo))
	}
	if s.Registration {
		mux.HandleFunc("POST "+s.path+"/register", s.throttled(ThrottleRegister, s.register))
		mux.HandleFunc("GET "+s.path+"/register/{id}", s.throttled(ThrottleRegister, s.showRegistration))
		mux.HandleFunc("DELETE "+s.path+"/register/{id}", s.throttled(ThrottleRegister, s.deleteRegistration))
	}
	if s.Once != nil {
		mux.HandleFunc("POST "+s.path+"/par", s.throttled(ThrottleDevice, s.pushRequest))
	}
	if s.SignOut != nil && s.ids != nil {
		mux.HandleFunc("GET "+s.path+"/end_session", s.endSession)
		mux.HandleFunc("POST "+s.path+"/end_session", s.endSession)
		mux.Handle("POST "+s.path+"/end_session/confirm", s.ownForm(s.sessionEnded))
	}
	mux.HandleFunc("GET "+s.path+"/authorize", s.authorize)
	mux.HandleFunc("POST "+s.path+"/authorize", s.authorize)
	mux.Handle("POST "+s.path+"/consent", s.ownForm(s.consent))
	if !s.NoDevice {
		mux.HandleFunc("POST "+s.path+"/device_authorization", s.throttled(ThrottleDevice, s.deviceAuthorization))
		mux.HandleFunc("GET "+s.path+"/device", s.devicePage)
		mux.Handle("POST "+s.path+"/device", s.ownForm(s.deviceEntered))
		mux.Handle("POST "+s.path+"/device/decide", s.ownForm(s.deviceDecided))
		mux.HandleFunc("GET "+s.path+"/device/done", s.deviceDone)
	}
}

// ownForm lets only forms of our own pages through.
func (s *Server) ownForm(next http.HandlerFunc) http.Handler {
	return s.crossCheck.Handler(next)
}

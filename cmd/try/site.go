package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/memory"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

const (
	clientID       = "letterlock"
	resourceServer = "try-mail"
	personID       = "you"
)

// A site is the provider: the authorization server, a sign-in page in front of it,
// and a front page that leads to it.
type site struct {
	url      string
	secret   secret.String // of the mail servers, for introspection
	signin   *signin
	http     *http.Server
	listener net.Listener
	done     sync.WaitGroup

	leadOnce sync.Once
	ready    chan struct{} // closed when there is somewhere to lead to
	target   string
}

// startSite listens on the wanted port, or on a free one when that is busy.
func startSite(port int, log *slog.Logger) (*site, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("listen for the sign-in page: %w", err)
		}
	}
	s := &site{
		url: "http://" + listener.Addr().String(), secret: secret.New(rand.Text()), listener: listener,
		signin: newSignin(), ready: make(chan struct{}),
	}
	handler, err := s.handler(log)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s.http = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	s.done.Go(func() { _ = s.http.Serve(listener) })
	return s, nil
}

func (s *site) handler(log *slog.Logger) (http.Handler, error) {
	store := memory.New()
	store.PutPerson(identity.Person{ID: personID, Address: address, Name: "You"})
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	idKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make ID token key: %w", err)
	}
	server, err := authserver.New(authserver.Options{
		Issuer: s.url,
		Clients: []identity.Client{{
			ID: clientID, Name: "Letterlock", Verified: true,
			RedirectURIs: []string{"http://127.0.0.1", "http://127.0.0.1/", "http://[::1]/"},
			Grants:       []identity.GrantType{identity.AuthorizationCode, identity.RefreshGrant, identity.DeviceCode},
		}},
		ResourceServers: []identity.ResourceServer{{ID: resourceServer, Secret: identity.DigestOf(s.secret.Reveal())}},
		Codes:           store, Devices: store, Tokens: store, Grants: store, People: store, SignIn: s.signin,
		Key: key, IDKey: idKey, Registration: true, Now: time.Now, Random: rand.Reader, Log: log,
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.front)
	mux.HandleFunc("GET /signin", s.signin.page)
	mux.Handle("POST /signin", http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.signin.submit)))
	mux.Handle("/", server.Handler())
	return s.sameHost(web.Headers(mux)), nil
}

// sameHost answers to our own name only: a name that somebody else's DNS points at
// this loopback address (rebinding) must not get pages of ours.
func (s *site) sameHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if "http://"+r.Host != s.url {
			web.Fault(w, http.StatusMisdirectedRequest, "This page is at another address.", s.url)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// front leads to the address that letterlock printed.
func (s *site) front(w http.ResponseWriter, r *http.Request) {
	select {
	case <-s.ready:
		http.Redirect(w, r, s.target, http.StatusSeeOther)
	case <-r.Context().Done():
	}
}

// lead tells the front page where to.
func (s *site) lead(target string) {
	s.leadOnce.Do(func() {
		s.target = target
		close(s.ready)
	})
}

func (s *site) stop() {
	_ = s.http.Close()
	s.done.Wait()
}

func (s *site) introspectionURL() string { return s.url + "/introspect" }

// introspect asks, as the mail servers do, whose token it is and how long it lives.
func (s *site) introspect(ctx context.Context, token string) (left time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.introspectionURL(), strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(resourceServer, s.secret.Reveal())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("introspection: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Active   bool   `json:"active"`
		Username string `json:"username"`
		Expires  int64  `json:"exp"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 64<<10)).Decode(&answer); err != nil {
		return 0, fmt.Errorf("introspection: %w", err)
	}
	if !answer.Active || answer.Username != address {
		return 0, fmt.Errorf("the token is active: %v, of %q; want %s", answer.Active, answer.Username, address)
	}
	return time.Until(time.Unix(answer.Expires, 0)), nil
}

package mailauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// HTTPOptions are what the endpoints for Dovecot need.
type HTTPOptions struct {
	Door Door
	// Servers are the mail servers that may ask, each with its secret. Without that the
	// endpoints would be an oracle for guesses, and their headers anybody's lies.
	Servers []identity.ResourceServer
	// Audience is what a token is for here: the "aud" of an active answer.
	Audience string
	// Issuer is who issues tokens here: the "iss" of an active answer.
	Issuer string
	Log    *slog.Logger
	// Answer bounds how long a question may take; default 8 s.
	Answer time.Duration
}

// HTTP is the endpoints that Dovecot's oauth2 passdb asks. What Dovecot needs for it:
//
//	                     2.3 (run)                              2.4 (not run)
//	introspection_url    http://HOST/dovecot/introspect         same, with the caller as http://ID:SECRET@HOST/...
//	introspection_mode   post                                   post
//	grant_url            http://HOST/dovecot/password           same, with ID:SECRET@
//	use_grant_password   yes                                    no such setting: PLAIN always uses the grant
//	client_id, _secret   sent in the body                       not sent to introspection
//	send_auth_headers    yes: X-Dovecot-Auth-Service            yes: X-Dovecot-Auth-Protocol
//	active_attribute     active, and active_value true          no default: must be set
//	username_attribute   username                               username; compared exactly: format %Lu
//	scope                none: we look at the protocol            any one of a list
//	pass_attrs           user=%{oauth2:mailbox}                 fields { user = %{oauth2:mailbox} }
//
// In 2.3 before 2.3.21 an empty password ends the auth process before we are asked: a
// static passdb that returns failure for it has to stand before this one.
//
// The endpoints stand apart from the
// public OAuth endpoints because Dovecot reads answers in its own way: any error object
// or status is an outage to it, and a user name in an answer can be a yes whatever else
// the answer says.
type HTTP struct{ o HTTPOptions }

// NewHTTP returns the endpoints.
func NewHTTP(o HTTPOptions) *HTTP {
	if o.Answer == 0 {
		o.Answer = defaultAnswer
	}
	return &HTTP{o: o}
}

// Register puts the endpoints below prefix ("/dovecot"): introspect is Dovecot's
// introspection_url, password its grant_url.
func (h *HTTP) Register(mux *http.ServeMux, prefix string) {
	mux.HandleFunc("POST "+prefix+"/introspect", h.introspect)
	mux.HandleFunc("POST "+prefix+"/password", h.password)
}

const (
	maxForm  = 16384
	maxField = sasl.MaxMessage
)

// parseForm reads a form body in which each name comes once.
func parseForm(body string) (map[string]string, error) {
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, errBad // not err: it quotes what it read
	}
	form := make(map[string]string, len(values))
	for name, list := range values {
		if len(list) != 1 || len(list[0]) > maxField || !utf8.ValidString(list[0]) {
			return nil, errBad
		}
		form[name] = list[0]
	}
	return form, nil
}

// form reads the request, of a mail server that proved who it is.
func (h *HTTP) form(w http.ResponseWriter, r *http.Request) (map[string]string, bool) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		writeJSON(w, http.StatusBadRequest, failure{"invalid_request"})
		return nil, false
	}
	form, err := parseForm(string(body))
	if err != nil {
		writeJSON(w, http.StatusBadRequest, failure{"invalid_request"})
		return nil, false
	}
	if name, ok := caller(h.o.Servers, r, form["client_id"], form["client_secret"]); !ok {
		h.o.Log.Warn("mail server not known", "path", r.URL.Path, "from", r.RemoteAddr, "name", name)
		w.Header().Set("WWW-Authenticate", `Basic realm="letterlock mail servers"`)
		writeJSON(w, http.StatusUnauthorized, failure{"invalid_client"})
		return nil, false
	}
	return form, true
}

// caller finds the mail server that asks: by HTTP Basic, or by id and secret in the
// body. Debian's Dovecot sends Basic and an empty pair in the body beside it, which is
// no second method.
func caller(servers []identity.ResourceServer, r *http.Request, id, password string) (string, bool) {
	if user, pass, basic := r.BasicAuth(); basic {
		if password != "" {
			return user, false // two methods at once (RFC 6749 section 2.3)
		}
		id, password = user, pass
	}
	if password == "" || len(password) > 1024 {
		return id, false
	}
	given := identity.DigestOf(password)
	for _, server := range servers {
		if server.ID == id {
			return id, server.Secret.Equal(given)
		}
	}
	return id, false
}

// presented is the request as the Door wants it. Protocol and address are what the mail
// server's headers say (send_auth_headers = yes); it has proved who it is by now. TLS is
// its own matter: Dovecot does not ask about what disable_plaintext_auth stopped.
func presented(r *http.Request) (credential.Presented, bool) {
	service := r.Header.Get("X-Dovecot-Auth-Service") // 2.3
	if service == "" {
		service = r.Header.Get("X-Dovecot-Auth-Protocol") // 2.4
	}
	protocol, ok := protocolOf(service)
	return credential.Presented{Protocol: protocol, Remote: remote(r.Header.Get("X-Dovecot-Auth-Remote")), Secured: true}, ok
}

// remote reads an address with or without a port; zero when it is neither.
func remote(text string) netip.Addr {
	if pair, err := netip.ParseAddrPort(text); err == nil {
		return pair.Addr().Unmap().WithZone("")
	}
	if addr := parseAddr(strings.Trim(text, "[]")); addr.IsValid() {
		return addr
	}
	// Dovecot does not put an IPv6 address into brackets.
	if cut := strings.LastIndexByte(text, ':'); cut > 0 {
		return parseAddr(text[:cut])
	}
	return netip.Addr{}
}

// active is a yes to a token, in the forms that Dovecot 2.3 and 2.4 both read: aud one
// string, the name lower case, the type Bearer.
type active struct {
	Active    bool   `json:"active"`
	Username  string `json:"username"`
	Subject   string `json:"sub"`
	Scope     string `json:"scope"`
	Audience  string `json:"aud,omitempty"`
	Issuer    string `json:"iss,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	Expires   int64  `json:"exp,omitempty"`
	Issued    int64  `json:"iat,omitempty"`
	TokenType string `json:"token_type"`
}

// inactive is every no to a token: bare, because a name in it can be taken for a yes.
type inactive struct {
	Active bool `json:"active"`
}

type failure struct {
	Error string `json:"error"`
}

// introspect is RFC 7662 as Dovecot uses it.
func (h *HTTP) introspect(w http.ResponseWriter, r *http.Request) {
	form, ok := h.form(w, r)
	if !ok {
		return
	}
	ask, ok := presented(r)
	if !ok {
		h.noProtocol(w, r)
		return
	}
	ask.Secret, ask.Mechanism = secret.New(form["token"]), sasl.OAuthBearer
	if sasl.CheckToken(ask.Secret) != nil {
		writeJSON(w, http.StatusOK, inactive{})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.o.Answer)
	defer cancel()
	verdict, err := h.o.Door.Token(ctx, ask)
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, h.active(verdict))
	case h.refused(ask, err):
		writeJSON(w, http.StatusOK, inactive{})
	default:
		h.later(w, r, ask, err)
	}
}

func (h *HTTP) active(v credential.Verdict) active {
	a := active{
		Active: true, Username: strings.ToLower(v.Login), Subject: string(v.Person.ID),
		Scope: strings.Join(v.Scopes, " "), Audience: h.o.Audience, TokenType: "Bearer",
	}
	if v.Grant != nil {
		a.ClientID, a.Issuer = string(v.Grant.Client), h.o.Issuer
		if v.Issuer != "" {
			a.Issuer = v.Issuer
		}
	}
	if !v.Expires.IsZero() {
		a.Expires = v.Expires.Unix()
	}
	if !v.Issued.IsZero() {
		a.Issued = v.Issued.Unix()
	}
	return a
}

// granted is a yes to a password: the answer of a token endpoint and of introspection in
// one, so that Dovecot need not ask twice. Mailbox is whose mail that is, when
// somebody signed in by an alias: "pass_attrs = user=%{oauth2:mailbox}" goes there.
type granted struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	Active      bool   `json:"active"`
	Username    string `json:"username"`
	Mailbox     string `json:"mailbox"`
	Scope       string `json:"scope"`
}

// denied is a no to a password. RFC 6749's invalid_grant is a no to Dovecot 2.3 only; 2.4
// takes any error for an outage. This is a no to both: they compare the name first, and
// this one is never the one they asked about, so that it stays a no where the setting
// active_attribute is missing, which would make a yes of the name alone.
type denied struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	Active      bool   `json:"active"`
	Username    string `json:"username"`
}

// password is the password grant, which is how Dovecot's oauth2 passdb asks about PLAIN
// and LOGIN. It is no part of our OAuth server: only known mail servers reach it, and no
// token comes of it.
func (h *HTTP) password(w http.ResponseWriter, r *http.Request) {
	form, ok := h.form(w, r)
	if !ok {
		return
	}
	ask, ok := presented(r)
	switch {
	case !ok:
		h.noProtocol(w, r)
		return
	case form["grant_type"] != "password":
		writeJSON(w, http.StatusBadRequest, failure{"unsupported_grant_type"})
		return
	}
	asked := form["username"]
	ask.User, ask.Secret, ask.Mechanism = asked, secret.New(form["password"]), sasl.Plain
	no := denied{AccessToken: "none", TokenType: "Bearer", Username: "!" + asked}
	if asked == "" || form["password"] == "" || sasl.CheckUser(asked) != nil {
		writeJSON(w, http.StatusOK, no)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.o.Answer)
	defer cancel()
	verdict, err := h.o.Door.Password(ctx, ask)
	if err == nil && ask.Protocol == identity.SMTP && heldByMilter(verdict.Credential) {
		err = &credential.Refused{Reason: "its limits are kept only where Postfix asks letterlockd itself", Person: verdict.Person.ID, Proven: true}
	}
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, granted{
			AccessToken: "none", TokenType: "Bearer", Active: true,
			// The name that was asked about: Dovecot compares it with its own.
			Username: strings.ToLower(asked), Mailbox: strings.ToLower(verdict.MailUser(ask.Protocol)), Scope: strings.Join(verdict.Scopes, " "),
		})
	case h.refused(ask, err):
		writeJSON(w, http.StatusOK, no)
	default:
		h.later(w, r, ask, err)
	}
}

// heldByMilter reports whether an app password has limits that Dovecot cannot keep, and
// neither can a Postfix that asks Dovecot: there may be no milter of ours behind it. What
// limits senders goes by its own name, which the sender map knows.
func heldByMilter(c *identity.Credential) bool {
	return c != nil && (len(c.Recipients) > 0 || c.PerHour > 0)
}

// refused reports whether the error is the Door's no, and logs that.
func (h *HTTP) refused(ask credential.Presented, err error) bool {
	refused, ok := errors.AsType[*credential.Refused](err)
	if ok {
		h.o.Log.Info("sign-in refused", "service", ask.Protocol, "remote", ask.Remote, "user", shown(ask.User), "reason", refused.Reason)
	}
	return ok
}

// later is what every fault of ours is answered with, and who comes too often: no user, no token, status 503.
func (h *HTTP) later(w http.ResponseWriter, r *http.Request, ask credential.Presented, err error) {
	if errors.Is(err, ErrTooMany) {
		h.o.Log.Info("sign-in put off", "service", ask.Protocol, "remote", ask.Remote, "user", shown(ask.User), "reason", err)
		writeJSON(w, http.StatusServiceUnavailable, failure{"temporarily_unavailable"})
		return
	}
	h.o.Log.Error("nobody could judge a sign-in", "path", r.URL.Path, "error", err)
	writeJSON(w, http.StatusServiceUnavailable, failure{"temporarily_unavailable"})
}

func (h *HTTP) noProtocol(w http.ResponseWriter, r *http.Request) {
	h.o.Log.Error("mail server does not say which protocol", "path", r.URL.Path, "from", r.RemoteAddr,
		"hint", "set send_auth_headers = yes in Dovecot's oauth2 configuration")
	writeJSON(w, http.StatusServiceUnavailable, failure{"temporarily_unavailable"})
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	text, err := json.Marshal(answer)
	if err != nil { // not with strings, booleans and numbers
		status, text = http.StatusServiceUnavailable, []byte(`{"error":"temporarily_unavailable"}`)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // who does not listen needs no answer
}

package authserver

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const (
	dynamicPrefix   = "llc_"
	maxRegistration = 16 << 10
	maxRedirects    = 5
	maxClientID     = 2 << 10
)

// registration is the client metadata of RFC 7591 section 2 that means something
// here. Logos and pages are neither kept nor fetched; keys are kept where the client proves
// itself by them, and never fetched.
type registration struct {
	RedirectURIs  []string `json:"redirect_uris,omitempty"`
	AuthMethod    string   `json:"token_endpoint_auth_method"`
	GrantTypes    []string `json:"grant_types"`
	ResponseTypes []string `json:"response_types"`
	Name          string   `json:"client_name,omitempty"`

	Keys       json.RawMessage `json:"jwks,omitempty"`
	KeysURI    string          `json:"jwks_uri,omitempty"` // refused
	SigningAlg string          `json:"token_endpoint_auth_signing_alg,omitempty"`
}

type registered struct {
	ClientID string `json:"client_id"`
	IssuedAt int64  `json:"client_id_issued_at"`
	// RFC 7592: where and by what the client can look at its registration or end it.
	Token string `json:"registration_access_token"`
	URI   string `json:"registration_client_uri"`
	registration
}

// sealedClient is what a client id holds. The id is the registration, signed: a flood
// of them fills no table, and each instance knows them all.
type sealedClient struct {
	Redirects []string `json:"r,omitempty"`
	Grants    []string `json:"g"`
	Name      string   `json:"n,omitempty"`
	Issued    int64    `json:"t"`

	Keys json.RawMessage `json:"k,omitempty"`
}

// register is RFC 7591 without an initial access token, for native clients: public ones, and
// those that make a key of their own where they are installed.
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	wish, fault := readRegistration(w, r)
	if fault == nil {
		fault = checkRegistration(&wish)
	}
	if fault == nil && wish.AuthMethod == KeyAuth && s.Once == nil {
		fault = badMetadata("want token_endpoint_auth_method none")
	}
	if fault != nil {
		writeError(w, fault)
		return
	}
	now := s.Now().Unix()
	id, err := s.sealClientID(sealedClient{wish.RedirectURIs, wish.GrantTypes, wish.Name, now, wish.Keys})
	if err != nil || len(id) > maxClientID {
		writeError(w, badMetadata("the registration is too long"))
		return
	}
	s.Log.Info("client registered", "name", wish.Name, "redirects", wish.RedirectURIs, "from", s.remote(r))
	writeJSON(w, http.StatusCreated, s.registered(id, now, wish))
}

func (s *Server) registered(id string, issued int64, wish registration) registered {
	return registered{id, issued, s.registrationToken(id), s.Issuer + "/register/" + id, wish}
}

// registrationToken is the registration access token of a client id. Like the id it is
// kept nowhere: whoever has the key can make it again.
func (s *Server) registrationToken(id string) string {
	mac := hmac.New(sha256.New, s.clientKey)
	mac.Write([]byte("registration access token\n" + id))
	return "llrg_" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// ownRegistration finds the client that a request of RFC 7592 is about. A token that does
// not fit and a registration that has ended are told alike (section 3).
func (s *Server) ownRegistration(w http.ResponseWriter, r *http.Request) (identity.Client, bool) {
	id := r.PathValue("id")
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	fits := strings.EqualFold(scheme, "Bearer") && hmac.Equal([]byte(strings.TrimSpace(token)), []byte(s.registrationToken(id)))
	client, err := s.registeredClient(r.Context(), id)
	switch {
	case err != nil && !errors.Is(err, identity.ErrNotFound):
		s.Log.Error("find registration", "error", err)
		writeError(w, serverError())
		return client, false
	case !fits || err != nil:
		w.Header().Set("WWW-Authenticate", `Bearer realm="letterlock", error="invalid_token"`)
		writeError(w, &oauthError{Status: http.StatusUnauthorized, Code: "invalid_token"})
		return client, false
	}
	return client, true
}

// showRegistration is RFC 7592 section 2.1.
func (s *Server) showRegistration(w http.ResponseWriter, r *http.Request) {
	client, ok := s.ownRegistration(w, r)
	if !ok {
		return
	}
	wish := registration{RedirectURIs: client.RedirectURIs, AuthMethod: "none", ResponseTypes: []string{"code"}, Name: client.Name}
	if client.Keys != "" {
		wish.AuthMethod, wish.Keys = KeyAuth, json.RawMessage(client.Keys)
	}
	for _, grant := range client.Grants {
		wish.GrantTypes = append(wish.GrantTypes, string(grant))
	}
	writeJSON(w, http.StatusOK, s.registered(string(client.ID), client.Created.Unix(), wish))
}

// deleteRegistration is RFC 7592 section 2.3. The id is a registration that cannot be
// unmade, since it is kept nowhere; that it has ended is kept, and what people allowed the
// program ends with it. How many can be ended is bounded by the throttle.
func (s *Server) deleteRegistration(w http.ResponseWriter, r *http.Request) {
	if s.ClientStore == nil {
		w.Header().Set("Allow", "GET")
		writeError(w, &oauthError{http.StatusMethodNotAllowed, "unsupported", "registrations end by themselves here"})
		return
	}
	client, ok := s.ownRegistration(w, r)
	if !ok {
		return
	}
	var grants []identity.Grant
	err := s.together(r.Context(), func(ctx context.Context) (err error) {
		if grants, err = s.ClientStore.ClientGrants(ctx, client.ID); err != nil {
			return err
		}
		if err := s.ClientStore.EndRegistration(ctx, client.ID, s.Now()); err != nil {
			return err
		}
		for _, grant := range grants {
			if err := s.noteEnd(ctx, grant.Person, client.Name, "the program deleted its registration"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.Log.Error("end registration", "error", err)
		writeError(w, serverError())
		return
	}
	s.Log.Info("registration ended", "name", client.Name, "grants", len(grants), "from", s.remote(r))
	w.WriteHeader(http.StatusNoContent)
}

func readRegistration(w http.ResponseWriter, r *http.Request) (registration, *oauthError) {
	var wish registration
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return wish, badMetadata("want application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRegistration))
	if err != nil {
		return wish, badMetadata("the body cannot be read or is too long")
	}
	if err := json.Unmarshal(body, &wish); err != nil {
		return wish, badMetadata("not the JSON of RFC 7591")
	}
	return wish, nil
}

// checkRegistration holds a wish to what is given here, and fills in what RFC 7591
// section 2 says about absent members.
func checkRegistration(wish *registration) *oauthError {
	if wish.AuthMethod == "" {
		// The default would be client_secret_basic; a server may settle on less
		// (section 2) and says so in the answer.
		wish.AuthMethod = "none"
	}
	if len(wish.GrantTypes) == 0 {
		wish.GrantTypes = []string{string(identity.AuthorizationCode)}
	}
	if len(wish.ResponseTypes) == 0 {
		wish.ResponseTypes = []string{"code"}
	}
	known := []string{string(identity.AuthorizationCode), string(identity.RefreshGrant), string(identity.DeviceCode)}
	for _, grant := range wish.GrantTypes {
		if !slices.Contains(known, grant) {
			return badMetadata("a grant type that is not given here")
		}
	}
	switch {
	case wish.AuthMethod != "none" && wish.AuthMethod != KeyAuth:
		return badMetadata("want token_endpoint_auth_method none or " + KeyAuth)
	case len(wish.ResponseTypes) != 1 || wish.ResponseTypes[0] != "code":
		return badMetadata("want response_types [code]")
	case len(wish.Name) > 100 || !plainText(wish.Name, 100) || strings.ContainsFunc(wish.Name, deceptive):
		return badMetadata("the name is too long or not plain text")
	}
	if fault := checkRegisteredKeys(wish); fault != nil {
		return fault
	}
	return checkRegisteredRedirects(wish)
}

// checkRegisteredKeys keeps what is needed of a client's keys. An address of keys is not
// taken: to fetch it would let anybody send this server where they please.
func checkRegisteredKeys(wish *registration) *oauthError {
	if wish.AuthMethod != KeyAuth {
		wish.Keys, wish.KeysURI, wish.SigningAlg = nil, "", "" // for something that is not done here
		return nil
	}
	if wish.KeysURI != "" {
		return badMetadata("jwks_uri is not fetched here: send the keys as jwks")
	}
	keys, err := keySet(wish.Keys)
	if err == nil && wish.SigningAlg != "" {
		keys, err = onlyBy(keys, wish.SigningAlg)
	}
	if err != nil {
		return badMetadata("jwks: " + err.Error())
	}
	wish.Keys = json.RawMessage(keys)
	return nil
}

func checkRegisteredRedirects(wish *registration) *oauthError {
	needed := slices.Contains(wish.GrantTypes, string(identity.AuthorizationCode))
	if needed == (len(wish.RedirectURIs) == 0) || len(wish.RedirectURIs) > maxRedirects {
		return badRedirect("want one to five redirect URIs for authorization codes, and none without")
	}
	for _, uri := range wish.RedirectURIs {
		if err := checkRedirectURI(uri); err != nil {
			return badRedirect(err.Error())
		}
	}
	return nil
}

// deceptive are marks that change how the rest of a name reads on a page.
func deceptive(r rune) bool {
	return r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f || r == 0xfeff
}

func (s *Server) sealClientID(client sealedClient) (string, error) {
	body, err := json.Marshal(client)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(body)
	return dynamicPrefix + text + "." + base64.RawURLEncoding.EncodeToString(s.clientMAC(text)), nil
}

// openClientID reads back what sealClientID signed.
func (s *Server) openClientID(id string) (identity.Client, bool) {
	text, ok := strings.CutPrefix(id, dynamicPrefix)
	if !ok || len(id) > maxClientID {
		return identity.Client{}, false
	}
	text, sum, ok := strings.Cut(text, ".")
	// Strict, because lax decoding would give one client many ids.
	mac, err := base64.RawURLEncoding.Strict().DecodeString(sum)
	if !ok || err != nil || !hmac.Equal(mac, s.clientMAC(text)) {
		return identity.Client{}, false
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(text)
	var sealed sealedClient
	if err != nil || json.Unmarshal(body, &sealed) != nil {
		return identity.Client{}, false
	}
	client := identity.Client{ID: identity.ClientID(id), Name: sealed.Name, RedirectURIs: sealed.Redirects, Created: time.Unix(sealed.Issued, 0), Keys: string(sealed.Keys)}
	if client.Name == "" {
		client.Name = "A program without a name"
	}
	for _, grant := range sealed.Grants {
		client.Grants = append(client.Grants, identity.GrantType(grant))
	}
	return client, true
}

func (s *Server) clientMAC(text string) []byte {
	mac := hmac.New(sha256.New, s.clientKey)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func badMetadata(description string) *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_client_metadata", description}
}

func badRedirect(description string) *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_redirect_uri", description}
}

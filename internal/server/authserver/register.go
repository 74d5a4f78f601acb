package authserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const (
	dynamicPrefix   = "llc_"
	maxRegistration = 16 << 10
	maxRedirects    = 5
	maxClientID     = 2 << 10
)

// registration is the client metadata of RFC 7591 section 2 that means something
// here. Logos, pages and keys are neither kept nor fetched.
type registration struct {
	RedirectURIs  []string `json:"redirect_uris,omitempty"`
	AuthMethod    string   `json:"token_endpoint_auth_method"`
	GrantTypes    []string `json:"grant_types"`
	ResponseTypes []string `json:"response_types"`
	Name          string   `json:"client_name,omitempty"`
}

type registered struct {
	ClientID string `json:"client_id"`
	IssuedAt int64  `json:"client_id_issued_at"`
	registration
}

// sealedClient is what a client id holds. The id is the registration, signed: a flood
// of them fills no table, and each instance knows them all.
type sealedClient struct {
	Redirects []string `json:"r,omitempty"`
	Grants    []string `json:"g"`
	Name      string   `json:"n,omitempty"`
	Issued    int64    `json:"t"`
}

// register is RFC 7591 without an initial access token, for public native clients.
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	wish, fault := readRegistration(w, r)
	if fault == nil {
		fault = checkRegistration(&wish)
	}
	if fault != nil {
		writeError(w, fault)
		return
	}
	now := s.Now().Unix()
	id, err := s.sealClientID(sealedClient{wish.RedirectURIs, wish.GrantTypes, wish.Name, now})
	if err != nil || len(id) > maxClientID {
		writeError(w, badMetadata("the registration is too long"))
		return
	}
	s.Log.Info("client registered", "name", wish.Name, "redirects", wish.RedirectURIs, "from", remoteHost(r))
	writeJSON(w, http.StatusCreated, registered{id, now, wish})
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
	case wish.AuthMethod != "none":
		return badMetadata("want token_endpoint_auth_method none")
	case len(wish.ResponseTypes) != 1 || wish.ResponseTypes[0] != "code":
		return badMetadata("want response_types [code]")
	case len(wish.Name) > 100 || !plainText(wish.Name, 100) || strings.ContainsFunc(wish.Name, deceptive):
		return badMetadata("the name is too long or not plain text")
	}
	return checkRegisteredRedirects(wish)
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
	client := identity.Client{ID: identity.ClientID(id), Name: sealed.Name, RedirectURIs: sealed.Redirects}
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

package authserver

import (
	"net/http"
	"slices"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// metadata is RFC 8414, and the same under OpenID Connect's name, because many mail
// clients look only there. It lists what is there and nothing else.
type metadata struct {
	Issuer                string   `json:"issuer"`
	Authorization         string   `json:"authorization_endpoint"`
	Token                 string   `json:"token_endpoint"`
	DeviceAuthorization   string   `json:"device_authorization_endpoint,omitempty"`
	Introspection         string   `json:"introspection_endpoint"`
	Revocation            string   `json:"revocation_endpoint"`
	Registration          string   `json:"registration_endpoint,omitempty"`
	PushedRequests        string   `json:"pushed_authorization_request_endpoint,omitempty"`
	UserInfo              string   `json:"userinfo_endpoint,omitempty"`
	EndSession            string   `json:"end_session_endpoint,omitempty"`
	JWKS                  string   `json:"jwks_uri,omitempty"`
	SubjectTypes          []string `json:"subject_types_supported,omitempty"`
	IDTokenAlgorithms     []string `json:"id_token_signing_alg_values_supported,omitempty"`
	Claims                []string `json:"claims_supported,omitempty"`
	ScopesSupported       []string `json:"scopes_supported"`
	ResponseTypes         []string `json:"response_types_supported"`
	ResponseModes         []string `json:"response_modes_supported"`
	GrantTypes            []string `json:"grant_types_supported"`
	TokenAuthMethods      []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgorithms   []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	RevocationAuthMethods []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAlgorithms  []string `json:"revocation_endpoint_auth_signing_alg_values_supported,omitempty"`
	IntrospectionMethods  []string `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectionAlgs     []string `json:"introspection_endpoint_auth_signing_alg_values_supported,omitempty"`
	ChallengeMethods      []string `json:"code_challenge_methods_supported"`
	IssParameter          bool     `json:"authorization_response_iss_parameter_supported"`
	// OpenID Connect's default for the next but one is true.
	Request    bool `json:"request_parameter_supported"`
	RequestURI bool `json:"request_uri_parameter_supported"`
	Claim      bool `json:"claims_parameter_supported"`
}

func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) {
	registration := ""
	if s.Registration {
		registration = s.Issuer + "/register"
	}
	// Public and the same for all: may be kept for a while, unlike all else here.
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Del("Pragma")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	all := metadata{
		Issuer:                s.Issuer,
		Authorization:         s.Issuer + "/authorize",
		Token:                 s.Issuer + "/token",
		DeviceAuthorization:   s.Issuer + "/device_authorization",
		Introspection:         s.Issuer + "/introspect",
		Revocation:            s.Issuer + "/revoke",
		Registration:          registration,
		ScopesSupported:       s.knownScopes(),
		ResponseTypes:         []string{"code"},
		ResponseModes:         []string{"query"},
		GrantTypes:            []string{"authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code", "client_credentials"},
		TokenAuthMethods:      []string{"none", "client_secret_basic", "client_secret_post"},
		RevocationAuthMethods: []string{"none", "client_secret_basic", "client_secret_post"},
		IntrospectionMethods:  []string{"client_secret_basic", "client_secret_post"},
		ChallengeMethods:      []string{"S256"},
		IssParameter:          true,
	}
	if s.ids != nil {
		all.JWKS, all.SubjectTypes, all.IDTokenAlgorithms = s.Issuer+"/jwks", []string{"public"}, []string{"ES256"}
		all.Claims = []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "email", "email_verified", "name", "preferred_username"}
	}
	if s.NoDevice {
		all.DeviceAuthorization = ""
		all.GrantTypes = slices.DeleteFunc(all.GrantTypes, func(grant string) bool { return grant == string(identity.DeviceCode) })
	}
	if s.ids != nil {
		all.UserInfo = s.Issuer + "/userinfo"
		if s.SignOut != nil {
			all.EndSession = s.Issuer + "/end_session"
		}
	}
	if s.Once != nil {
		all.PushedRequests = s.Issuer + "/par"
		for _, methods := range []*[]string{&all.TokenAuthMethods, &all.RevocationAuthMethods, &all.IntrospectionMethods} {
			*methods = append(*methods, KeyAuth)
		}
		names := assertionAlgorithmNames()
		all.TokenAuthAlgorithms, all.RevocationAlgorithms, all.IntrospectionAlgs = names, names, names
	}
	writeJSON(w, http.StatusOK, all)
}

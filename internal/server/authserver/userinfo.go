package authserver

import (
	"net/http"
	"slices"
	"strings"
)

// userInfo is OpenID Connect Core section 5.3.
type userInfo struct {
	Subject       string `json:"sub"`
	Email         string `json:"email,omitempty"`
	EmailVerified bool   `json:"email_verified,omitempty"`
	Name          string `json:"name,omitempty"`
	Username      string `json:"preferred_username,omitempty"`
}

// userinfo tells a program who the person behind its token is. It is no proof to anybody
// else: whoever holds a token could show it. The token comes in the header or in a form,
// never in a query, which would end up in logs (RFC 9700 section 4.3.2).
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	text, ok := presentedBearer(w, r)
	if !ok {
		// Without a token no error is named (RFC 6750 section 3.1).
		w.Header().Set("WWW-Authenticate", `Bearer realm="letterlock"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	tokenDigest, ok := digest(text, accessPrefix)
	reason := "unknown"
	var found bearer
	if ok {
		var err error
		if found, reason, err = s.bearer(r, tokenDigest); err != nil {
			s.Log.Error("userinfo", "error", err)
			writeError(w, serverError())
			return
		}
	}
	if reason != "" {
		s.count(r, ThrottleToken)
		s.Log.Info("userinfo refused", "reason", reason)
		refuseBearer(w, http.StatusUnauthorized, "invalid_token")
		return
	}
	if !slices.Contains(found.token.Scopes, ScopeOpenID) {
		refuseBearer(w, http.StatusForbidden, "insufficient_scope")
		return
	}
	info := userInfo{Subject: string(found.person.ID)}
	if slices.Contains(found.token.Scopes, ScopeEmail) {
		info.Email, info.EmailVerified = strings.ToLower(found.person.Address), true
	}
	if slices.Contains(found.token.Scopes, ScopeProfile) {
		info.Name, info.Username = found.person.Name, strings.ToLower(found.person.Address)
	}
	writeJSON(w, http.StatusOK, info)
}

// presentedBearer reads the token of RFC 6750 sections 2.1 and 2.2.
func presentedBearer(w http.ResponseWriter, r *http.Request) (string, bool) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, text, _ := strings.Cut(header, " ")
		return strings.TrimSpace(text), strings.EqualFold(scheme, "Bearer")
	}
	if r.Method != http.MethodPost {
		return "", false
	}
	in, fault := form(w, r)
	return in["access_token"], fault == nil && in["access_token"] != ""
}

func refuseBearer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="letterlock", error="`+code+`", scope="openid"`)
	writeError(w, &oauthError{Status: status, Code: code})
}

package fakegithub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// api answers below /api/v3.
func (s *Server) api(w http.ResponseWriter, r *http.Request, path string) {
	version := r.Header.Get("X-GitHub-Api-Version")
	switch {
	case r.UserAgent() == "" || strings.HasPrefix(r.UserAgent(), "Go-http-client"):
		s.fired["user-agent"]++
		http.Error(w, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.", http.StatusForbidden)
		return
	case version != "" && version != "2022-11-28":
		s.refuse(w, "api-version", http.StatusBadRequest, "API version not supported")
		return
	case s.limited(w):
		return
	case strings.HasPrefix(path, "/applications/"):
		s.end(w, r, path)
		return
	case s.asApp(w, r, path):
		return
	}
	kind, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	t := s.tokens[text]
	if t == nil || !strings.EqualFold(kind, "bearer") && !strings.EqualFold(kind, "token") {
		s.refuse(w, "credentials", http.StatusUnauthorized, "Bad credentials")
		return
	}
	w.Header().Set("X-OAuth-Scopes", strings.Join(t.scopes, ", "))
	switch {
	case path == "/user":
		s.json(w, http.StatusOK, map[string]any{"id": t.person.ID, "login": t.person.Login, "name": t.person.Name, "email": "public@elsewhere.test", "type": "User"})
	case path == "/user/emails":
		s.emails(w, r, t)
	case path == "/user/memberships/orgs":
		s.orgs(w, r, t)
	case strings.HasPrefix(path, "/organizations/"):
		s.team(w, t, path)
	default:
		s.refuse(w, "unknown-path", http.StatusNotFound, "Not Found")
	}
}

// limited plays the limits and faults of the whole API.
func (s *Server) limited(w http.ResponseWriter) bool {
	switch s.Limit {
	case "primary":
		w.Header().Set("X-RateLimit-Remaining", "0")
		w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(s.clock().Add(20*time.Minute).Unix(), 10))
		s.refuse(w, "primary-limit", http.StatusForbidden, "API rate limit exceeded for user ID 1.")
	case "secondary":
		w.Header().Set("Retry-After", "60")
		s.refuse(w, "secondary-limit", http.StatusForbidden, "You have exceeded a secondary rate limit.")
	case "down":
		http.Error(w, "Unicorn!", http.StatusBadGateway)
	case "garbage":
		fmt.Fprint(w, "<!DOCTYPE html><title>maintenance</title>")
	case "huge":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":1,"login":"%s"}`, strings.Repeat("a", 2<<20))
	default:
		return false
	}
	return true
}

func (t *token) has(scopes ...string) bool {
	return slices.ContainsFunc(scopes, func(scope string) bool { return slices.Contains(t.scopes, scope) })
}

func (s *Server) emails(w http.ResponseWriter, r *http.Request, t *token) {
	if !t.has("user:email", "user") {
		s.refuse(w, "scope", http.StatusNotFound, "Not Found")
		return
	}
	all := make([]any, len(t.person.Emails))
	for i, e := range t.person.Emails {
		all[i] = e
	}
	s.slice(w, r, all)
}

func (s *Server) orgs(w http.ResponseWriter, r *http.Request, t *token) {
	filter := r.URL.Query().Get("state")
	switch {
	case !t.has("read:org", "write:org", "admin:org"):
		s.refuse(w, "scope", http.StatusForbidden, "You need at least read:org scope to list your organizations.")
		return
	case filter != "" && filter != "active" && filter != "pending":
		s.refuse(w, "state-filter", http.StatusUnprocessableEntity, "Validation Failed")
		return
	}
	var all []any
	for _, m := range t.person.Orgs {
		if s.Restricted[m.ID] {
			s.fired["restricted-org"]++
			continue
		}
		if filter == "" || filter == m.State {
			all = append(all, map[string]any{"state": m.State, "role": "member", "organization": map[string]any{"id": m.ID, "login": fmt.Sprintf("org-%d", m.ID)}})
		}
	}
	s.slice(w, r, all)
}

// team answers /organizations/ORG/team/TEAM/memberships/LOGIN.
func (s *Server) team(w http.ResponseWriter, t *token, path string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) != 6 || parts[2] != "team" || parts[4] != "memberships" {
		s.refuse(w, "unknown-path", http.StatusNotFound, "Not Found")
		return
	}
	org, _ := strconv.ParseInt(parts[1], 10, 64)
	team, _ := strconv.ParseInt(parts[3], 10, 64)
	if !t.has("read:org", "write:org", "admin:org") {
		s.refuse(w, "scope", http.StatusForbidden, "Must have read:org scope.")
		return
	}
	if s.Restricted[org] {
		s.refuse(w, "restricted-org", http.StatusForbidden, "Although you appear to have the correct authorization credentials, the organization has enabled OAuth App access restrictions.")
		return
	}
	for _, m := range t.person.Teams {
		if m.ID == team && m.Org == org && strings.EqualFold(parts[5], t.person.Login) {
			s.json(w, http.StatusOK, map[string]string{"state": m.State, "role": "member"})
			return
		}
	}
	s.refuse(w, "not-a-member", http.StatusNotFound, "Not Found")
}

// end answers DELETE /applications/CLIENT/token.
func (s *Server) end(w http.ResponseWriter, r *http.Request, path string) {
	id, secret, _ := r.BasicAuth()
	if r.Method != http.MethodDelete || path != "/applications/"+s.ClientID+"/token" || id != s.ClientID || secret != s.Secret {
		s.refuse(w, "delete-credentials", http.StatusNotFound, "Not Found")
		return
	}
	var body struct {
		Token string `json:"access_token"`
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	if s.tokens[body.Token] == nil {
		s.refuse(w, "delete-token", http.StatusUnprocessableEntity, "Validation Failed")
		return
	}
	delete(s.tokens, body.Token)
	w.WriteHeader(http.StatusNoContent)
}

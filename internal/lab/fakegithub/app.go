package fakegithub

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// An App is a GitHub App ("REST API: GitHub Apps, organization members, team members,
// users"; "Authenticating as a GitHub App", "… as a GitHub App installation").
type App struct {
	ID            string // number or client id: what stands in iss
	Key           *rsa.PublicKey
	Installations []*Installation
}

// An Installation is an app at an organisation.
type Installation struct {
	ID, Org   int64
	Members   string // permission: "read", "write" or ""
	Suspended bool
}

// An Org is an organisation; its name changes, its number does not.
type Org struct {
	ID    int64
	Login string
}

// appToken is an installation's.
type appToken struct {
	installation *Installation
	members      bool
	expires      time.Time
}

// AppRefusals names the refusals of an app's calls.
func (s *Server) AppRefusals() []string {
	return []string{"jwt", "jwt-issuer", "jwt-expiry", "jwt-issued", "app-path", "installation-unknown", "installation-suspended", "permission-exceeds",
		"token-expired", "org-unknown", "team-unknown", "account-unknown", "membership-unknown", "org-hidden"}
}

// asApp answers calls of the app and of its installations; false: it is neither.
func (s *Server) asApp(w http.ResponseWriter, r *http.Request, path string) bool {
	_, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case s.App == nil:
		return false
	case path == "/app/installations" || strings.HasPrefix(path, "/app/"):
		if s.proved(w, text) {
			s.appCall(w, r, path)
		}
		return true
	case !strings.HasPrefix(text, "ghs_"):
		return false
	}
	t := s.appTokens[text]
	switch {
	case t == nil:
		s.refuse(w, "credentials", http.StatusUnauthorized, "Bad credentials")
	case !s.clock().Before(t.expires):
		s.refuse(w, "token-expired", http.StatusUnauthorized, "Bad credentials")
	case t.installation.Suspended:
		s.refuse(w, "installation-suspended", http.StatusForbidden, "This installation has been suspended")
	case !s.installed(t.installation):
		s.refuse(w, "credentials", http.StatusUnauthorized, "Bad credentials")
	default:
		s.installationCall(w, r, t, path)
	}
	return true
}

func (s *Server) installed(i *Installation) bool {
	for _, one := range s.App.Installations {
		if one == i {
			return true
		}
	}
	return false
}

// proved checks the app's own token: RS256, by the app, ten minutes at most.
func (s *Server) proved(w http.ResponseWriter, text string) bool {
	var claims struct {
		Iss json.RawMessage `json:"iss"`
		Iat int64           `json:"iat"`
		Exp int64           `json:"exp"`
	}
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.RS256})
	var payload []byte
	if err == nil {
		payload, err = signed.Verify(s.App.Key)
	}
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	now := s.clock().Unix()
	switch {
	case err != nil:
		s.refuse(w, "jwt", http.StatusUnauthorized, "A JSON web token could not be decoded")
	case strings.Trim(string(claims.Iss), `"`) != s.App.ID:
		s.refuse(w, "jwt-issuer", http.StatusNotFound, "Integration not found")
	case claims.Exp > now+600 || claims.Exp <= now:
		s.refuse(w, "jwt-expiry", http.StatusUnauthorized, "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires")
	case claims.Iat > now:
		s.refuse(w, "jwt-issued", http.StatusUnauthorized, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
	default:
		return true
	}
	return false
}

func (s *Server) appCall(w http.ResponseWriter, r *http.Request, path string) {
	if path == "/app/installations" && r.Method == http.MethodGet {
		var all []any
		for _, i := range s.App.Installations {
			permissions := map[string]string{"metadata": "read"}
			if i.Members != "" {
				permissions["members"] = i.Members
			}
			one := map[string]any{"id": i.ID, "account": map[string]any{"id": i.Org, "login": s.loginOf(i.Org), "type": "Organization"},
				"target_type": "Organization", "permissions": permissions, "suspended_at": nil}
			if i.Suspended {
				one["suspended_at"] = s.clock().UTC().Format(time.RFC3339)
			}
			all = append(all, one)
		}
		s.slice(w, r, all)
		return
	}
	id, ok := strings.CutSuffix(strings.TrimPrefix(path, "/app/installations/"), "/access_tokens")
	if !ok || r.Method != http.MethodPost {
		s.refuse(w, "app-path", http.StatusNotFound, "Not Found")
		return
	}
	for _, i := range s.App.Installations {
		if strconv.FormatInt(i.ID, 10) == id {
			s.appToken(w, r, i)
			return
		}
	}
	s.refuse(w, "installation-unknown", http.StatusNotFound, "Not Found")
}

func (s *Server) appToken(w http.ResponseWriter, r *http.Request, i *Installation) {
	var wanted struct {
		Permissions map[string]string `json:"permissions"`
	}
	_ = json.NewDecoder(r.Body).Decode(&wanted)
	members := i.Members != ""
	if wanted.Permissions != nil {
		want, asked := wanted.Permissions["members"]
		if asked && (i.Members == "" || want == "write" && i.Members != "write") {
			s.refuse(w, "permission-exceeds", http.StatusUnprocessableEntity, "The permissions requested are not granted to this installation.")
			return
		}
		members = asked
	}
	if i.Suspended {
		s.refuse(w, "installation-suspended", http.StatusForbidden, "This installation has been suspended")
		return
	}
	text := random("ghs_")
	t := &appToken{installation: i, members: members, expires: s.clock().Add(time.Hour)}
	s.appTokens[text] = t
	permissions := map[string]string{"metadata": "read"}
	if members {
		permissions["members"] = "read"
	}
	s.json(w, http.StatusCreated, map[string]any{"token": text, "expires_at": t.expires.UTC().Format(time.RFC3339), "permissions": permissions, "repository_selection": "all"})
}

func (s *Server) loginOf(org int64) string {
	for _, o := range s.Organizations {
		if o.ID == org {
			return o.Login
		}
	}
	return ""
}

// installationCall answers what an installation may read.
func (s *Server) installationCall(w http.ResponseWriter, r *http.Request, t *appToken, path string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) == 2 && parts[0] == "user":
		s.account(w, parts[1])
	case len(parts) >= 3 && parts[0] == "orgs":
		if !strings.EqualFold(parts[1], s.loginOf(t.installation.Org)) { // the old name of a renamed one too
			s.refuse(w, "org-unknown", http.StatusNotFound, "Not Found")
			return
		}
		s.group(w, r, t, parts[2:], func(p *Person) (Membership, bool) { return find(p.Orgs, t.installation.Org, 0) })
	case len(parts) >= 5 && parts[0] == "organizations" && parts[2] == "team":
		team, _ := strconv.ParseInt(parts[3], 10, 64)
		if parts[1] != strconv.FormatInt(t.installation.Org, 10) || !t.members || s.Deleted[team] {
			s.refuse(w, "team-unknown", http.StatusNotFound, "Not Found")
			return
		}
		s.group(w, r, t, parts[4:], func(p *Person) (Membership, bool) { return find(p.Teams, team, t.installation.Org) })
	default:
		s.refuse(w, "unknown-path", http.StatusNotFound, "Not Found")
	}
}

func find(all []Membership, id, org int64) (Membership, bool) {
	for _, m := range all {
		if m.ID == id && (org == 0 || m.Org == org) {
			return m, true
		}
	}
	return Membership{}, false
}

// account answers GET /user/ACCOUNT_ID.
func (s *Server) account(w http.ResponseWriter, id string) {
	for _, p := range s.Accounts {
		if strconv.FormatInt(p.ID, 10) == id {
			s.json(w, http.StatusOK, map[string]any{"id": p.ID, "login": p.Login, "type": "User"})
			return
		}
	}
	s.refuse(w, "account-unknown", http.StatusNotFound, "Not Found")
}

// group answers …/members and …/memberships/LOGIN.
func (s *Server) group(w http.ResponseWriter, r *http.Request, t *appToken, rest []string, in func(*Person) (Membership, bool)) {
	switch {
	case len(rest) == 1 && rest[0] == "members":
		var all []any
		for _, p := range s.Accounts {
			m, is := in(p)
			if !is || m.State != "active" || m.Unlisted {
				continue
			}
			if !t.members && !m.Public {
				s.fired["org-hidden"]++
				continue
			}
			all = append(all, map[string]any{"id": p.ID, "login": p.Login, "type": "User"})
		}
		s.slice(w, r, all)
	case len(rest) == 2 && rest[0] == "memberships":
		if !t.members {
			s.refuse(w, "scope", http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		for _, p := range s.Accounts {
			if m, is := in(p); is && strings.EqualFold(p.Login, rest[1]) && !m.Hidden {
				s.json(w, http.StatusOK, map[string]any{"state": m.State, "role": "member", "url": fmt.Sprintf("https://github.invalid%s", r.URL.Path)})
				return
			}
		}
		s.refuse(w, "membership-unknown", http.StatusNotFound, "Not Found")
	default:
		s.refuse(w, "unknown-path", http.StatusNotFound, "Not Found")
	}
}

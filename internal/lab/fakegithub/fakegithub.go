// Package fakegithub plays a GitHub server for tests, strictly: the OAuth web flow and the
// few calls of the REST API that sign-in needs, written from GitHub's documentation
// ("Authorizing OAuth apps", "Troubleshooting", "REST API: users, emails, organization
// members, team members, apps/oauth-applications, rate limits"). What the documentation
// says is refused is refused here, with its status, code and wording; each refusal has a
// name and is counted, for one that no test has made fire is worth nothing.
//
// The person at the browser is a record: the authorization page answers at once as if that
// person had clicked. Paths of the API stand below /api/v3, as on a server of one's own.
package fakegithub

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Person has an account.
type Person struct {
	ID          int64
	Login, Name string
	Emails      []Email
	Orgs        []Membership
	Teams       []Membership // ID is the team's, Org its organisation's
	Deny        bool         // refuses at the authorization page
	Untick      []string     // scopes the person does not give
}

// An Email is one address of a person.
type Email struct {
	Email    string `json:"email"`
	Primary  bool   `json:"primary"`
	Verified bool   `json:"verified"`
}

// A Membership is "active" or "pending". Public ones show to everybody.
type Membership struct {
	ID, Org int64
	State   string
	Public  bool
	// Faults: Unlisted leaves the member out of lists, Hidden answers 404 about them.
	Unlisted, Hidden bool
}

// A Server plays one GitHub with one OAuth app.
type Server struct {
	ClientID, Secret, Callback string
	// Restricted organisations have not allowed the app.
	Restricted map[int64]bool
	// Limit makes the API refuse: "primary", "secondary", "down", "garbage", "huge"; ""
	// lets it answer.
	Limit string
	// Suspended: GitHub has suspended the app.
	Suspended bool

	// App is a GitHub App beside the OAuth app; Accounts and Organizations are what its
	// installations see. Deleted teams are gone.
	App           *App
	Accounts      []*Person
	Organizations []*Org
	Deleted       map[int64]bool

	clock  func() time.Time
	mu     sync.Mutex
	person *Person // who sits at the browser
	codes  map[string]*code
	tokens map[string]*token
	// appTokens are those of installations.
	appTokens map[string]*appToken
	fired     map[string]int
	asked     []string
}

type code struct {
	person              *Person
	redirect, challenge string
	scopes              []string
	at                  time.Time
	used                bool
}

type token struct {
	person *Person
	scopes []string
}

// New makes a server with the app named.
func New(clock func() time.Time, clientID, secret, callback string) *Server {
	return &Server{ClientID: clientID, Secret: secret, Callback: callback, clock: clock, Restricted: map[int64]bool{},
		codes: map[string]*code{}, tokens: map[string]*token{}, appTokens: map[string]*appToken{}, Deleted: map[int64]bool{}, fired: map[string]int{}}
}

// Sit puts a person at the browser.
func (s *Server) Sit(p *Person) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.person = p
}

// With changes the server while nothing is answered.
func (s *Server) With(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// Fired counts the refusals by name.
func (s *Server) Fired() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for name, n := range s.fired {
		out[name] = n
	}
	return out
}

// Asked lists the requests, method and path.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Tokens counts those that are still good.
func (s *Server) Tokens() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tokens)
}

// Refusals names all there are.
func (s *Server) Refusals() []string {
	return []string{
		"repeated-parameter", "unknown-client", "suspended", "redirect-mismatch", "challenge-method", "challenge-length", "denied",
		"method", "client-credentials", "code-unknown", "code-used", "code-expired", "code-redirect", "verifier",
		"user-agent", "credentials", "api-version", "scope", "per-page", "page", "state-filter", "restricted-org", "not-a-member", "primary-limit", "secondary-limit",
		"delete-credentials", "delete-token", "unknown-path",
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	switch {
	case r.URL.Path == "/login/oauth/authorize":
		s.authorize(w, r)
	case r.URL.Path == "/login/oauth/access_token":
		s.exchange(w, r)
	case strings.HasPrefix(r.URL.Path, "/api/v3/"):
		s.api(w, r, strings.TrimPrefix(r.URL.Path, "/api/v3"))
	default:
		s.fired["unknown-path"]++
		http.NotFound(w, r)
	}
}

func (s *Server) page(w http.ResponseWriter, refusal string, status int) {
	s.fired[refusal]++
	http.Error(w, refusal, status)
}

func repeated(v url.Values) bool {
	for _, list := range v {
		if len(list) > 1 {
			return true
		}
	}
	return false
}

// authorize is the page where the person decides.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect := q.Get("redirect_uri")
	if redirect == "" {
		redirect = s.Callback
	}
	method, challenge := q.Get("code_challenge_method"), q.Get("code_challenge")
	switch {
	case repeated(q):
		s.page(w, "repeated-parameter", http.StatusBadRequest)
	case q.Get("client_id") != s.ClientID:
		s.page(w, "unknown-client", http.StatusNotFound)
	case s.Suspended:
		s.back(w, r, "suspended", s.Callback, url.Values{"error": {"application_suspended"}, "state": q["state"]})
	case !s.fits(redirect):
		s.back(w, r, "redirect-mismatch", s.Callback, url.Values{"error": {"redirect_uri_mismatch"}, "state": q["state"]})
	case challenge != "" && method != "S256":
		s.page(w, "challenge-method", http.StatusBadRequest)
	case challenge != "" && len(challenge) != 43:
		s.page(w, "challenge-length", http.StatusBadRequest)
	case s.person == nil || s.person.Deny:
		s.back(w, r, "denied", redirect, url.Values{"error": {"access_denied"}, "error_description": {"The user has denied your application access."}, "state": q["state"]})
	default:
		text := random("")
		s.codes[text] = &code{person: s.person, redirect: redirect, challenge: challenge, at: s.clock(),
			scopes: s.given(q.Get("scope"))}
		s.back(w, r, "", redirect, url.Values{"code": {text}, "state": q["state"]})
	}
}

// given is what the person lets the app have, in GitHub's order, user:email not named
// beside user.
func (s *Server) given(asked string) []string {
	var scopes []string
	for _, scope := range strings.FieldsFunc(asked, func(r rune) bool { return r == ' ' || r == ',' }) {
		if !slices.Contains(s.person.Untick, scope) {
			scopes = append(scopes, scope)
		}
	}
	if slices.Contains(scopes, "user") {
		scopes = slices.DeleteFunc(scopes, func(x string) bool { return x == "user:email" || x == "read:user" })
	}
	slices.Sort(scopes)
	return scopes
}

// fits: same host and port, and a path at or below the registered one.
func (s *Server) fits(redirect string) bool {
	asked, err := url.Parse(redirect)
	registered, err2 := url.Parse(s.Callback)
	if err != nil || err2 != nil {
		return false
	}
	return asked.Scheme == registered.Scheme && asked.Host == registered.Host &&
		(asked.Path == registered.Path || strings.HasPrefix(asked.Path, strings.TrimSuffix(registered.Path, "/")+"/"))
}

func (s *Server) back(w http.ResponseWriter, r *http.Request, refusal, to string, q url.Values) {
	if refusal != "" {
		s.fired[refusal]++
	}
	if q.Get("state") == "" {
		q.Del("state")
	}
	http.Redirect(w, r, to+"?"+q.Encode(), http.StatusFound)
}

func random(prefix string) string {
	raw := make([]byte, 20)
	_, _ = rand.Read(raw)
	return prefix + hex.EncodeToString(raw)
}

// exchange answers with 200 whatever happens, form-encoded unless JSON is accepted.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		s.page(w, "method", http.StatusNotFound)
		return
	}
	_ = r.ParseForm()
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if name, password, ok := r.BasicAuth(); ok {
		id, secret = name, password
	}
	c := s.codes[r.PostForm.Get("code")]
	switch {
	case id != s.ClientID || secret != s.Secret:
		s.no(w, r, "client-credentials", "incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.")
	case c == nil:
		s.no(w, r, "code-unknown", "bad_verification_code", "The code passed is incorrect or expired.")
	case c.used:
		s.no(w, r, "code-used", "bad_verification_code", "The code passed is incorrect or expired.")
	case s.clock().Sub(c.at) > 10*time.Minute:
		s.no(w, r, "code-expired", "bad_verification_code", "The code passed is incorrect or expired.")
	case r.PostForm.Get("redirect_uri") != "" && r.PostForm.Get("redirect_uri") != c.redirect:
		s.no(w, r, "code-redirect", "redirect_uri_mismatch", "The redirect_uri MUST match the registered callback URL for this application.")
	case c.challenge != "" && challengeOf(r.PostForm.Get("code_verifier")) != c.challenge:
		s.no(w, r, "verifier", "bad_verification_code", "The code passed is incorrect or expired.")
	default:
		c.used = true
		text := random("gho_")
		s.tokens[text] = &token{person: c.person, scopes: c.scopes}
		s.say(w, r, url.Values{"access_token": {text}, "scope": {strings.Join(c.scopes, ",")}, "token_type": {"bearer"}})
	}
}

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *Server) no(w http.ResponseWriter, r *http.Request, refusal, word, text string) {
	s.fired[refusal]++
	s.say(w, r, url.Values{"error": {word}, "error_description": {text}, "error_uri": {"https://docs.github.com/"}})
}

func (s *Server) say(w http.ResponseWriter, r *http.Request, v url.Values) {
	if !strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		fmt.Fprint(w, v.Encode())
		return
	}
	flat := map[string]string{}
	for name := range v {
		flat[name] = v.Get(name)
	}
	s.json(w, http.StatusOK, flat)
}

func (s *Server) json(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (s *Server) refuse(w http.ResponseWriter, refusal string, status int, message string) {
	s.fired[refusal]++
	s.json(w, status, map[string]string{"message": message, "documentation_url": "https://docs.github.com/rest"})
}

func (s *Server) slice(w http.ResponseWriter, r *http.Request, all []any) {
	size, page := 30, 1
	for name, to := range map[string]*int{"per_page": &size, "page": &page} {
		if text := r.URL.Query().Get(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				s.refuse(w, strings.ReplaceAll(name, "_", "-"), http.StatusUnprocessableEntity, name+" is not a number")
				return
			}
			*to = n
		}
	}
	size = min(size, 100)
	from, to := min((page-1)*size, len(all)), min(page*size, len(all))
	if to < len(all) {
		w.Header().Set("Link", fmt.Sprintf(`<https://github.invalid%s?per_page=%d&page=%d>; rel="next", <https://github.invalid%s?page=99>; rel="last"`, r.URL.Path, size, page+1, r.URL.Path))
	}
	s.json(w, http.StatusOK, append([]any{}, all[from:to]...))
}

package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/github"
)

// GitHubOptions are one OAuth app, or GitHub App, at github.com or a server of one's own.
type GitHubOptions struct {
	Label    string // in texts for people
	URL      string // https://github.com
	API      string // empty: https://api.github.com, and URL/api/v3 elsewhere
	ClientID string
	Secret   secret.String
	// Organization and Team are numbers: names are given to others once they are free.
	// Zero: none is asked for.
	Organization, Team int
	// Emails: verified addresses are wanted, for a first sign-in.
	Emails bool

	HTTP *http.Client // of oauth.NewHTTPClient
	Now  func() time.Time
}

// GitHub is GitHub as a Provider. It speaks OAuth and nothing of OpenID Connect: no ID
// token, no issuer in its answers. Who somebody is says its API, to a token that is given
// back when all is known.
type GitHub struct {
	o   GitHubOptions
	api *github.Client
}

// NewGitHub fills in what follows from the rest.
func NewGitHub(o GitHubOptions) *GitHub {
	o.URL, o.API = github.Addresses(o.URL, o.API)
	if o.Label == "" {
		o.Label = "GitHub"
	}
	return &GitHub{o: o, api: &github.Client{API: o.API, HTTP: o.HTTP, Now: o.Now, Limit: maxAnswer, Pages: maxPages}}
}

func (g *GitHub) conn() *oauth.Conn {
	return &oauth.Conn{
		HTTP: g.o.HTTP, Now: g.o.Now,
		Endpoints: oauth.Endpoints{Authorization: g.o.URL + "/login/oauth/authorize", Token: g.o.URL + "/login/oauth/access_token"},
		Client:    oauth.Client{ID: g.o.ClientID, Secret: g.o.Secret, Auth: oauth.AuthPost},
	}
}

// scopes are always named: without any GitHub silently gives those of an earlier grant.
func (g *GitHub) scopes() []string {
	scopes := []string{"read:user"}
	if g.o.Emails {
		scopes = append(scopes, "user:email")
	}
	if g.o.Organization != 0 {
		scopes = append(scopes, "read:org")
	}
	return scopes
}

// Begin implements Provider.
func (g *GitHub) Begin(_ context.Context, f Flow) (string, error) {
	extra := url.Values{"allow_signup": {"false"}}
	if f.Afresh {
		// It asks for no new proof on wish, but stops at its choice of accounts instead of
		// letting whoever sits there in by itself. Servers that do not know it pass it over.
		extra.Set("prompt", "select_account")
	}
	return g.conn().AuthCodeURL(oauth.AuthRequest{
		RedirectURI: f.RedirectURI, State: f.State, Verifier: secret.New(f.Verifier), Scopes: g.scopes(),
		Extra: extra,
	})
}

// Finish implements Provider.
func (g *GitHub) Finish(ctx context.Context, f Flow, query string) (Account, error) {
	conn := g.conn()
	answer, err := oauth.ParseCallback(query)
	if err != nil {
		return Account{}, mistaken(err.Error())
	}
	if err := conn.CheckCallback(answer, f.State); err != nil {
		return Account{}, mistaken(err.Error())
	}
	if answer.Iss != "" && answer.Iss != g.o.URL && answer.Iss != g.o.URL+"/login/oauth" {
		// GitHub names no issuer so far; an answer that names another is not GitHub's.
		return Account{}, mistaken("an answer of the issuer " + plain(answer.Iss))
	}
	if answer.Err != nil {
		return Account{}, answer.Err
	}
	token, err := conn.ExchangeCode(ctx, answer.Code, f.RedirectURI, secret.New(f.Verifier), nil)
	if err != nil {
		return Account{}, err
	}
	account, err := g.who(ctx, token)
	// What was learned is all that was wanted; GitHub would keep the token for good.
	g.giveBack(ctx, token.Access)
	return account, err
}

func (g *GitHub) who(ctx context.Context, token oauth.Token) (Account, error) {
	if err := g.granted(token); err != nil {
		return Account{}, err
	}
	var user struct {
		ID    int64  `json:"id"`
		Login string `json:"login"`
		Name  string `json:"name"`
	}
	if err := g.get(ctx, token.Access, "/user", &user); err != nil {
		return Account{}, err
	}
	if user.ID <= 0 || user.Login == "" {
		return Account{}, errors.New("an account without a number")
	}
	account := Account{Issuer: g.o.URL, Subject: strconv.FormatInt(user.ID, 10), Shown: plain(user.Login), Name: plain(user.Name), How: "github"}
	if err := g.member(ctx, token.Access, user.Login); err != nil {
		return Account{}, err
	}
	if g.o.Emails {
		var err error
		if account.Emails, err = g.emails(ctx, token.Access); err != nil {
			return Account{}, err
		}
	}
	return account, nil
}

// granted compares what was given with what was asked for: a person can untick a scope.
// Tokens of GitHub Apps have rights instead of scopes.
func (g *GitHub) granted(token oauth.Token) error {
	if strings.HasPrefix(token.Access.Reveal(), "ghu_") {
		return nil
	}
	var have []string
	for _, words := range token.Scopes { // "read:org,user:email"
		have = append(have, strings.Split(words, ",")...)
	}
	for _, want := range g.scopes() {
		if !slices.ContainsFunc(have, func(s string) bool { return covers(strings.TrimSpace(s), want) }) {
			return &Refused{Reason: "scope", Detail: want, What: g.o.Label + " did not let us see what decides whether you may come in (" + want + ").", Hint: "Begin again and leave all that is ticked as it is."}
		}
	}
	return nil
}

// covers knows the scopes that include others.
func covers(have, want string) bool {
	switch want {
	case "read:org":
		return have == want || have == "write:org" || have == "admin:org"
	case "user:email", "read:user":
		return have == want || have == "user"
	}
	return have == want
}

type membership struct {
	State        string `json:"state"`
	Organization struct {
		ID int64 `json:"id"`
	} `json:"organization"`
}

// member holds the account to organisation and team. Only "active" is membership: anybody
// can be "pending" who was invited.
func (g *GitHub) member(ctx context.Context, token secret.String, login string) error {
	if g.o.Organization == 0 {
		return nil
	}
	state, err := g.organization(ctx, token)
	if err != nil {
		return err
	}
	if state == "active" && g.o.Team != 0 {
		if state, err = g.team(ctx, token, login); err != nil {
			return err
		}
	}
	switch state {
	case "active":
		return nil
	case "pending":
		return &Refused{Reason: "pending", Detail: login, What: "You were invited to the organisation or team at " + g.o.Label + ", and have not accepted yet.", Hint: "Accept the invitation there, then begin again."}
	}
	return &Refused{Reason: "not-a-member", Detail: login, What: g.o.Label + " does not say that you belong to those who have a mailbox here.", Hint: "If you do: the organisation may have to allow this application (" + g.o.Label + ": Settings, Applications, Organization access), then begin again."}
}

func (g *GitHub) organization(ctx context.Context, token secret.String) (string, error) {
	var state string
	err := github.List(ctx, g.api, github.Bearer(token), "/user/memberships/orgs", func(page []membership) bool {
		for _, m := range page {
			if m.Organization.ID == int64(g.o.Organization) {
				state = m.State
			}
		}
		return state == ""
	})
	err = g.away(err)
	var denied *github.Denied
	if errors.As(err, &denied) {
		return "", nil // the organisation hides itself from applications it has not allowed
	}
	return state, err
}

func (g *GitHub) team(ctx context.Context, token secret.String, login string) (string, error) {
	var m membership
	err := g.get(ctx, token, fmt.Sprintf("/organizations/%d/team/%d/memberships/%s", g.o.Organization, g.o.Team, url.PathEscape(login)), &m)
	var denied *github.Denied
	if errors.As(err, &denied) {
		return "", nil
	}
	return m.State, err
}

// emails are the verified addresses, the primary one first.
func (g *GitHub) emails(ctx context.Context, token secret.String) ([]string, error) {
	var primary, others []string
	err := github.List(ctx, g.api, github.Bearer(token), "/user/emails", func(page []email) bool {
		for _, e := range page {
			switch {
			case !e.Verified:
			case e.Primary:
				primary = append(primary, e.Email)
			default:
				others = append(others, e.Email)
			}
		}
		return true
	})
	return append(primary, others...), g.away(err)
}

type email struct {
	Email    string `json:"email"`
	Verified bool   `json:"verified"`
	Primary  bool   `json:"primary"`
}

const (
	maxAnswer = 1 << 20 // a hundred memberships are about 200 KB
	maxPages  = 20
)

// get asks the API about the owner of token.
func (g *GitHub) get(ctx context.Context, token secret.String, place string, into any) error {
	_, err := g.api.Call(ctx, http.MethodGet, place, github.Bearer(token), nil, into)
	return g.away(err)
}

// away keeps a definite no apart from all that says nothing about the person.
func (g *GitHub) away(err error) error {
	var denied *github.Denied
	var limited *github.Limited
	switch {
	case err == nil, errors.As(err, &denied):
		return err
	case errors.As(err, &limited):
		return &Away{Who: g.o.Label, After: limited.After, Err: err}
	}
	return &Away{Who: g.o.Label, Err: err}
}

// giveBack ends the token. It is tried once: a token that stays has no more rights than
// to read what was read, and no right in the mail.
func (g *GitHub) giveBack(ctx context.Context, token secret.String) {
	body, err := json.Marshal(map[string]string{"access_token": token.Reveal()})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, _ = g.api.Call(ctx, http.MethodDelete, "/applications/"+url.PathEscape(g.o.ClientID)+"/token", github.Basic(g.o.ClientID, g.o.Secret), body, nil)
}

// plain makes short text of what somebody chose as their name.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if runes := []rune(text); len(runes) > 100 {
		text = string(runes[:100])
	}
	return strings.TrimSpace(text)
}

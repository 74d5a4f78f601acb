package membership

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/github"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// GitHubOptions are a GitHub App that an organisation has installed, with the permission
// to read its members.
type GitHubOptions struct {
	URL   string // https://github.com
	API   string // empty: https://api.github.com, and URL/api/v3 elsewhere
	AppID string // number or client id
	Key   *rsa.PrivateKey
	// Organization and Team are numbers: names are changed, and given to others. Team 0:
	// the organisation is enough.
	Organization, Team int

	HTTP *http.Client // of oauth.NewHTTPClient
	Now  func() time.Time
}

// GitHub asks GitHub as an app. The app proves itself by a token it signs, finds its
// installation at the organisation by number, and gets a token for an hour that reads
// members and nothing else.
type GitHub struct {
	o   GitHubOptions
	api *github.Client
}

// NewGitHub fills in what follows from the rest.
func NewGitHub(o GitHubOptions) *GitHub {
	o.URL, o.API = github.Addresses(o.URL, o.API)
	return &GitHub{o: o, api: &github.Client{API: o.API, HTTP: o.HTTP, Now: o.Now, Limit: maxAnswer, Pages: maxPages}}
}

// ParseKey reads the private key of an app as GitHub gives it out.
func ParseKey(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("read key of GitHub App: no PEM block")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("read key of GitHub App: no RSA private key")
		}
		var ok bool
		if key, ok = any.(*rsa.PrivateKey); !ok {
			return nil, errors.New("read key of GitHub App: not an RSA key")
		}
	}
	if key.N.BitLen() < 2048 {
		return nil, errors.New("read key of GitHub App: fewer than 2048 bits")
	}
	return key, nil
}

// Ask implements Asker. Who is on the list of members is one; of everybody else GitHub is
// asked by number and then by name, because a list may be short for many reasons. Last it
// must still know a member of the list for one: else nothing of all this counts.
func (g *GitHub) Ask(ctx context.Context, accounts []identity.Binding) (map[string]Answer, error) {
	v, err := g.visit(ctx)
	if err != nil {
		return nil, err
	}
	members, err := v.members(ctx)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, errors.New("GitHub shows no member at all")
	}
	answers, control, gone := map[string]Answer{}, "", 0
	for _, login := range members {
		control = login
		break
	}
	asked := 0
	for _, b := range accounts {
		if login, there := members[b.Subject]; there {
			answers[b.Subject] = Answer{State: Member}
			control = login
			continue
		}
		if asked++; asked > maxAsked {
			continue // Unknown, until the next look
		}
		answer, err := v.really(ctx, b.Subject)
		if err != nil {
			return nil, err
		}
		if answer.State == Gone {
			gone++
		}
		answers[b.Subject] = answer
	}
	if gone > 0 {
		if state, err := v.membership(ctx, control); err != nil || state != "active" {
			return nil, fmt.Errorf("control: GitHub does not know the member %s any more (%q): %w", control, state, errors.Join(errControl, err))
		}
	}
	return answers, nil
}

var errControl = errors.New("its answers do not count")

// maxAsked bounds the questions about single accounts of one look, at two calls each.
const maxAsked = 1000

// A visit is an hour's token for the organisation.
type visit struct {
	g     *GitHub
	token secret.String
	login string // what the organisation is called today
}

// installation is one of an app's (REST API "List installations for the authenticated app").
type installation struct {
	ID      int64 `json:"id"`
	Account struct {
		ID    int64  `json:"id"`
		Login string `json:"login"`
	} `json:"account"`
	Permissions struct {
		Members string `json:"members"`
	} `json:"permissions"`
	SuspendedAt *string `json:"suspended_at"`
}

func (g *GitHub) visit(ctx context.Context) (*visit, error) {
	proof, err := g.proof()
	if err != nil {
		return nil, err
	}
	var found *installation
	err = told(github.List(ctx, g.api, github.Bearer(proof), "/app/installations", func(page []installation) bool {
		for i := range page {
			if page[i].Account.ID == int64(g.o.Organization) {
				found = &page[i]
			}
		}
		return found == nil
	}))
	switch {
	case err != nil:
		return nil, fmt.Errorf("find the app's installation: %w", err)
	case found == nil:
		return nil, errors.New("the organisation has not installed the app, or does not any more")
	case found.SuspendedAt != nil:
		return nil, errors.New("the app's installation is suspended")
	case found.Permissions.Members != "read" && found.Permissions.Members != "write":
		// Without it GitHub lists those members only who show themselves to everybody.
		return nil, errors.New("the app may not read members: give it the organisation permission Members, read-only")
	}
	var answer struct {
		Token       string `json:"token"`
		Permissions struct {
			Members string `json:"members"`
		} `json:"permissions"`
	}
	place := fmt.Sprintf("/app/installations/%d/access_tokens", found.ID)
	if err := g.call(ctx, http.MethodPost, place, proof, []byte(`{"permissions":{"members":"read"}}`), &answer); err != nil {
		return nil, fmt.Errorf("get a token for the installation: %w", err)
	}
	if answer.Token == "" || answer.Permissions.Members == "" {
		return nil, errors.New("get a token for the installation: none that reads members")
	}
	return &visit{g: g, token: secret.New(answer.Token), login: found.Account.Login}, nil
}

// proof is the token by which an app proves itself ("Generating a JSON Web Token (JWT) for a
// GitHub App"): RS256, ten minutes at most, begun a minute ago for clocks that differ.
func (g *GitHub) proof() (secret.String, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: g.o.Key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return secret.String{}, fmt.Errorf("prove the app: %w", err)
	}
	now := g.o.Now()
	claims, err := json.Marshal(map[string]any{"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(8 * time.Minute).Unix(), "iss": g.o.AppID})
	if err != nil {
		return secret.String{}, err
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return secret.String{}, fmt.Errorf("prove the app: %w", err)
	}
	text, err := signed.CompactSerialize()
	return secret.New(text), err
}

type user struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

// members lists number and name of all members.
func (v *visit) members(ctx context.Context) (map[string]string, error) {
	place := "/orgs/" + url.PathEscape(v.login) + "/members"
	if v.g.o.Team != 0 {
		place = fmt.Sprintf("/organizations/%d/team/%d/members", v.g.o.Organization, v.g.o.Team)
	}
	all := map[string]string{}
	err := told(github.List(ctx, v.g.api, github.Bearer(v.token), place, func(page []user) bool {
		for _, u := range page {
			all[strconv.FormatInt(u.ID, 10)] = u.Login
		}
		return true
	}))
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	return all, nil
}

// really asks about one account that is not on the list.
func (v *visit) really(ctx context.Context, subject string) (Answer, error) {
	if _, err := strconv.ParseUint(subject, 10, 63); err != nil {
		return Answer{}, nil // bound by hand to what is no number of GitHub's
	}
	var u user
	err := v.g.call(ctx, http.MethodGet, "/user/"+subject, v.token, nil, &u)
	var denied *github.Denied
	switch {
	case errors.As(err, &denied) && denied.Status == http.StatusNotFound:
		return Answer{Gone, "the account is not there any more"}, nil
	case err != nil:
		return Answer{}, fmt.Errorf("find account %s: %w", subject, err)
	case strconv.FormatInt(u.ID, 10) != subject || u.Login == "":
		return Answer{}, fmt.Errorf("find account %s: GitHub shows another", subject)
	}
	state, err := v.membership(ctx, u.Login)
	switch {
	case err != nil:
		return Answer{}, err
	case state == "active":
		return Answer{State: Member}, nil
	case state == "pending":
		return Answer{Gone, "invited, and has not accepted"}, nil
	case state == "":
		return Answer{Gone, "not in the " + v.what()}, nil
	}
	return Answer{}, nil // a state that this program does not know
}

func (v *visit) what() string {
	if v.g.o.Team != 0 {
		return "team"
	}
	return "organisation"
}

// membership is the state of somebody's, "" for none.
func (v *visit) membership(ctx context.Context, login string) (string, error) {
	place := "/orgs/" + url.PathEscape(v.login) + "/memberships/" + url.PathEscape(login)
	if v.g.o.Team != 0 {
		place = fmt.Sprintf("/organizations/%d/team/%d/memberships/%s", v.g.o.Organization, v.g.o.Team, url.PathEscape(login))
	}
	var m struct {
		State string `json:"state"`
	}
	err := v.g.call(ctx, http.MethodGet, place, v.token, nil, &m)
	var denied *github.Denied
	if errors.As(err, &denied) && denied.Status == http.StatusNotFound {
		return "", nil
	}
	if err == nil && m.State == "" {
		err = errors.New("a membership without a state")
	}
	if err != nil {
		return "", fmt.Errorf("membership of %s: %w", login, err)
	}
	return m.State, nil
}

const (
	maxPages  = 200
	maxAnswer = 2 << 20
)

// call asks the API.
func (g *GitHub) call(ctx context.Context, method, place string, token secret.String, body []byte, into any) error {
	_, err := g.api.Call(ctx, method, place, github.Bearer(token), body, into)
	return told(err)
}

// told says of an error what the watch has to do with it.
func told(err error) error {
	var limited *github.Limited
	var failed *github.Failed
	switch {
	case errors.As(err, &limited):
		return &Later{After: limited.After, Err: err}
	case errors.As(err, &failed) && failed.Status == http.StatusUnauthorized:
		return errors.New("GitHub does not take the app's proof (401): look at app_id, the key, and the clock")
	}
	return err
}

package signin

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

const (
	// flowLife is how long a person may take at the provider: GitHub's codes live as long.
	flowLife      = 10 * time.Minute
	browserCookie = "letterlock-signin"
	flowKind      = "signin.flow"
)

// A journey is what is kept while the browser is at the provider. It names neither the
// browser nor the provider: those are in its key, so that an answer for another browser,
// another provider or another state finds nothing, and spends nothing.
type journey struct {
	Back string `json:"back"`
}

func journeyKey(entrance, browser, state string) identity.Digest {
	return identity.DigestOf(strings.Join([]string{entrance, browser, state}, "\n"))
}

// flow derives verifier and nonce from the browser's own secret: the store has neither,
// and another browser cannot have them.
func (d *Desk) flow(entrance, browser, state string) Flow {
	derive := func(use string) string {
		mac := hmac.New(sha256.New, []byte(browser))
		mac.Write([]byte(use + "\n" + entrance + "\n" + state))
		return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	return Flow{
		RedirectURI: d.o.PublicURL + web.SignInPath + "/" + entrance + "/callback",
		State:       state, Verifier: derive("pkce"), Nonce: derive("nonce"),
	}
}

// begin sends the browser to the provider.
func (d *Desk) begin(w http.ResponseWriter, r *http.Request) {
	e, ok := d.entrance(r.PathValue("name"))
	if !ok {
		web.Fault(w, http.StatusNotFound, "There is no such way to sign in.", "Go to "+web.SignInPath+" to see which there are.")
		return
	}
	if d.o.Throttle.Ask(r.Context(), d.o.Sessions.Client(r)) {
		tooMany(w)
		return
	}
	target, err := d.depart(w, r, e)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

func (d *Desk) depart(w http.ResponseWriter, r *http.Request, e Entrance) (string, error) {
	back := r.URL.Query().Get("back")
	if !web.LocalPath(back) {
		back = "/"
	}
	browser, err := d.browser(w, r)
	if err != nil {
		return "", err
	}
	state, err := web.NewSecret(d.o.Random)
	if err != nil {
		return "", err
	}
	f := d.flow(e.Name, browser, state)
	f.Afresh = d.o.Sessions.Value(r, outCookie) != ""
	target, err := e.Provider.Begin(r.Context(), f)
	if err != nil {
		return "", judge(label(e), err)
	}
	data, err := json.Marshal(journey{Back: back})
	if err != nil {
		return "", fmt.Errorf("keep sign-in: %w", err)
	}
	if err := d.o.Store.PutOnce(r.Context(), journeyKey(e.Name, browser, state), flowKind, data, d.o.Now().Add(flowLife)); err != nil {
		return "", fmt.Errorf("keep sign-in: %w", err)
	}
	http.SetCookie(w, d.o.Sessions.Cookie(browserCookie, browser, flowLife+time.Minute))
	return target, nil
}

func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "60")
	web.Fault(w, http.StatusTooManyRequests, "Too many tries from your network.", "Wait some minutes and begin again.")
}

// callback is where the provider sends the browser back to: one path per provider, so that
// an answer of one is never taken for another's (mix-up; GitHub sends no iss).
func (d *Desk) callback(w http.ResponseWriter, r *http.Request) {
	e, ok := d.entrance(r.PathValue("name"))
	if !ok {
		web.Fault(w, http.StatusNotFound, "There is no such way to sign in.", "Go to "+web.SignInPath+" to see which there are.")
		return
	}
	if d.o.Throttle.Ask(r.Context(), d.o.Sessions.Client(r)) {
		tooMany(w)
		return
	}
	j, account, err := d.arrive(r, e)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	if err := d.receive(w, r, e, account, j.Back); err != nil {
		d.fail(w, r, err)
	}
}

// arrive finds the journey that the answer belongs to, ends it, and asks who came.
func (d *Desk) arrive(r *http.Request, e Entrance) (journey, Account, error) {
	var j journey
	if len(r.URL.RawQuery) > 16<<10 {
		return j, Account{}, mistaken("answer too long")
	}
	states := queryValues(r.URL.RawQuery, "state")
	browser := d.o.Sessions.Value(r, browserCookie)
	if len(states) != 1 || states[0] == "" || len(states[0]) > 100 || browser == "" {
		return j, Account{}, mistaken("no state, or no browser that began")
	}
	data, err := d.o.Store.TakeOnce(r.Context(), journeyKey(e.Name, browser, states[0]), flowKind, d.o.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return j, Account{}, mistaken("no such sign-in under way at " + e.Name + " in this browser")
	}
	if err != nil {
		return j, Account{}, fmt.Errorf("find sign-in: %w", err)
	}
	if err := json.Unmarshal(data, &j); err != nil {
		return j, Account{}, fmt.Errorf("find sign-in: %w", err)
	}
	account, err := e.Provider.Finish(r.Context(), d.flow(e.Name, browser, states[0]), r.URL.RawQuery)
	if err != nil {
		return j, Account{}, judge(label(e), err)
	}
	if account.Issuer == "" || account.Subject == "" {
		return j, Account{}, fmt.Errorf("entrance %s: an account without issuer or subject", e.Name)
	}
	return j, account, nil
}

// admit lets a person in whose account was proved, after a second factor where one is
// wanted.
func (d *Desk) admit(w http.ResponseWriter, r *http.Request, person identity.Person, account Account, back string) error {
	if !person.Disabled.IsZero() {
		return shutOut(person)
	}
	if account.Factor == "" {
		if stopped, err := d.second(w, r, person, account, back); stopped || err != nil {
			return err
		}
	}
	if _, err := d.start(w, r, person, account); err != nil {
		return err
	}
	d.enter(w, r, person, account, back)
	return nil
}

// start starts the session, in one transaction with its line of the audit trail and with what
// goes along. It is the only way in, and nobody comes in unseen.
func (d *Desk) start(w http.ResponseWriter, r *http.Request, person identity.Person, account Account, along ...web.Along) (identity.Session, error) {
	if !person.Disabled.IsZero() {
		return identity.Session{}, shutOut(person)
	}
	detail := account.How + " " + account.Shown
	if account.Factor != "" && string(account.Factor) != account.How {
		detail += ", " + string(account.Factor)
	}
	seen := func(ctx context.Context) error { return d.event(ctx, r, "signin.ok", person.ID, detail) }
	session, err := d.o.Sessions.Start(w, r, identity.Session{
		Person: person.ID, How: account.How, Upstream: account.Upstream, Factor: account.Factor, Admin: account.Factor.Admin(),
	}, append(along, seen)...)
	if errors.Is(err, identity.ErrRevoked) || errors.Is(err, identity.ErrNotFound) {
		return session, shutOut(person) // disabled or removed in this moment
	}
	return session, err
}

// enter lets somebody in whose session has started.
func (d *Desk) enter(w http.ResponseWriter, r *http.Request, person identity.Person, account Account, back string) {
	d.keep(r.Context(), account)
	http.SetCookie(w, d.o.Sessions.Cookie(browserCookie, "", -1))
	if d.o.Sessions.Value(r, outCookie) != "" {
		http.SetCookie(w, d.o.Sessions.Cookie(outCookie, "", -1))
	}
	d.o.Log.Info("signed in", "person", person.Address, "how", account.How, "remote", d.o.Sessions.Client(r))
	if !web.LocalPath(back) {
		back = "/"
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}

func shutOut(person identity.Person) *Refused {
	return &Refused{Reason: "disabled", Person: person.ID, Detail: person.Address, What: "This mailbox is not in use at present.", Hint: "Whoever looks after the mail here can say more."}
}

// queryValues reads one parameter, and nothing from a query that is none.
func queryValues(raw, name string) []string {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil
	}
	return values[name]
}

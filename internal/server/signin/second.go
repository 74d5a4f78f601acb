package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/factor"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A Policy says whom a sign-in at a provider asks for a second factor.
type Policy string

// The policies. Admin pages and the making of app passwords have rules of their own, which
// no policy weakens.
const (
	// Optional asks those who have one. The empty policy is this one.
	Optional Policy = "optional"
	// Required has everybody set one up at the first sign-in.
	Required Policy = "required"
	// AdminOnly asks nobody at the sign-in.
	AdminOnly Policy = "admin"
)

const (
	halfCookie = "letterlock-half"
	halfKind   = "signin.half"
	halfLife   = 15 * time.Minute
)

// A half is a sign-in whose first proof is good and whose second one is awaited. There is
// no session yet.
type half struct {
	Person  identity.PersonID `json:"person"`
	Account Account           `json:"account"`
	Back    string            `json:"back"`
	At      time.Time         `json:"at"`
}

// second stops a sign-in where a second factor is wanted first.
func (d *Desk) second(w http.ResponseWriter, r *http.Request, person identity.Person, account Account, back string) (stopped bool, err error) {
	if d.o.Factors == nil || d.o.Second == AdminOnly {
		return false, nil
	}
	has, err := d.o.Factors.Of(r.Context(), person.ID)
	if err != nil {
		return false, fmt.Errorf("find second factor: %w", err)
	}
	if !has.Second() && d.o.Second != Required {
		return false, nil
	}
	// To have one is not skipped anywhere: who never set one up would make credentials
	// without.
	from := d.o.Sessions.Client(r)
	if has.Second() && slices.ContainsFunc(d.o.Trusted, func(n netip.Prefix) bool { return n.Contains(from) }) {
		d.o.Log.Info("second factor not asked for: trusted network", "person", person.Address, "remote", from)
		return false, nil
	}
	target := web.SignInPath + "/factor"
	if !has.Second() {
		target = web.SignInPath + "/enrol"
	}
	return true, d.hold(w, r, half{person.ID, account, back, d.o.Now()}, target)
}

func (d *Desk) hold(w http.ResponseWriter, r *http.Request, h half, target string) error {
	browser, err := d.browser(w, r)
	if err != nil {
		return err
	}
	name, err := web.NewSecret(d.o.Random)
	if err != nil {
		return err
	}
	data, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("keep sign-in: %w", err)
	}
	if err := d.o.Store.PutOnce(r.Context(), journeyKey("half", browser, name), halfKind, data, d.o.Now().Add(halfLife)); err != nil {
		return fmt.Errorf("keep sign-in: %w", err)
	}
	http.SetCookie(w, d.o.Sessions.Cookie(halfCookie, name, halfLife))
	http.Redirect(w, r, target, http.StatusSeeOther)
	return nil
}

// browser is the secret that this browser is known by while it signs in.
func (d *Desk) browser(w http.ResponseWriter, r *http.Request) (string, error) {
	browser := d.o.Sessions.Value(r, browserCookie)
	if len(browser) == 43 { // ours have 256 bits; anything else is not ours
		return browser, nil
	}
	browser, err := web.NewSecret(d.o.Random)
	if err == nil {
		http.SetCookie(w, d.o.Sessions.Cookie(browserCookie, browser, flowLife+time.Hour))
	}
	return browser, err
}

// A waiting is a half that was found again.
type waiting struct {
	half
	key     identity.Digest
	browser string
	person  identity.Person
}

func (d *Desk) waiting(r *http.Request) (waiting, error) {
	w := waiting{browser: d.o.Sessions.Value(r, browserCookie)}
	name := d.o.Sessions.Value(r, halfCookie)
	if w.browser == "" || name == "" {
		return w, mistaken("no sign-in that waits for a second factor")
	}
	w.key = journeyKey("half", w.browser, name)
	data, err := d.o.Store.ReadOnce(r.Context(), w.key, halfKind, d.o.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return w, mistaken("no sign-in of this browser that waits for a second factor")
	}
	if err == nil {
		err = json.Unmarshal(data, &w.half)
	}
	if err != nil {
		return w, fmt.Errorf("find sign-in: %w", err)
	}
	over, err := d.ended(r.Context(), w.half)
	if err != nil {
		return w, err
	}
	if over {
		return w, errOver()
	}
	if w.person, err = d.o.Store.Person(r.Context(), w.Person); err != nil {
		return w, fmt.Errorf("find person: %w", err)
	}
	if !w.person.Disabled.IsZero() {
		return w, shutOut(w.person)
	}
	return w, nil
}

// complete ends the waiting, once, and starts the session.
func (d *Desk) complete(w http.ResponseWriter, r *http.Request, h waiting, by identity.Factor) error {
	h.Account.Factor = by
	session, err := d.start(w, r, h.person, h.Account, func(ctx context.Context) error {
		_, err := d.o.Store.TakeOnce(ctx, h.key, halfKind, d.o.Now())
		if errors.Is(err, identity.ErrNotFound) {
			return mistaken("a sign-in that was completed in this moment")
		}
		if err != nil {
			return fmt.Errorf("complete sign-in: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	http.SetCookie(w, d.o.Sessions.Cookie(halfCookie, "", -1))
	// The provider may have ended it since it was found, when there was no session yet for
	// that to end. From now on there is.
	over, err := d.ended(r.Context(), h.half)
	if err != nil || over {
		err = errors.Join(err, d.o.Sessions.Abandon(w, r, session))
	}
	switch {
	case err != nil:
		return err
	case over:
		return errOver()
	}
	d.enter(w, r, h.person, h.Account, h.Back)
	return nil
}

func errOver() error { return mistaken("a sign-in whose session at the provider has ended") }

// factorPage shows the question and handles its answer: after a provider's word, before
// there is a session.
func (d *Desk) factorPage(w http.ResponseWriter, r *http.Request) {
	h, err := d.waiting(r)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	q := question{path: web.SignInPath + "/factor", purpose: "factor", browser: h.browser, person: h.person}
	if r.Method != http.MethodPost {
		d.ask(w, r, q, http.StatusOK, "")
		return
	}
	proof, err := d.prove(r, q)
	if err != nil {
		d.unproved(w, r, q, err)
		return
	}
	if err := d.complete(w, r, h, proof.Factor); err != nil {
		d.fail(w, r, err)
	}
}

// again has somebody who is signed in prove a second factor, for what wants a fresh one.
// Who has none proves themselves at their provider once more.
func (d *Desk) again(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		d.fail(w, r, mistaken("a form that is none"))
		return
	}
	back := r.Form.Get("back")
	if !web.LocalPath(back) {
		back = "/"
	}
	session, person, ok := d.o.Sessions.Current(r)
	if !ok {
		d.o.Sessions.Begin(w, r, back)
		return
	}
	has, err := d.o.Factors.Of(r.Context(), person.ID)
	if err != nil {
		d.fail(w, r, fmt.Errorf("find second factor: %w", err))
		return
	}
	if !has.Second() {
		query := url.Values{"choose": {"1"}, "back": {back}}
		http.Redirect(w, r, web.SignInPath+"?"+query.Encode(), http.StatusSeeOther)
		return
	}
	q := question{path: web.SignInPath + "/again", purpose: "again", browser: fmt.Sprintf("%x", session.ID), person: person, back: back, signed: true}
	if r.Method != http.MethodPost {
		d.ask(w, r, q, http.StatusOK, "")
		return
	}
	proof, err := d.prove(r, q)
	if err != nil {
		d.unproved(w, r, q, err)
		return
	}
	_, err = d.o.Sessions.Renew(w, r, func(s *identity.Session) {
		s.Proved, s.Factor, s.Admin = d.o.Now(), proof.Factor, proof.Factor.Admin()
	})
	if err != nil {
		d.fail(w, r, fmt.Errorf("renew session: %w", err))
		return
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}

// A question is one page that asks for a second factor.
type question struct {
	path, purpose, browser string
	person                 identity.Person
	back                   string
	signed                 bool
}

func (d *Desk) ask(w http.ResponseWriter, r *http.Request, q question, status int, problem string) {
	has, err := d.o.Factors.Of(r.Context(), q.person.ID)
	if err != nil {
		d.fail(w, r, fmt.Errorf("find second factor: %w", err))
		return
	}
	view := struct {
		Address, Action, Back, Problem string
		Passkey                        *web.PasskeyForm
		TOTP, Recovery, Signed         bool
	}{Address: q.person.Address, Action: q.path, Back: q.back, Problem: problem, TOTP: has.TOTP != nil, Recovery: has.Recovery > 0, Signed: q.signed}
	if len(has.Passkeys) > 0 && d.o.Factors.Passkeys() {
		options, err := d.o.Factors.Ask(r.Context(), q.purpose, q.browser, &q.person)
		if err != nil {
			d.fail(w, r, err)
			return
		}
		view.Passkey = &web.PasskeyForm{Action: q.path, Options: options, Button: "Use a passkey", Hidden: []string{"back", q.back}}
	}
	page := factorPage()
	if view.Passkey != nil {
		page = factorScriptPage()
	}
	page.Show(w, status, view)
}

// prove checks what was sent, and notes what was not good. What was good is spent together
// with its line of the audit trail.
func (d *Desk) prove(r *http.Request, q question) (factor.Proof, error) {
	if err := r.ParseForm(); err != nil {
		return factor.Proof{}, mistaken("a form that is none")
	}
	from := d.o.Sessions.Client(r)
	if d.o.Throttle.Ask(r.Context(), from) {
		return factor.Proof{}, factor.ErrTooMany
	}
	used := func(ctx context.Context, proof factor.Proof) error {
		if proof.Factor == identity.ByRecovery {
			return d.recoveryUsed(ctx, r, q.person.ID, proof)
		}
		return d.event(ctx, r, "factor.proved", q.person.ID, string(proof.Factor)+" "+proof.Name)
	}
	var proof factor.Proof
	var err error
	if answer := r.PostForm.Get("answer"); answer != "" {
		_, proof, err = d.o.Factors.Prove(r.Context(), q.purpose, q.browser, &q.person, from, answer, used)
	} else {
		proof, err = d.o.Factors.Code(r.Context(), q.person.ID, r.PostForm.Get("code"), used)
	}
	if err != nil {
		d.missed(r, q.person.ID, err)
	}
	return proof, err
}

func (d *Desk) recoveryUsed(ctx context.Context, r *http.Request, person identity.PersonID, proof factor.Proof) error {
	return d.event(ctx, r, "recovery.used", person, fmt.Sprintf("%d left", proof.Left))
}

// missed counts a proof that was not good, where it may have been a guess, and writes it
// down. person is empty when it is not known whose it would have been.
func (d *Desk) missed(r *http.Request, person identity.PersonID, err error) {
	if !rejected(err) {
		return
	}
	if !errors.Is(err, factor.ErrStale) {
		d.o.Throttle.Miss(r.Context(), d.o.Sessions.Client(r))
	}
	kind := "factor.refused"
	if errors.Is(err, factor.ErrCloned) {
		kind = "factor.cloned"
	}
	d.o.Log.Info("second factor refused", "person", person, "error", err, "remote", d.o.Sessions.Client(r))
	reason := factorWords(err)
	if err := d.event(r.Context(), r, kind, person, reason); err != nil {
		d.o.Log.Error("refusal not recorded", "error", err)
	}
}

// rejected: it is the proof that was not good; anything else is a fault.
func rejected(err error) bool {
	for _, no := range []error{factor.ErrWrong, factor.ErrSpent, factor.ErrStale, factor.ErrCloned, factor.ErrTooMany} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// unproved shows the question once more, with what was wrong.
func (d *Desk) unproved(w http.ResponseWriter, r *http.Request, q question, err error) {
	if !rejected(err) {
		d.fail(w, r, err)
		return
	}
	status := http.StatusForbidden
	if errors.Is(err, factor.ErrTooMany) {
		w.Header().Set("Retry-After", "600")
		status = http.StatusTooManyRequests
	}
	d.ask(w, r, q, status, factorWords(err))
}

// factorWords is what a page says.
func factorWords(err error) string {
	switch {
	case errors.Is(err, factor.ErrTooMany):
		return "There were too many wrong codes. Wait ten minutes, or use a passkey."
	case errors.Is(err, factor.ErrSpent):
		return "That code was used already. Wait for the next one."
	case errors.Is(err, factor.ErrStale):
		return "This page was open for too long. Try again."
	case errors.Is(err, factor.ErrCloned):
		return "That passkey exists twice, so it is not taken any more. Use another way, remove that passkey, and tell whoever looks after the mail here."
	case errors.Is(err, factor.ErrFull):
		return "You have as many passkeys as one can have. Remove one first."
	}
	return "That was not right. Codes of an app are good for a minute: look at the clock of the device too."
}

package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/letterlock-mail/letterlock/internal/server/factor"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// People with neither GitHub nor an issuer have a local account: a binding to the passkeys
// of these pages, made by an invitation. Without it a passkey is a second step and opens
// nothing alone, so that it is no way around the provider that knows who is a member.

// LocalIssuer is the issuer of local accounts; the subject is the person's id.
func LocalIssuer(publicURL string) string {
	u, err := url.Parse(publicURL)
	if err != nil {
		return "passkey:"
	}
	return "passkey:" + u.Hostname()
}

func (d *Desk) localAccount(person identity.Person, how string, by identity.Factor) Account {
	return Account{Issuer: LocalIssuer(d.o.PublicURL), Subject: string(person.ID), Shown: person.Address, How: how, Factor: by}
}

// local reports whether passkeys let people in here.
func (d *Desk) local() bool { return d.o.Local && d.o.Factors != nil && d.o.Factors.Passkeys() }

// passkeyForm is the button of the page of sign-in.
func (d *Desk) passkeyForm(w http.ResponseWriter, r *http.Request, back string) (*web.PasskeyForm, error) {
	if !d.local() {
		return nil, nil
	}
	browser, err := d.browser(w, r)
	if err != nil {
		return nil, err
	}
	options, err := d.o.Factors.Ask(r.Context(), "signin", browser, nil)
	if err != nil {
		return nil, err
	}
	return &web.PasskeyForm{Action: web.SignInPath + "/passkey", Options: options, Button: "Sign in with a passkey", Hidden: []string{"back", back}}, nil
}

// byPasskey signs somebody in whom the passkey names.
func (d *Desk) byPasskey(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		d.fail(w, r, mistaken("a form that is none"))
		return
	}
	if d.o.Throttle.Ask(r.Context(), d.o.Sessions.Client(r)) {
		tooMany(w)
		return
	}
	if r.PostForm.Get("answer") == "" {
		d.fail(w, r, noScript())
		return
	}
	browser := d.o.Sessions.Value(r, browserCookie)
	person, proof, err := d.o.Factors.Prove(r.Context(), "signin", browser, nil, d.o.Sessions.Client(r), r.PostForm.Get("answer"))
	if err != nil {
		d.missed(r, person.ID, err)
		d.fail(w, r, passkeyRefused(err))
		return
	}
	if err := d.enterLocal(w, r, person, d.localAccount(person, "passkey", proof.Factor), r.PostForm.Get("back")); err != nil {
		d.fail(w, r, err)
	}
}

func noScript() *Refused {
	return &Refused{Reason: "passkey", Detail: "no answer of a device", What: "No passkey arrived.", Hint: "Passkeys need script in your browser. The other ways to sign in do not."}
}

// passkeyRefused makes a page of what is nobody's fault but the passkey's.
func passkeyRefused(err error) error {
	if !rejected(err) {
		return err
	}
	what := "This passkey is not known here."
	switch {
	case errors.Is(err, factor.ErrStale), errors.Is(err, factor.ErrCloned):
		what = factorWords(err)
	case errors.Is(err, factor.ErrSpent):
		what = "This answer of the passkey was used already."
	}
	return &Refused{Reason: "passkey", Detail: err.Error(), What: what, Hint: "Begin again, or ask whoever looks after the mail here for an invitation."}
}

// enterLocal lets a local account in, if there is one.
func (d *Desk) enterLocal(w http.ResponseWriter, r *http.Request, person identity.Person, account Account, back string) error {
	bound, err := d.bound(r.Context(), account)
	if errors.Is(err, identity.ErrNotFound) {
		return &Refused{Reason: "second", Detail: person.Address + " has no local account", Person: person.ID,
			What: "Your passkey is a second step here.", Hint: "Sign in at your provider first; the passkey is asked for after that."}
	}
	if err != nil {
		return err
	}
	return d.admit(w, r, bound, account, back)
}

// invitedPerson reads the invitation in the browser, and spends nothing.
func (d *Desk) invitedPerson(r *http.Request) (identity.Person, string, error) {
	code := d.o.Sessions.Value(r, invitationCookie)
	if code == "" {
		return identity.Person{}, "", spent("no code")
	}
	data, err := d.o.Store.ReadOnce(r.Context(), identity.DigestOf(code), invitationKind, d.o.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return identity.Person{}, "", spent("used or expired")
	}
	var to invited
	if err == nil {
		err = json.Unmarshal(data, &to)
	}
	if err != nil {
		return identity.Person{}, "", fmt.Errorf("read invitation: %w", err)
	}
	person, err := d.o.Store.Person(r.Context(), to.Person)
	if errors.Is(err, identity.ErrNotFound) {
		return person, "", spent("its person is gone")
	}
	if err != nil {
		return person, "", fmt.Errorf("find invited person: %w", err)
	}
	if !person.Disabled.IsZero() {
		return person, "", shutOut(person)
	}
	return person, code, nil
}

// invitationForm is the button that makes a passkey for the invited person.
func (d *Desk) invitationForm(w http.ResponseWriter, r *http.Request) (*web.PasskeyForm, identity.Person, error) {
	if !d.local() {
		return nil, identity.Person{}, nil
	}
	person, _, err := d.invitedPerson(r)
	if err != nil {
		return nil, person, err
	}
	browser, err := d.browser(w, r)
	if err != nil {
		return nil, person, err
	}
	options, err := d.o.Factors.NewPasskey(r.Context(), "invitation", browser, person)
	if errors.Is(err, factor.ErrFull) {
		return nil, person, nil
	}
	if err != nil {
		return nil, person, err
	}
	return &web.PasskeyForm{Action: web.SignInPath + "/invitation/passkey", Options: options, New: true, Name: true,
		Button: "It is mine: make a passkey"}, person, nil
}

// acceptByPasskey is an invitation answered with a passkey: from then on it opens the
// mailbox. The page named the address and asked whether it is theirs.
func (d *Desk) acceptByPasskey(w http.ResponseWriter, r *http.Request) {
	if err := d.takeInvitation(w, r); err != nil {
		d.fail(w, r, err)
	}
}

func (d *Desk) takeInvitation(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return mistaken("a form that is none")
	}
	if r.PostForm.Get("answer") == "" {
		return noScript()
	}
	person, code, err := d.invitedPerson(r)
	if err != nil {
		return err
	}
	account := d.localAccount(person, "passkey", identity.ByPasskey)
	err = d.o.Store.Together(r.Context(), func(ctx context.Context) error { return d.bindPasskey(ctx, r, person, account, code) })
	if err != nil {
		return err
	}
	http.SetCookie(w, d.o.Sessions.Cookie(invitationCookie, "", -1))
	return d.admit(w, r, person, account, "/security?done=welcome")
}

// bindPasskey takes the invitation, keeps the passkey, and lets it open the mailbox. Whatever
// is wrong leaves the invitation as it was.
func (d *Desk) bindPasskey(ctx context.Context, r *http.Request, person identity.Person, account Account, code string) error {
	_, err := d.o.Store.TakeOnce(ctx, identity.DigestOf(code), invitationKind, d.o.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return spent("used in this moment")
	}
	if err != nil {
		return fmt.Errorf("take invitation: %w", err)
	}
	browser := d.o.Sessions.Value(r, browserCookie)
	key, err := d.o.Factors.AddPasskey(ctx, "invitation", browser, person, r.PostForm.Get("name"), r.PostForm.Get("answer"))
	if err != nil {
		return passkeyRefused(err)
	}
	if err := d.event(ctx, r, "factor.added", person.ID, "passkey "+key.Name+", by invitation"); err != nil {
		return err
	}
	_, err = d.o.Store.Binding(ctx, account.Issuer, account.Subject)
	if errors.Is(err, identity.ErrNotFound) {
		return d.bind(ctx, r, person, account, "invitation")
	}
	return err
}

// recover lets the owner of a local account in by a recovery code. What it says to a wrong
// pair is the same whether there is such an address or not.
func (d *Desk) recover(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		recoverPage().Show(w, http.StatusOK, recoverView{})
		return
	}
	if err := r.ParseForm(); err != nil {
		d.fail(w, r, mistaken("a form that is none"))
		return
	}
	if d.o.Throttle.Ask(r.Context(), d.o.Sessions.Client(r)) {
		tooMany(w)
		return
	}
	address, err := identity.CanonicalAddress(r.PostForm.Get("address"))
	var person identity.Person
	if err == nil {
		person, err = d.o.Store.PersonByAddress(r.Context(), address)
	}
	if errors.Is(err, identity.ErrNotFound) || errors.Is(err, identity.ErrAddress) {
		d.missed(r, "", factor.ErrWrong)
		recoverPage().Show(w, http.StatusForbidden, recoverView{Problem: true})
		return
	}
	if err == nil {
		err = d.recovered(w, r, person)
	}
	var refused *Refused
	switch {
	case err == nil:
	case rejected(err), errors.As(err, &refused):
		d.missed(r, person.ID, factor.ErrWrong)
		recoverPage().Show(w, http.StatusForbidden, recoverView{Problem: true})
	default:
		d.fail(w, r, err)
	}
}

type recoverView struct{ Problem bool }

func (d *Desk) recovered(w http.ResponseWriter, r *http.Request, person identity.Person) error {
	account := d.localAccount(person, "recovery", identity.ByRecovery)
	if !person.Disabled.IsZero() {
		return shutOut(person)
	}
	if _, err := d.o.Store.Binding(r.Context(), account.Issuer, account.Subject); err != nil {
		if errors.Is(err, identity.ErrNotFound) {
			return &Refused{Reason: "recovery", Detail: "no local account", Person: person.ID}
		}
		return fmt.Errorf("find account: %w", err)
	}
	_, err := d.o.Factors.Recover(r.Context(), person.ID, r.PostForm.Get("code"), func(ctx context.Context, proof factor.Proof) error {
		return d.recoveryUsed(ctx, r, person.ID, proof)
	})
	if err != nil {
		return err
	}
	return d.enterLocal(w, r, person, account, "/security?done=recovered")
}

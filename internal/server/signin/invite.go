package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

const (
	invitationCookie = "letterlock-invitation"
	invitationKind   = "signin.invitation"
	pendingKind      = "signin.pending"
	pendingLife      = 15 * time.Minute
)

// An invited is what an invitation is good for.
type invited struct {
	Person  identity.PersonID `json:"person"`
	Expires time.Time         `json:"expires"`
}

// Invite makes a one-time link for a person: whoever opens it and signs in owns the
// mailbox from then on, beside those whose it is already.
func Invite(ctx context.Context, store Once, random io.Reader, publicURL string, person identity.PersonID, expires time.Time) (secret.String, error) {
	code, err := web.NewSecret(random)
	if err != nil {
		return secret.String{}, err
	}
	data, err := json.Marshal(invited{Person: person, Expires: expires})
	if err != nil {
		return secret.String{}, fmt.Errorf("keep invitation: %w", err)
	}
	if err := store.PutOnce(ctx, identity.DigestOf(code), invitationKind, data, expires); err != nil {
		return secret.String{}, fmt.Errorf("keep invitation: %w", err)
	}
	return secret.New(publicURL + web.SignInPath + "/invitation?code=" + url.QueryEscape(code)), nil
}

// invitation opens a link. The code goes into a cookie at once and out of the address, so
// that it stays in no history and no Referer. Nothing is spent by opening: programs that
// look into mail open links too.
func (d *Desk) invitation(w http.ResponseWriter, r *http.Request) {
	if code := r.URL.Query().Get("code"); code != "" {
		if len(code) != 43 {
			d.fail(w, r, spent("no code that was ever made"))
			return
		}
		http.SetCookie(w, d.o.Sessions.Cookie(invitationCookie, code, time.Hour))
		http.Redirect(w, r, web.SignInPath+"/invitation", http.StatusSeeOther)
		return
	}
	form, person, err := d.invitationForm(w, r)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	page := invitationPage()
	if form != nil {
		page = invitationScriptPage()
	}
	page.Show(w, http.StatusOK, struct {
		Entrances []doorView
		Passkey   *web.PasskeyForm
		Address   string
	}{d.doors("/"), form, person.Address})
}

func spent(detail string) *Refused {
	return &Refused{Reason: "invitation", Detail: detail, What: "This invitation is not valid: it was used, is too old, or the link is not complete.", Hint: "Ask for a new one."}
}

// A pending is an account that was proved and an invitation that was taken for it, until
// the person says yes.
type pending struct {
	Account    Account         `json:"account"`
	Label      string          `json:"label"`
	Invitation identity.Digest `json:"invitation"`
	Invited    invited         `json:"invited"`
}

// offer asks a person who came with an invitation whether the mailbox is meant for them:
// a link from somebody else would put what they do next into that person's mailbox.
func (d *Desk) offer(w http.ResponseWriter, r *http.Request, e Entrance, account Account, code string) error {
	http.SetCookie(w, d.o.Sessions.Cookie(invitationCookie, "", -1))
	p := pending{Account: account, Label: label(e), Invitation: identity.DigestOf(code)}
	data, err := d.o.Store.TakeOnce(r.Context(), p.Invitation, invitationKind, d.o.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return spent("used or expired, tried by " + account.Issuer + " " + account.Subject)
	}
	if err != nil {
		return fmt.Errorf("take invitation: %w", err)
	}
	if err := json.Unmarshal(data, &p.Invited); err != nil {
		return fmt.Errorf("take invitation: %w", err)
	}
	person, err := d.o.Store.Person(r.Context(), p.Invited.Person)
	if errors.Is(err, identity.ErrNotFound) {
		return spent("its person is gone")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("find invited person: %w", err), d.giveBack(r.Context(), p))
	}
	return d.keepPending(w, r, p, person)
}

func (d *Desk) keepPending(w http.ResponseWriter, r *http.Request, p pending, person identity.Person) error {
	name, err := web.NewSecret(d.o.Random)
	if err != nil {
		return err
	}
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("keep invitation: %w", err)
	}
	key := journeyKey("pending", d.o.Sessions.Value(r, browserCookie), name)
	if err := d.o.Store.PutOnce(r.Context(), key, pendingKind, data, d.o.Now().Add(pendingLife)); err != nil {
		return fmt.Errorf("keep invitation: %w", err)
	}
	acceptPage().Show(w, http.StatusOK, struct{ Shown, Label, Address, Pending string }{p.Account.Shown, p.Label, person.Address, name})
	return nil
}

// giveBack makes an invitation valid again that was refused or could not be answered.
func (d *Desk) giveBack(ctx context.Context, p pending) error {
	data, err := json.Marshal(p.Invited)
	if err != nil {
		return fmt.Errorf("give invitation back: %w", err)
	}
	if err := d.o.Store.PutOnce(ctx, p.Invitation, invitationKind, data, p.Invited.Expires); err != nil {
		return fmt.Errorf("give invitation back: %w", err)
	}
	return nil
}

// answerInvitation is the person's yes or no.
func (d *Desk) answerInvitation(w http.ResponseWriter, r *http.Request) {
	if err := d.accept(w, r); err != nil {
		d.fail(w, r, err)
	}
}

func (d *Desk) accept(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return mistaken("a form that is none")
	}
	browser, name := d.o.Sessions.Value(r, browserCookie), r.PostForm.Get("pending")
	if browser == "" || name == "" {
		return mistaken("an answer to no question")
	}
	data, err := d.o.Store.TakeOnce(r.Context(), journeyKey("pending", browser, name), pendingKind, d.o.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return mistaken("an answer to no question of this browser")
	}
	if err != nil {
		return fmt.Errorf("find invitation: %w", err)
	}
	var p pending
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("find invitation: %w", err)
	}
	if r.PostForm.Get("decision") != "accept" {
		if err := d.giveBack(r.Context(), p); err != nil {
			return err
		}
		return &Refused{Reason: "declined", What: "You did not accept; the mailbox stays as it was.", Hint: "The link stays valid for whoever it is meant for."}
	}
	person, err := d.o.Store.Person(r.Context(), p.Invited.Person)
	if errors.Is(err, identity.ErrNotFound) {
		return spent("its person is gone")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("find invited person: %w", err), d.giveBack(r.Context(), p))
	}
	if !person.Disabled.IsZero() {
		return shutOut(person)
	}
	if err := d.bind(r, person, p.Account, "invitation"); err != nil {
		return err
	}
	return d.admit(w, r, person, p.Account, "/")
}

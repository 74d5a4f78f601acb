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
	name, err := web.NewSecret(d.o.Random)
	if err != nil {
		return err
	}
	key := journeyKey("pending", d.o.Sessions.Value(r, browserCookie), name)
	var person identity.Person
	err = d.o.Store.Together(r.Context(), func(ctx context.Context) (err error) {
		person, err = d.keepPending(ctx, pending{Account: account, Label: label(e), Invitation: identity.DigestOf(code)}, key)
		return err
	})
	if err != nil {
		return err
	}
	if person.ID == "" {
		return spent("its person is gone")
	}
	acceptPage().Show(w, http.StatusOK, struct{ Shown, Label, Address, Pending string }{account.Shown, label(e), person.Address, name})
	return nil
}

// keepPending takes the invitation and keeps the question in its place, both or neither. Who
// is gone is nobody: their invitation is spent.
func (d *Desk) keepPending(ctx context.Context, p pending, key identity.Digest) (identity.Person, error) {
	var person identity.Person
	data, err := d.o.Store.TakeOnce(ctx, p.Invitation, invitationKind, d.o.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return person, spent("used or expired, tried by " + p.Account.Issuer + " " + p.Account.Subject)
	}
	if err == nil {
		err = json.Unmarshal(data, &p.Invited)
	}
	if err != nil {
		return person, fmt.Errorf("take invitation: %w", err)
	}
	person, err = d.o.Store.Person(ctx, p.Invited.Person)
	if errors.Is(err, identity.ErrNotFound) {
		return identity.Person{}, nil
	}
	if err != nil {
		return person, fmt.Errorf("find invited person: %w", err)
	}
	if data, err = json.Marshal(p); err == nil {
		err = d.o.Store.PutOnce(ctx, key, pendingKind, data, d.o.Now().Add(pendingLife))
	}
	if err != nil {
		return person, fmt.Errorf("keep invitation: %w", err)
	}
	return person, nil
}

// giveBack makes an invitation valid again that was refused.
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
	yes := r.PostForm.Get("decision") == "accept"
	var p pending
	var person identity.Person
	err := d.o.Store.Together(r.Context(), func(ctx context.Context) (err error) {
		if p, err = d.takePending(ctx, browser, name); err != nil {
			return err
		}
		if !yes {
			return d.giveBack(ctx, p)
		}
		if person, err = d.invitee(ctx, p); err != nil {
			return err
		}
		return d.bind(ctx, r, person, p.Account, "invitation")
	})
	switch {
	case err != nil:
		return err
	case !yes:
		return &Refused{Reason: "declined", What: "You did not accept; the mailbox stays as it was.", Hint: "The link stays valid for whoever it is meant for."}
	}
	return d.admit(w, r, person, p.Account, "/")
}

// takePending ends the question that this browser was asked.
func (d *Desk) takePending(ctx context.Context, browser, name string) (p pending, err error) {
	data, err := d.o.Store.TakeOnce(ctx, journeyKey("pending", browser, name), pendingKind, d.o.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return p, mistaken("an answer to no question of this browser")
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return p, fmt.Errorf("find invitation: %w", err)
	}
	return p, nil
}

func (d *Desk) invitee(ctx context.Context, p pending) (identity.Person, error) {
	person, err := d.o.Store.Person(ctx, p.Invited.Person)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return person, spent("its person is gone")
	case err != nil:
		return person, fmt.Errorf("find invited person: %w", err)
	case !person.Disabled.IsZero():
		return person, shutOut(person)
	}
	return person, nil
}

package signin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

const (
	firstCookie = "letterlock-first"
	firstKind   = "signin.first"
	// firstTurnKind is of the one who is made an administrator in this moment.
	firstTurnKind = "signin.first.turn"
)

// FirstLink makes a one-time link by which the first administrator makes themselves. It is
// for the terminal of whoever starts the server, and for no log.
func FirstLink(ctx context.Context, store Once, random io.Reader, publicURL string, expires time.Time) (secret.String, error) {
	code, err := web.NewSecret(random)
	if err != nil {
		return secret.String{}, err
	}
	if err := store.PutOnce(ctx, identity.DigestOf(code), firstKind, nil, expires); err != nil {
		return secret.String{}, fmt.Errorf("keep first link: %w", err)
	}
	return secret.New(publicURL + web.SignInPath + "/first?code=" + url.QueryEscape(code)), nil
}

// first asks the first administrator for their address, and goes on to an invitation. The
// code leaves the address at once, as that of an invitation does.
func (d *Desk) first(w http.ResponseWriter, r *http.Request) {
	if code := r.URL.Query().Get("code"); code != "" {
		http.SetCookie(w, d.o.Sessions.Cookie(firstCookie, code, time.Hour))
		http.Redirect(w, r, web.SignInPath+"/first", http.StatusSeeOther)
		return
	}
	code, err := d.firstCode(r)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	if r.Method != http.MethodPost {
		firstPage().Show(w, http.StatusOK, firstView{Domains: d.o.Domains})
		return
	}
	if err := d.makeFirst(w, r, code); err != nil {
		d.fail(w, r, err)
	}
}

type firstView struct {
	Domains                []string
	Address, Name, Problem string
}

func (d *Desk) firstCode(r *http.Request) (string, error) {
	unknown := &Refused{Reason: "first", What: "This link is not valid: it was used, is too old, or there is an administrator already.",
		Hint: "At the server, letterlockd person invite ADDRESS --admin makes another."}
	code := d.o.Sessions.Value(r, firstCookie)
	if len(code) != 43 {
		return "", unknown
	}
	_, err := d.o.Store.ReadOnce(r.Context(), identity.DigestOf(code), firstKind, d.o.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return "", unknown
	}
	if err != nil {
		return "", fmt.Errorf("find first link: %w", err)
	}
	admins, err := d.o.Store.Admins(r.Context())
	if err != nil {
		return "", fmt.Errorf("look for administrators: %w", err)
	}
	if len(admins) > 0 {
		return "", unknown
	}
	return code, nil
}

func (d *Desk) makeFirst(w http.ResponseWriter, r *http.Request, code string) error {
	if err := r.ParseForm(); err != nil {
		return mistaken("a form that is none")
	}
	view := firstView{Domains: d.o.Domains, Address: clip(r.PostForm.Get("address")), Name: clip(r.PostForm.Get("name"))}
	address, err := identity.CanonicalAddress(strings.TrimSpace(view.Address))
	_, domain, _ := strings.Cut(address, "@")
	switch {
	case err != nil:
		view.Problem = "Write it as ann@example.org."
	case len(d.o.Domains) > 0 && !slices.Contains(d.o.Domains, domain):
		view.Problem = domain + " is none of the domains that are served here."
	}
	if view.Problem != "" {
		firstPage().Show(w, http.StatusUnprocessableEntity, view)
		return nil
	}
	id, err := identity.NewID(d.o.Random, d.o.Now())
	if err != nil {
		return err
	}
	done, err := d.onlyFirst(r.Context())
	if err != nil {
		return err
	}
	defer done()
	person := identity.Person{ID: identity.PersonID(id), Address: address, Name: strings.ToValidUTF8(view.Name, ""), Admin: true, Created: d.o.Now()}
	link, err := d.addFirst(r, code, person)
	if errors.Is(err, identity.ErrExists) { // the link is as good as before
		view.Problem = "Somebody has this address already."
		firstPage().Show(w, http.StatusConflict, view)
		return nil
	}
	if err != nil {
		return err
	}
	_, invitation, _ := strings.Cut(link.Reveal(), "?code=")
	http.SetCookie(w, d.o.Sessions.Cookie(firstCookie, "", -1))
	http.SetCookie(w, d.o.Sessions.Cookie(invitationCookie, invitation, time.Hour))
	http.Redirect(w, r, web.SignInPath+"/invitation", http.StatusSeeOther)
	return nil
}

// addFirst takes the link and makes the person, their mailbox and an invitation for them, with
// the line of the audit trail, all or nothing.
func (d *Desk) addFirst(r *http.Request, code string, person identity.Person) (link secret.String, err error) {
	err = d.o.Store.Together(r.Context(), func(ctx context.Context) (err error) {
		_, err = d.o.Store.TakeOnce(ctx, identity.DigestOf(code), firstKind, d.o.Now())
		if errors.Is(err, identity.ErrNotFound) {
			return mistaken("a first link that was used in this moment")
		}
		if err != nil {
			return fmt.Errorf("take first link: %w", err)
		}
		if err := d.o.Store.AddPerson(ctx, person); err != nil {
			return fmt.Errorf("make first administrator: %w", err)
		}
		if err := d.mailbox(ctx, person); err != nil {
			return err
		}
		if err := d.event(ctx, r, "person.added", person.ID, person.Address+", the first administrator"); err != nil {
			return err
		}
		link, err = Invite(ctx, d.o.Store, d.o.Random, d.o.PublicURL, person.ID, d.o.Now().Add(time.Hour))
		return err
	})
	return link, err
}

// onlyFirst lets one at a time make a first administrator, over all instances: each start of
// each of them prints a link of its own. done is called when there is one, or could not be.
func (d *Desk) onlyFirst(ctx context.Context) (done func(), err error) {
	turn := identity.DigestOf("the first administrator")
	err = d.o.Store.PutOnce(ctx, turn, firstTurnKind, nil, d.o.Now().Add(time.Minute))
	if errors.Is(err, identity.ErrExists) {
		return nil, mistaken("another first administrator is being made in this moment")
	}
	if err != nil {
		return nil, fmt.Errorf("make first administrator: %w", err)
	}
	done = func() {
		if _, err := d.o.Store.TakeOnce(context.WithoutCancel(ctx), turn, firstTurnKind, d.o.Now()); err != nil {
			d.o.Log.Warn("the next first link waits for a minute", "error", err)
		}
	}
	admins, err := d.o.Store.Admins(ctx)
	if err == nil && len(admins) > 0 {
		err = mistaken("a first link while there is an administrator")
	}
	if err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// clip keeps what is longer than any address or name out of the page.
func clip(text string) string { return text[:min(len(text), 320)] }

package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/letterlock-mail/letterlock/internal/server/factor"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// enrol is the page of a policy that wants a second factor of everybody: the session
// begins when one has been set up, and not before.
func (d *Desk) enrol(w http.ResponseWriter, r *http.Request) {
	h, err := d.waiting(r)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	// Who has one proves it; another would be set up beside it by whoever came this far.
	has, err := d.o.Factors.Of(r.Context(), h.person.ID)
	if err != nil {
		d.fail(w, r, fmt.Errorf("find second factor: %w", err))
		return
	}
	if has.Second() {
		http.Redirect(w, r, web.SignInPath+"/factor", http.StatusSeeOther)
		return
	}
	if r.Method != http.MethodPost {
		d.showEnrol(w, r, h, http.StatusOK, "", "")
		return
	}
	by, err := d.enrolled(r, h)
	switch {
	case err == nil:
	case rejected(err), errors.Is(err, factor.ErrFull):
		d.showEnrol(w, r, h, http.StatusForbidden, r.PostForm.Get("ticket"), factorWords(err))
		return
	default:
		d.fail(w, r, err)
		return
	}
	if err := d.complete(w, r, h, by); err != nil {
		d.fail(w, r, err)
	}
}

// enrolled keeps what was set up, together with its line of the audit trail.
func (d *Desk) enrolled(r *http.Request, h waiting) (by identity.Factor, err error) {
	if err := r.ParseForm(); err != nil {
		return "", mistaken("a form that is none")
	}
	if d.o.Throttle.Ask(r.Context(), d.o.Sessions.Client(r)) {
		return "", factor.ErrTooMany
	}
	err = d.o.Store.Together(r.Context(), func(ctx context.Context) error {
		detail := "authenticator app"
		by = identity.ByTOTP
		if answer := r.PostForm.Get("answer"); answer != "" {
			key, err := d.o.Factors.AddPasskey(ctx, "enrol", h.browser, h.person, r.PostForm.Get("name"), answer)
			if err != nil {
				return err
			}
			by, detail = identity.ByPasskey, "passkey "+key.Name
		} else if err := d.o.Factors.AddApp(ctx, h.person.ID, r.PostForm.Get("ticket"), r.PostForm.Get("code")); err != nil {
			return err
		}
		return d.event(ctx, r, "factor.added", h.person.ID, detail+", at sign-in")
	})
	return by, err
}

func (d *Desk) showEnrol(w http.ResponseWriter, r *http.Request, h waiting, status int, ticket, problem string) {
	app, err := d.o.Factors.SameApp(h.person, ticket)
	if err != nil {
		app, err = d.o.Factors.NewApp(h.person)
	}
	if err != nil {
		d.fail(w, r, err)
		return
	}
	view := struct {
		Address, Problem, Ticket, Text string
		Picture, URI                   any
		Passkey                        *web.PasskeyForm
	}{Address: h.person.Address, Problem: problem, Ticket: app.Ticket, Text: app.Text.Reveal(),
		Picture: web.Picture(app.QR), URI: web.AppLink(app.URI.Reveal())}
	page := enrolPage()
	if d.o.Factors.Passkeys() {
		options, err := d.o.Factors.NewPasskey(r.Context(), "enrol", h.browser, h.person)
		if err != nil {
			d.fail(w, r, err)
			return
		}
		view.Passkey = &web.PasskeyForm{Action: web.SignInPath + "/enrol", Options: options, New: true, Name: true, Button: "Make a passkey"}
		page = enrolScriptPage()
	}
	page.Show(w, status, view)
}

package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// maxForm is more than any form here holds.
const maxForm = 64 << 10

// A page is shown; an action changes something.
type (
	page struct {
		show  func(*visit) error
		admin bool
		// proved wants a fresh proof, by a second factor of who has one; factors wants
		// besides that the person came themselves.
		proved, factors bool
	}
	action struct {
		do         func(*visit) error
		path, back string // back: where to look again when the session is gone
		admin      bool
		factors    bool // changes how the person signs in
		// lenient: the action itself looks at token and freshness, because it can show
		// the form again with all that was typed.
		lenient bool
	}
)

// A visit is one request of somebody who is signed in.
type visit struct {
	*Portal
	w       http.ResponseWriter
	r       *http.Request
	session identity.Session
	person  identity.Person
	form    url.Values // of a POST
	trusted bool       // the form's token is good
	now     time.Time
}

// A fault is shown as a page.
type fault struct {
	status     int
	what, hint string
}

func (f *fault) Error() string { return f.what }

func wrong(what, hint string) error { return &fault{http.StatusBadRequest, what, hint} }

func (p *Portal) get(g page) http.Handler {
	return web.Headers(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, ok := p.visit(w, r, r.URL.RequestURI())
		if !ok {
			return
		}
		switch {
		case g.admin && !v.admit():
		case g.factors && !v.changesFactors(r.URL.RequestURI()):
		case g.proved && !v.admitProved():
		default:
			v.answer(g.show(v))
		}
	}))
}

func (p *Portal) post(a action) http.Handler {
	return web.Headers(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, ok := p.visit(w, r, a.back)
		if !ok {
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			v.answer(wrong("The form arrived damaged, or is too long.", "Go back and send it again."))
			return
		}
		v.form = r.PostForm
		v.trusted = len(v.form["token"]) == 1 && len(v.form["id"]) <= 1 &&
			p.o.Browser.ValidForm(r, v.form.Get("token"), "portal "+a.path, v.form.Get("id"))
		switch {
		case a.admin && !v.admit():
		case !v.trusted && !a.lenient:
			v.answer(&fault{http.StatusForbidden, "This form is not from your current session.", "Nothing was changed. Open the page again and repeat it there."})
		case a.factors && !v.changesFactors(a.back):
		default:
			v.answer(a.do(v))
		}
	}))
}

// visit finds out who it is, or sends them to sign in.
func (p *Portal) visit(w http.ResponseWriter, r *http.Request, back string) (*visit, bool) {
	session, person, ok := p.o.Browser.Current(r)
	if !ok || !person.Disabled.IsZero() {
		if !web.LocalPath(back) {
			back = "/"
		}
		p.o.SignIn(w, r, back, false)
		return nil, false
	}
	return &visit{Portal: p, w: w, r: r, session: session, person: person, now: p.o.Now()}, true
}

// fresh: the person proved who they are a short while ago.
func (v *visit) fresh() bool {
	age := v.now.Sub(v.session.Proved)
	return age >= 0 && age < v.o.Fresh
}

// admitProved sends whom a page wants a fresh proof of to give it.
func (v *visit) admitProved() bool {
	ok, err := v.proved()
	switch {
	case err != nil:
		v.answer(err)
	case !ok:
		v.o.SignIn(v.w, v.r, v.r.URL.RequestURI(), true)
	}
	return ok && err == nil
}

// admit lets administrators in who have just proved it with all that admin pages want.
// Where a browser stands (a trusted network) plays no part.
func (v *visit) admit() bool {
	switch {
	case !v.person.Admin:
		v.answer(&fault{http.StatusForbidden, "This page is for administrators.", ""})
	case !v.session.Admin && !v.o.AdminBySignIn && v.fresh() && v.lacksFactor():
		// To send them to sign in again would be a loop.
		v.answer(&fault{http.StatusForbidden, "The pages of administrators want a second factor.", v.factorHint()})
	case !v.fresh() || !v.session.Admin && !v.o.AdminBySignIn:
		back := "/admin"
		if v.r.Method == http.MethodGet {
			back = v.r.URL.RequestURI()
		}
		v.o.SignIn(v.w, v.r, back, true)
	default:
		return true
	}
	return false
}

// lacksFactor: there is no second factor to ask the person for that admin pages take, or
// they have just shown that they lost theirs.
func (v *visit) lacksFactor() bool {
	if v.o.Factors == nil || v.session.Factor == identity.ByRecovery {
		return true
	}
	has, err := v.o.Factors.Of(v.r.Context(), v.person.ID)
	if err != nil {
		v.o.Log.Error("second factors not found", "error", err)
	}
	return err != nil || !has.Second()
}

func (v *visit) factorHint() string {
	switch {
	case v.o.Factors == nil:
		return "The configuration may say that the provider asks for a second factor (admin_at_provider in [portal])."
	case v.session.Factor == identity.ByRecovery:
		return "A recovery code does not open them. Add a passkey or an authenticator app under Sign-in security, and prove that."
	}
	return "Add a passkey or an authenticator app under Sign-in security, and come back."
}

// answer shows what went wrong, if something did.
func (v *visit) answer(err error) {
	var f *fault
	switch {
	case err == nil:
	case errors.As(err, &f):
		v.showFault(f)
	case errors.Is(err, identity.ErrUnavailable), errors.Is(err, credential.ErrBusy), errors.Is(err, credential.ErrUnavailable):
		v.o.Log.Error("portal: not now", "path", v.r.URL.Path, "error", err)
		v.w.Header().Set("Retry-After", "10")
		v.showFault(&fault{http.StatusServiceUnavailable, "This cannot be answered just now.",
			"Something may or may not have been changed: look again in a minute. You are still signed in."})
	case errors.Is(err, identity.ErrNotFound):
		v.showFault(&fault{http.StatusNotFound, "There is no such thing here, or it is not yours.", "It may have been removed meanwhile."})
	default:
		v.o.Log.Error("portal: page failed", "path", v.r.URL.Path, "error", err)
		v.showFault(&fault{http.StatusInternalServerError, "This did not work, and it is not your mistake.", "The administrator finds the reason in the log."})
	}
}

// done goes back to a page, which then says what was done.
func (v *visit) done(path, what string) error {
	u := url.URL{Path: path, RawQuery: url.Values{"done": {what}}.Encode()}
	http.Redirect(v.w, v.r, u.String(), http.StatusSeeOther)
	return nil
}

// change does something and records it, in one transaction. do asks the store with the
// context that it is given, and may be called more than once.
func (v *visit) change(kind string, person identity.PersonID, detail string, do func(context.Context) error) error {
	return v.o.Store.Together(v.r.Context(), func(ctx context.Context) error {
		if err := do(ctx); err != nil {
			return err
		}
		return v.record(ctx, kind, person, detail)
	})
}

// record adds to the audit trail, in the transaction that does what it tells.
func (v *visit) record(ctx context.Context, kind string, person identity.PersonID, detail string) error {
	return v.o.Store.AddEvent(ctx, identity.Event{
		At: v.now, Kind: kind, Person: person, Actor: string(v.person.ID), From: v.o.Browser.Client(v.r), Detail: detail,
	})
}

// revoked has it felt, at once: by this process, and by the mail servers where the
// person may have a session open.
func (v *visit) revoked(person identity.Person) {
	if v.o.Changed != nil {
		v.o.Changed()
	}
	if v.o.Push != nil {
		v.o.Push.Revoke(v.names(person)...)
	}
}

// names are all names by which a mail server may know the person.
func (v *visit) names(person identity.Person) []string {
	names := []string{person.Address}
	addresses, err := v.o.Store.AddressesOf(v.r.Context(), person.ID)
	if err != nil {
		v.o.Log.Warn("addresses of a person not found", "person", person.ID, "error", err)
	}
	for _, a := range addresses {
		if a.Address != person.Address {
			names = append(names, a.Address)
		}
	}
	return names
}

// unconfirmed are the mail servers where a session of the person may still be open.
func (v *visit) unconfirmed(person identity.Person) []string {
	if v.o.Push == nil {
		return nil
	}
	return v.o.Push.Unconfirmed(v.names(person)...)
}

// A token is what a form hides in itself.
type token struct{ Action, ID, Token string }

// sign makes the hidden part of a form that posts to path about id.
func (v *visit) sign(path, id string) token {
	return token{path, id, v.o.Browser.FormToken(v.r, "portal "+path, id)}
}

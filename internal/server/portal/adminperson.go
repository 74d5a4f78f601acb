package portal

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

type bindingView struct {
	Shown, Issuer string
	Bound         *moment
}

var personSheet = sync.OnceValue(func() *sheet {
	return newSheet("Person", `
<p><a href="/admin">All people</a></p>
{{template "waiting" .Waiting}}
<div class="card"><h2>{{.Person.Address}}{{if .Person.Admin}} <span class="tag">administrator</span>{{end}}{{if .Person.Disabled}} <span class="tag">disabled</span>{{end}}</h2>
<dl><dt>Name</dt><dd>{{line .Person.Name}}</dd><dt>Since</dt><dd>{{with .Since}}{{template "clock" .}}{{end}}</dd>
{{with .Person.Disabled}}<dt>Disabled</dt><dd>{{template "clock" .}}{{with $.Person.Reason}}: {{line .}}{{end}}</dd>{{end}}
<dt>Signs in with</dt><dd>{{range .Bindings}}{{line .Shown}} at {{line .Issuer}}, since {{template "clock" .Bound}}<br>{{else}}nothing yet{{end}}</dd>{{with .Factors}}<dt>Second factors</dt><dd>{{.}}</dd>{{end}}</dl></div>
{{if .Person.Disabled}}<form method="post" action="{{.Enable.Action}}" class="card">{{template "hidden" .Enable}}<p>Everything that was not revoked works again.</p><button>Enable {{.Person.Address}}</button></form>
{{else if .Self}}<p class="card soft">This is you. Another administrator can disable you.</p>
{{else}}<form method="post" action="{{.Disable.Action}}" class="card">{{template "hidden" .Disable}}{{template "text" .Reason}}<p><button class="danger">Disable {{.Person.Address}}</button></p></form>{{end}}
<h2>App passwords</h2>
<ul class="cards">{{range .Passwords}}{{template "password" .}}{{else}}<li class="card soft">None is in force.</li>{{end}}</ul>
<h2>Addresses</h2>
<ul class="cards">{{range .Addresses}}<li class="card"><h3>{{.Address}} <span class="tag">{{.Kind}}</span></h3></li>{{end}}</ul>
<h2>Browsers</h2>
<p>{{if .Sessions}}{{.Sessions}} signed in.{{else}}None is signed in.{{end}}</p>
{{if .Sessions}}<form method="post" action="{{.EndSessions.Action}}">{{template "hidden" .EndSessions}}<button class="danger">Sign out all browsers of {{.Person.Address}}</button></form>{{end}}
<h2>Activity</h2>
{{template "events" .Events}}`+passwordBlock)
})

type personPage struct {
	Person                       personView
	Self                         bool
	Since                        *moment
	Waiting                      []string
	Bindings                     []bindingView
	Passwords                    []passwordView
	Addresses                    []addressView
	Sessions                     int
	Factors                      string
	Events                       []eventView
	Enable, Disable, EndSessions token
	Reason                       field
}

func adminPerson(v *visit) error {
	return v.showPerson(http.StatusOK, identity.PersonID(v.r.PathValue("id")), "", "")
}

func (v *visit) showPerson(status int, id identity.PersonID, reason, problem string) error {
	ctx := v.r.Context()
	person, err := v.o.Store.Person(ctx, id)
	if err != nil {
		return err
	}
	data := personPage{
		Person: v.viewPerson(person), Self: person.ID == v.person.ID, Since: v.moment(person.Created), Waiting: v.unconfirmed(person),
		Enable: v.sign("/admin/person/enable", string(id)), Disable: v.sign("/admin/person/disable", string(id)), EndSessions: v.sign("/admin/person/end-sessions", string(id)),
		Reason: field{Name: "reason", Label: "Reason", Hint: "For the audit trail; the person may read it.", Value: reason, Error: problem, Max: maxReason},
	}
	bindings, err := v.o.Store.Bindings(ctx, id)
	if err != nil {
		return err
	}
	for _, b := range bindings {
		data.Bindings = append(data.Bindings, bindingView{b.Shown, b.Issuer, v.moment(b.Bound)})
	}
	if data.Factors, err = v.factorsOf(id); err != nil {
		return err
	}
	all, err := v.o.Store.Credentials(ctx, id)
	if err != nil {
		return err
	}
	for _, c := range all {
		view := v.viewPassword(c, person, "/admin/person/revoke", string(id)+" "+string(c.ID))
		if view.State == "in force" {
			data.Passwords = append(data.Passwords, view)
		}
	}
	own, err := v.o.Store.AddressesOf(ctx, id)
	if err != nil {
		return err
	}
	for _, a := range own {
		view := viewAddress(a, person)
		if a.Address == person.Address {
			view.Kind = "own address"
		}
		data.Addresses = append(data.Addresses, view)
	}
	sessions, err := v.o.Store.Sessions(ctx, id)
	if err != nil {
		return err
	}
	data.Sessions = len(v.viewSessions(sessions))
	events, err := v.o.Store.Events(ctx, identity.EventFilter{Person: id, Limit: 20})
	if err != nil {
		return err
	}
	names := v.book()
	for _, e := range events {
		data.Events = append(data.Events, v.viewEvent(e, names))
	}
	return v.show(personSheet(), status, data)
}

// factorsOf says how a person proves themselves besides; empty: there are no second factors
// here at all.
func (v *visit) factorsOf(id identity.PersonID) (string, error) {
	if v.o.Factors == nil {
		return "", nil
	}
	has, err := v.o.Factors.Of(v.r.Context(), id)
	var words []string
	if n := len(has.Passkeys); n > 0 {
		words = append(words, plural(n, "passkey"))
	}
	if has.TOTP != nil {
		words = append(words, "an authenticator app")
	}
	if !has.Second() {
		words = append(words, "none")
	}
	if !has.RecoveryMade.IsZero() {
		words = append(words, plural(has.Recovery, "recovery code"))
	}
	return and(words), err
}

const maxReason = 200

// disablePerson shuts a person out everywhere. Nobody disables themselves: that would be
// a slip of the finger, and the last administrator would be gone.
func disablePerson(v *visit) error {
	id := identity.PersonID(v.form.Get("id"))
	reason := strings.ToValidUTF8(strings.TrimSpace(v.form.Get("reason")), "\ufffd")
	switch {
	case id == v.person.ID:
		return &fault{http.StatusConflict, "You cannot disable yourself.", "Another administrator can."}
	case reason == "":
		return v.showPerson(http.StatusUnprocessableEntity, id, "", "Say why: people ask later.")
	case utf8.RuneCountInString(reason) > maxReason:
		return v.showPerson(http.StatusUnprocessableEntity, id, string([]rune(reason)[:maxReason]), "Use at most 200 characters.")
	}
	person, err := v.o.Store.Person(v.r.Context(), id)
	if err != nil {
		return err
	}
	err = v.change("person.disabled", id, reason, func(ctx context.Context) error { return v.o.Store.DisablePerson(ctx, id, v.now, reason) })
	if err != nil {
		return err
	}
	v.revoked(person)
	return v.done("/admin/person/"+string(id), "disabled")
}

func enablePerson(v *visit) error {
	id := identity.PersonID(v.form.Get("id"))
	if err := v.change("person.enabled", id, "", func(ctx context.Context) error { return v.o.Store.EnablePerson(ctx, id) }); err != nil {
		return err
	}
	return v.done("/admin/person/"+string(id), "enabled")
}

// revokeOfPerson ends somebody else's app password; the form names both.
func revokeOfPerson(v *visit) error {
	owner, id, _ := strings.Cut(v.form.Get("id"), " ")
	person, err := v.o.Store.Person(v.r.Context(), identity.PersonID(owner))
	if err != nil {
		return err
	}
	if err := v.endPassword(person, identity.CredentialID(id)); err != nil {
		return err
	}
	return v.done("/admin/person/"+owner, "revoked")
}

func endSessionsOfPerson(v *visit) error {
	id := identity.PersonID(v.form.Get("id"))
	person, err := v.o.Store.Person(v.r.Context(), id)
	if err != nil {
		return err
	}
	err = v.change("session.ended", id, "all browsers of "+person.Address, func(ctx context.Context) error { return v.o.Store.EndSessions(ctx, id) })
	if err != nil {
		return err
	}
	return v.done("/admin/person/"+string(id), "changed")
}

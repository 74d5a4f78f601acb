package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

type servedView struct {
	Address string
	Targets []string
	Owners  []string
	Remove  *token
}

type servedPage struct {
	List                             []servedView
	More                             string
	Alias, Role                      token
	Address, Targets, RoleAt, Person field
	Open, Send                       bool
	RoleError                        string
}

var servedSheet = sync.OnceValue(func() *sheet {
	return newSheet("All addresses", `
<h2>Make an alias</h2>
<form method="post" action="{{.Alias.Action}}" class="card">{{template "hidden" .Alias}}{{template "text" .Address}}{{template "area" .Targets}}<p><button>Save the alias</button></p></form>
<h2>Give or take a role</h2>
<form method="post" action="{{.Role.Action}}" class="card">{{template "hidden" .Role}}{{template "text" .RoleAt}}{{template "text" .Person}}
<div role="group" aria-labelledby="roles"{{if .RoleError}} aria-describedby="role-error"{{end}}><p class="label" id="roles">The person may</p><p class="hint">None marked: takes the roles away.</p>{{with .RoleError}}<p class="error" id="role-error">{{.}}</p>{{end}}
<label class="choice"><input type="checkbox" name="role" value="login"{{if .Open}} checked{{end}}> open its mailbox</label><label class="choice"><input type="checkbox" name="role" value="send"{{if .Send}} checked{{end}}> send as it</label></div><p><button>Save the roles</button></p></form>
<h2>What there is</h2>
<ul class="cards">{{range .List}}<li class="card row"><div><h3>{{.Address}}</h3>{{with .Targets}}<p>Goes to {{range $i, $t := .}}{{if $i}}, {{end}}{{$t}}{{end}}</p>{{end}}
<p class="small soft">{{range $i, $o := .Owners}}{{if $i}}; {{end}}{{$o}}{{else}}Nobody has a role at it{{end}}</p></div>
{{with .Remove}}<form method="post" action="{{.Action}}">{{template "hidden" .}}<button class="danger" aria-label="Remove {{.ID}}">Remove</button></form>{{end}}</li>{{else}}<li class="card soft">None.</li>{{end}}</ul>
{{with .More}}<p><a class="button" href="{{.}}">Next page</a></p>{{end}}`)
})

const addressPage = 50

func adminAddresses(v *visit) error { return v.showAddresses(http.StatusOK, "", nil, nil) }

// showAddresses shows the page; typed and f belong to the form of that name.
func (v *visit) showAddresses(status int, form string, typed url.Values, f faults) error {
	pick := func(want, name, label, hint string) field {
		one := field{Name: name, Label: label, Hint: hint}
		if form == want {
			one.Value, one.Error = typed.Get(strings.TrimPrefix(name, want+"-")), f[strings.TrimPrefix(name, want+"-")]
		}
		return one
	}
	data := servedPage{
		Alias: v.sign("/admin/addresses/alias", ""), Role: v.sign("/admin/addresses/role", ""),
		Address: pick("alias", "alias-address", "Alias", "An address at "+and(v.o.Domains)+"; @"+first(v.o.Domains)+" is every address there."),
		Targets: pick("alias", "alias-targets", "Its mail goes to", "One a line; anywhere."),
		RoleAt:  pick("role", "role-address", "Address", ""),
		Person:  pick("role", "role-person", "Person", "The person's own address."),
	}
	if form == "role" {
		data.Open, data.Send = slices.Contains(typed["role"], "login"), slices.Contains(typed["role"], "send")
		data.RoleError = f["role"]
	}
	list, err := v.o.Store.Addresses(v.r.Context(), clip(v.r.URL.Query().Get("after")), addressPage+1)
	if err != nil {
		return err
	}
	if len(list) > addressPage {
		list = list[:addressPage]
		data.More = "/admin/addresses?" + url.Values{"after": {list[addressPage-1].Address}}.Encode()
	}
	names := v.book()
	for _, a := range list {
		data.List = append(data.List, v.viewServed(a, names))
	}
	return v.show(servedSheet(), status, data)
}

func first(words []string) string {
	if len(words) == 0 {
		return "example.org"
	}
	return words[0]
}

func (v *visit) viewServed(a identity.Address, name func(identity.PersonID) string) servedView {
	view := servedView{Address: a.Address, Targets: a.Targets}
	own := false
	for _, o := range a.Owners {
		var may []string
		if o.Has(identity.RoleLogin) && len(a.Targets) == 0 {
			may = append(may, "opens")
		}
		if o.Has(identity.RoleSend) {
			may = append(may, "sends")
		}
		view.Owners = append(view.Owners, name(o.Person)+" "+and(may))
		own = own || name(o.Person) == a.Address
	}
	if !own {
		remove := v.sign("/admin/addresses/remove", a.Address)
		view.Remove = &remove
	}
	return view
}

// book finds the addresses of persons, of whom some may be gone.
func (v *visit) book() func(identity.PersonID) string {
	known := map[identity.PersonID]string{"": ""}
	return func(id identity.PersonID) string {
		if name, ok := known[id]; ok {
			return name
		}
		known[id] = string(id)
		if person, err := v.o.Store.Person(v.r.Context(), id); err == nil {
			known[id] = person.Address
		}
		return known[id]
	}
}

// typedOf takes the prefix off the names of one form's fields.
func (v *visit) typedOf(form string) url.Values {
	plain := url.Values{"role": v.form["role"]}
	for _, name := range []string{"address", "targets", "person"} {
		plain.Set(name, clip(v.form.Get(form+"-"+name)))
	}
	return plain
}

func putAlias(v *visit) error {
	typed, f := v.typedOf("alias"), faults{}
	address, problem := v.ownEntry(typed.Get("address"))
	if problem != "" {
		f["address"] = problem
	}
	words, problem := entries(typed.Get("targets"), maxRecipients)
	var targets []string
	for _, word := range words {
		target, err := identity.CanonicalAddress(word)
		switch {
		case err != nil:
			problem = quoted(word) + " is no address."
		case target == address:
			problem = "An alias cannot go to itself."
		case !slices.Contains(targets, target):
			targets = append(targets, target)
		}
	}
	if problem == "" && len(targets) == 0 {
		problem = "Write at least one address."
	}
	if problem != "" {
		f["targets"] = problem
	}
	if len(f) == 0 {
		_, err := v.o.Store.PersonByAddress(v.r.Context(), address)
		switch {
		case err == nil:
			f["address"] = "This is a person's own address. Its mail goes to them."
		case !errors.Is(err, identity.ErrNotFound):
			return err
		}
	}
	if len(f) > 0 {
		return v.showAddresses(http.StatusUnprocessableEntity, "alias", typed, f)
	}
	return v.changeAddress("alias", typed, address, "alias to "+strings.Join(targets, " "), func(a *identity.Address) { a.Targets = targets })
}

func putRole(v *visit) error {
	typed, f := v.typedOf("role"), faults{}
	address, problem := v.ownEntry(typed.Get("address"))
	if problem != "" {
		f["address"] = problem
	}
	var person identity.Person
	owner, err := identity.CanonicalAddress(strings.TrimSpace(typed.Get("person")))
	if err == nil {
		person, err = v.o.Store.PersonByAddress(v.r.Context(), owner)
	}
	switch {
	case errors.Is(err, identity.ErrNotFound), errors.Is(err, identity.ErrAddress):
		f["person"] = "Nobody here has this as their own address."
	case err != nil:
		return err
	}
	var roles []identity.Role
	for _, word := range typed["role"] {
		if role := identity.Role(word); role != identity.RoleLogin && role != identity.RoleSend {
			f["role"] = "Choose from these."
		} else if !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	if f["address"] == "" && owner == address {
		f["address"] = "A person's own address stays theirs."
	}
	if len(f) > 0 {
		return v.showAddresses(http.StatusUnprocessableEntity, "role", typed, f)
	}
	detail := "roles of " + person.Address + ": none"
	if len(roles) > 0 {
		detail = "roles of " + person.Address + ":"
		for _, role := range roles {
			detail += " " + string(role)
		}
	}
	return v.changeAddress("role", typed, address, detail, func(a *identity.Address) {
		a.Owners = slices.DeleteFunc(a.Owners, func(o identity.Owner) bool { return o.Person == person.ID })
		if len(roles) > 0 {
			a.Owners = append(a.Owners, identity.Owner{Person: person.ID, Roles: roles})
		}
	})
}

// changeAddress changes an address, which is made when it is not there. Those who had a
// right at it before are the ones who may have a session open on it.
func (v *visit) changeAddress(form string, typed url.Values, address, detail string, change func(*identity.Address)) error {
	err := v.change("address.changed", "", address+": "+detail, func(ctx context.Context) error {
		a, err := v.o.Store.Address(ctx, address)
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			return err
		}
		a.Address = address
		change(&a)
		return v.o.Store.PutAddress(ctx, a)
	})
	if errors.Is(err, identity.ErrExists) {
		return v.showAddresses(http.StatusConflict, form, typed, faults{"address": "This is the login name of an app password."})
	}
	if err != nil {
		return err
	}
	v.addressChanged(address)
	return v.done("/admin/addresses", "changed")
}

func (v *visit) addressChanged(address string) {
	if v.o.Changed != nil {
		v.o.Changed()
	}
	if v.o.Push != nil {
		v.o.Push.Revoke(address)
	}
}

func removeAddress(v *visit) error {
	address := v.form.Get("id")
	err := v.change("address.removed", "", address, func(ctx context.Context) error {
		_, err := v.o.Store.PersonByAddress(ctx, address)
		switch {
		case err == nil:
			return &fault{http.StatusConflict, "This is a person's own address.", "It goes with the person."}
		case !errors.Is(err, identity.ErrNotFound):
			return err
		}
		return v.o.Store.DeleteAddress(ctx, address)
	})
	if err != nil {
		return err
	}
	v.addressChanged(address)
	return v.done("/admin/addresses", "removed")
}

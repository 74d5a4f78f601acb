package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

type choice struct {
	Name, Value, Text string
	On                bool
}

// passwordFields is the form as it is shown.
type passwordFields struct {
	Token                                token
	Trouble                              string
	Stale                                bool
	Machine                              bool
	Label, Networks, Recipients, PerHour field
	Protocols, Senders, Expires          []choice
	ProtocolError, SenderError           string
	ExpiresError                         string
	Faults                               int
}

var passwordSheet = sync.OnceValue(func() *sheet {
	return newSheet("New app password", `
<p class="soft">An app password lets one device or program into your mail. It is shown once; write it into the device at once. Losing it costs nothing: revoke it and make another.</p>
{{if .Stale}}<div class="note warn" role="alert"><p>{{.Trouble}}</p><p><a href="/passwords/new" target="_blank" rel="noopener">Sign in once more in a new tab</a>, then press the button below again. What you typed is kept.</p></div>
{{else if .Trouble}}<div class="note bad" role="alert"><p>{{.Trouble}}</p></div>{{end}}
{{if .Faults}}<div class="note bad" role="alert"><p>Please look at the marked {{if eq .Faults 1}}field{{else}}fields{{end}}. Nothing was made yet.</p></div>{{end}}
<p>{{if .Machine}}For a machine that only sends. <a href="/passwords/new">It is for a mail program or telephone instead</a>{{else}}For a mail program or telephone. <a href="/passwords/new?for=machine">It is for a printer, scanner or server instead</a>{{end}}</p>
<form method="post" action="/passwords/new">{{template "hidden" .Token}}{{if .Machine}}<input type="hidden" name="for" value="machine">{{end}}
<fieldset><legend>Name and purpose</legend>
{{template "text" .Label}}
<div role="group" aria-labelledby="protocols"{{if .ProtocolError}} aria-describedby="protocol-error"{{end}}><p class="label" id="protocols">It may</p>
{{with .ProtocolError}}<p class="error" id="protocol-error">{{.}}</p>{{end}}
{{range .Protocols}}<label class="choice"><input type="checkbox" name="{{.Name}}" value="{{.Value}}"{{if .On}} checked{{end}}> {{.Text}}</label>{{end}}</div>
<label for="expires">It works</label>{{with .ExpiresError}}<p class="error" id="expires-error">{{.}}</p>{{end}}
<select id="expires" name="expires"{{if .ExpiresError}} aria-invalid="true" aria-describedby="expires-error"{{end}}>{{range .Expires}}<option value="{{.Value}}"{{if .On}} selected{{end}}>{{.Text}}</option>{{end}}</select>
</fieldset>
<fieldset><legend>Limits on sending</legend>
{{template "area" .Recipients}}
{{template "text" .PerHour}}
<div role="group" aria-labelledby="senders"{{if .SenderError}} aria-describedby="sender-error"{{end}}><p class="label" id="senders">It may send as</p><p class="hint">None marked: as all of your addresses.</p>
{{with .SenderError}}<p class="error" id="sender-error">{{.}}</p>{{end}}
{{range .Senders}}<label class="choice"><input type="checkbox" name="{{.Name}}" value="{{.Value}}"{{if .On}} checked{{end}}> {{.Text}}</label>{{end}}</div>
</fieldset>
<fieldset><legend>Limits on where from</legend>
{{template "area" .Networks}}
</fieldset>
<button>Make the app password</button></form>`)
})

func newPassword(v *visit) error {
	machine := v.r.URL.Query().Get("for") == "machine"
	return v.askPassword(http.StatusOK, standard(machine, v.person.Address), nil, "", false)
}

func (v *visit) askPassword(status int, w wish, f faults, trouble string, stale bool) error {
	own, err := v.ownSenders()
	if err != nil {
		return err
	}
	return v.show(passwordSheet(), status, v.fields(w, own, f, trouble, stale))
}

func (v *visit) fields(w wish, own []string, f faults, trouble string, stale bool) passwordFields {
	hint, label := "Like: telephone, work laptop.", "What is it for?"
	if w.Machine {
		hint = "Like: scanner on the first floor, backup of db1."
	}
	out := passwordFields{
		Token: v.sign("/passwords/new", ""), Trouble: trouble, Stale: stale, Machine: w.Machine, Faults: len(f),
		Label:         field{Name: "label", Label: label, Hint: hint, Value: w.Label, Error: f["label"], Max: maxLabel},
		Networks:      field{Name: "networks", Label: "Networks it works from", Hint: "One a line: 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48. Empty: from everywhere.", Value: w.Networks, Error: f["networks"]},
		Recipients:    field{Name: "recipients", Label: "Recipients", Hint: "One a line: ann@example.org, or @example.org for everybody there. Empty: anybody.", Value: w.Recipients, Error: f["recipients"]},
		PerHour:       field{Name: "per_hour", Label: "Messages an hour", Hint: "Empty: no limit of its own.", Value: w.PerHour, Error: f["per_hour"], Type: "number", Max: 5},
		ProtocolError: f["protocol"], SenderError: f["sender"], ExpiresError: f["expires"],
	}
	for _, p := range protocols() {
		text := protocolWords(p)
		out.Protocols = append(out.Protocols, choice{"protocol", string(p), text, slices.Contains(w.Protocols, string(p))})
	}
	for _, address := range own {
		out.Senders = append(out.Senders, choice{"sender", address, address, slices.Contains(w.Senders, address)})
	}
	for _, days := range lifetimes() {
		text := "for " + plural(days, "day")
		if days == 0 {
			text = "until it is revoked"
		}
		out.Expires = append(out.Expires, choice{"expires", strconv.Itoa(days), text, w.Expires == strconv.Itoa(days)})
	}
	return out
}

// ownSenders are the addresses that the person may send as, without catch-alls.
func (v *visit) ownSenders() ([]string, error) {
	all, err := v.o.Store.AddressesOf(v.r.Context(), v.person.ID)
	if err != nil {
		return nil, err
	}
	own := []string{v.person.Address}
	for _, a := range all {
		sends := slices.ContainsFunc(a.Owners, func(o identity.Owner) bool { return o.Person == v.person.ID && o.Has(identity.RoleSend) })
		if sends && !strings.HasPrefix(a.Address, "@") && !slices.Contains(own, a.Address) {
			own = append(own, a.Address)
		}
	}
	return own, nil
}

var madeSheet = sync.OnceValue(func() *sheet {
	return newSheet("Your new app password", `
<div class="note warn"><p><strong>This is shown once.</strong> Write it into the device now. It is not kept here and cannot be shown again.</p></div>
<h2 id="for">For {{line .Label}}</h2>
<p class="secret" id="password" aria-labelledby="for">{{.Password}}</p>
<p class="soft small">Capitals and dashes make no difference. Devices that take no more than 32 characters:</p>
<pre id="short">{{.Short}}</pre>
<div class="card"><h3>What it may do</h3><ul>{{range .Rights}}<li>{{line .}}</li>{{end}}</ul>{{with .Expires}}<p>Works until {{template "clock" .}}.</p>{{end}}</div>
<h2>Settings for the device</h2>
{{range .Services}}<div class="card"><h3>{{.What}}</h3><table><tr><th scope="row">Server</th><td>{{.Host}}</td></tr><tr><th scope="row">Port</th><td>{{.Port}}</td></tr><tr><th scope="row">Security</th><td>{{.Security}}</td></tr>
<tr><th scope="row">User name</th><td>{{$.Login}}</td></tr><tr><th scope="row">Password</th><td>the app password above</td></tr><tr><th scope="row">Authentication</th><td>normal password</td></tr></table></div>
{{else}}<p class="card">The user name is <strong>{{.Login}}</strong>. Names and ports of the servers are not set up here; ask your postmaster.</p>{{end}}
{{range .Blocks}}<details><summary>{{.What}}</summary><pre>{{.Text}}</pre></details>{{end}}
<p><a class="button" href="/">Done: I have written it down</a></p>`)
})

// makePassword makes one and shows it on the answer itself: it has no address at which
// it could be seen again.
func makePassword(v *visit) error {
	w := readWish(v.form)
	proved, err := v.proved()
	switch {
	case err != nil:
		return err
	case !v.trusted:
		return v.askPassword(http.StatusForbidden, w, nil, "This form is not from your current session, so nothing was made. Look it over and press the button again.", false)
	case !proved:
		return v.askPassword(http.StatusForbidden, w, nil, "This wants a fresh proof that it is you, so nothing was made.", true)
	}
	own, err := v.ownSenders()
	if err != nil {
		return err
	}
	c, f := parseWish(w, own, v.now)
	if len(f) > 0 {
		return v.show(passwordSheet(), http.StatusUnprocessableEntity, v.fields(w, own, f, "", false))
	}
	password, err := v.makeCredential(&c)
	var full *fault
	switch {
	case errors.As(err, &full):
		return v.show(passwordSheet(), full.status, v.fields(w, own, nil, full.what, false))
	case err != nil:
		return err
	}
	return v.show(madeSheet(), http.StatusOK, v.made(c, password))
}

// maxPasswords bounds how many a person has in force.
const maxPasswords = 200

// makeCredential keeps a new app password under a name that is free.
func (v *visit) makeCredential(c *identity.Credential) (secret.String, error) {
	ctx := v.r.Context()
	taken, err := v.takenNames(ctx)
	if err != nil {
		return secret.String{}, err
	}
	if len(taken) >= maxPasswords {
		return secret.String{}, &fault{http.StatusConflict, fmt.Sprintf("You have %d app passwords. Revoke some before you make more.", len(taken)), ""}
	}
	id, err := identity.NewID(v.o.Random, v.now)
	if err != nil {
		return secret.String{}, err
	}
	password, selector, hash, err := v.o.Maker.NewAppPassword(ctx)
	if err != nil {
		return secret.String{}, err
	}
	c.ID, c.Person, c.Selector, c.Hash = identity.CredentialID(id), v.person.ID, selector, hash
	base := identity.NameFrom(c.Label)
	// A name is also taken when it makes somebody's address (ann+sales@), so the store
	// has the last word.
	for n := 1; n <= maxPasswords+10; n++ {
		c.Name = base
		if n > 1 {
			c.Name = fmt.Sprintf("%s-%d", base, n)
		}
		if slices.Contains(taken, c.Name) {
			continue
		}
		err := v.change("credential.made", v.person.ID, c.Name, func(ctx context.Context) error { return v.o.Store.AddCredential(ctx, *c) })
		if errors.Is(err, identity.ErrExists) {
			continue
		}
		if err != nil {
			return secret.String{}, err
		}
		return password, nil
	}
	return secret.String{}, &fault{http.StatusConflict, "There are too many app passwords with this name. Choose another.", ""}
}

func (v *visit) takenNames(ctx context.Context) ([]string, error) {
	all, err := v.o.Store.Credentials(ctx, v.person.ID)
	var names []string
	for _, c := range all {
		if c.Revoked.IsZero() {
			names = append(names, c.Name)
		}
	}
	return names, err
}

type madeView struct {
	Label, Login, Password, Short string
	Rights                        []string
	Expires                       *moment
	Services                      []service
	Blocks                        []block
}

func (v *visit) made(c identity.Credential, password secret.String) madeView {
	text := password.Reveal()
	return madeView{
		Label: c.Label, Login: v.person.Address, Password: text, Short: strings.ReplaceAll(text, "-", ""),
		Rights: rights(c), Expires: v.moment(c.Expires),
		Services: v.o.Servers.services(c.Protocols), Blocks: v.o.Servers.blocks(c, v.person.Address),
	}
}

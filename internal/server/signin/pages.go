package signin

import (
	"net/http"
	"net/url"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// Links and not forms lead to providers: browsers apply form-action to the redirect that
// follows a form, and no page should list all providers in its policy.
const chooserBody = `
{{with .Passkey}}{{template "passkey" .}}<p><a href="` + web.SignInPath + `/recover">Lost your passkey? Use a recovery code</a></p>{{end}}
{{if .Entrances}}<p>{{if .Passkey}}Or prove{{else}}Prove{{end}} who you are at:</p>
<ul class="doors">{{range .Entrances}}<li><a class="button{{if $.Passkey}} plain{{end}}" href="{{.To}}">{{.Label}}</a></li>{{end}}</ul>{{end}}
{{if or .Entrances .Passkey}}<p class="note">No password is asked for here, and none of yours is given to anybody.</p>
{{else}}<p>There is no way to sign in yet.</p><p class="note">An administrator adds one as [signin.NAME] in letterlockd.toml.</p>{{end}}` + web.PasskeyPart

// A page that offers no passkey loads no script.
var (
	chooserPage       = sync.OnceValue(func() *web.Page { return web.NewPage("Sign in", chooserBody) })
	chooserScriptPage = sync.OnceValue(func() *web.Page { return web.NewScriptPage("Sign in", chooserBody) })
)

const factorBody = `
<p>{{if .Signed}}You are signed in as <strong>{{.Address}}</strong>. What comes next wants a fresh proof that it is you.{{else}}One step more for <strong>{{.Address}}</strong>.{{end}}</p>
{{with .Problem}}<p class="bad" role="alert" id="problem">{{.}}</p>{{end}}
{{with .Passkey}}{{template "passkey" .}}{{end}}
{{if or .TOTP .Recovery}}<form method="post" action="{{.Action}}">{{with .Back}}<input type="hidden" name="back" value="{{.}}">{{end}}
<label for="code">{{if .TOTP}}Code of your authenticator app{{if .Recovery}}, or a recovery code{{end}}{{else}}A recovery code{{end}}</label>
<input class="code" type="text" id="code" name="code" maxlength="60" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required{{if .Problem}} aria-describedby="problem"{{end}}>
<button{{if .Passkey}} class="plain"{{end}}>Go on</button></form>{{end}}
{{if not (or .Passkey .TOTP .Recovery)}}<p class="warn">None of your second factors can be used at this address. Ask whoever looks after the mail here.</p>{{end}}
<p><a href="` + web.SignInPath + `?choose=1">Sign in in another way</a></p>` + web.PasskeyPart

var (
	factorPage       = sync.OnceValue(func() *web.Page { return web.NewPage("Is it you?", factorBody) })
	factorScriptPage = sync.OnceValue(func() *web.Page { return web.NewScriptPage("Is it you?", factorBody) })
)

const enrolBody = `
<p>Everybody here has a second factor: something that only you have, beside the account you signed in with. Set one up for <strong>{{.Address}}</strong>, and you are in.</p>
{{with .Problem}}<p class="bad" role="alert" id="problem">{{.}}</p>{{end}}
{{with .Passkey}}<h2>A passkey</h2><p>On this device, your telephone, or a security key. The easiest and the safest.</p>{{template "passkey" .}}{{end}}
<h2>{{if .Passkey}}Or an authenticator app{{else}}An authenticator app{{end}}</h2>
<p>Read the picture with the app, or open <a href="{{.URI}}">this link</a> on the device with the app, or type the key into it.</p>
<img class="qr" src="{{.Picture}}" alt="The key below, as a picture for the app"><p class="secret">{{.Text}}</p>
<form method="post" action="` + web.SignInPath + `/enrol"><input type="hidden" name="ticket" value="{{.Ticket}}">
<label for="code">The code that the app shows now</label><input class="code" type="text" id="code" name="code" inputmode="numeric" maxlength="10" autocomplete="one-time-code" required{{if .Problem}} aria-describedby="problem"{{end}}>
<button{{if .Passkey}} class="plain"{{end}}>Use the app</button></form>` + web.PasskeyPart

var (
	enrolPage       = sync.OnceValue(func() *web.Page { return web.NewPage("Set up a second factor", enrolBody) })
	enrolScriptPage = sync.OnceValue(func() *web.Page { return web.NewScriptPage("Set up a second factor", enrolBody) })
)

var recoverPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Use a recovery code", `
<p>For those who sign in with a passkey and have lost it. Each code works once. Without one, ask whoever looks after the mail here for an invitation.</p>
{{if .Problem}}<p class="bad" role="alert" id="problem">This address and this code do not belong together, or the code was used.</p>{{end}}
<form method="post" action="`+web.SignInPath+`/recover">
<label for="address">Your mail address</label><input type="text" inputmode="email" id="address" name="address" maxlength="320" autocomplete="username" autocapitalize="none" spellcheck="false" required>
<label for="code">A recovery code</label><input class="code" type="text" id="code" name="code" maxlength="60" autocomplete="off" autocapitalize="none" spellcheck="false" required{{if .Problem}} aria-describedby="problem"{{end}}>
<button>Sign in</button></form><p><a href="`+web.SignInPath+`?choose=1">Sign in in another way</a></p>`)
})

var firstPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("The first administrator", `
<p>Nobody looks after this server yet. Whoever fills this in does, and signs in by the passkey that comes next.</p>
<form method="post" action="`+web.SignInPath+`/first">
<label for="address">Your mail address</label><p class="hint" id="address-hint">{{if .Domains}}In {{range $i, $d := .Domains}}{{if $i}}, {{end}}{{$d}}{{end}}.{{else}}In the domain whose mail is served here.{{end}}</p>
{{with .Problem}}<p class="bad" role="alert" id="problem">{{.}}</p>{{end}}
<input type="text" inputmode="email" id="address" name="address" value="{{.Address}}" maxlength="320" autocomplete="email" autocapitalize="none" spellcheck="false" required aria-describedby="address-hint{{if .Problem}} problem{{end}}"{{if .Problem}} aria-invalid="true"{{end}}>
<label for="name">Your name</label><input type="text" id="name" name="name" value="{{.Name}}" maxlength="100" autocomplete="name">
<button>Go on</button></form>`)
})

var failPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("You are not signed in", `<p class="bad" role="alert">{{.What}}</p>{{with .Hint}}<p class="note">{{.}}</p>{{end}}
<p><a href="`+web.SignInPath+`?choose=1">Begin again</a></p>`)
})

var outPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Signed out", `<p>This browser is signed out here. At the place where you proved who you are you may still be signed in.</p>
<p><a href="`+web.SignInPath+`?choose=1">Sign in again</a></p>`)
})

const invitationBody = `
{{if .Passkey}}<p>Somebody who looks after the mail here has sent you this link. It is for the owner of the mailbox <strong>{{.Address}}</strong>.</p>
<p class="warn">Go on only if that address is meant for you. If somebody else sent you this link, what you do here would happen in their mailbox.</p>
<p>A passkey is kept by your device, your password manager, or a security key, and opens the mailbox from now on:</p>{{template "passkey" .Passkey}}
{{if .Entrances}}<p>Or sign in with the account you want to use from now on:</p>{{end}}
{{else}}<p>Somebody who looks after the mail here has sent you this link. Whoever signs in with it becomes the owner of the mailbox it is for.</p>
{{if .Entrances}}<p>Sign in with the account you want to use from now on:</p>{{else}}<p>There is no way to sign in yet.</p>{{end}}{{end}}
{{if .Entrances}}<ul class="doors">{{range .Entrances}}<li><a class="button{{if $.Passkey}} plain{{end}}" href="{{.To}}">{{.Label}}</a></li>{{end}}</ul>{{end}}` + web.PasskeyPart

var (
	invitationPage       = sync.OnceValue(func() *web.Page { return web.NewPage("You are invited", invitationBody) })
	invitationScriptPage = sync.OnceValue(func() *web.Page { return web.NewScriptPage("You are invited", invitationBody) })
)

var acceptPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Is this your mailbox?", `
<p>From now on <strong>{{.Shown}}</strong> ({{.Label}}) opens the mailbox <strong>{{.Address}}</strong>.</p>
<p class="warn">Accept only if that address is meant for you. If somebody else sent you this link, what you do here would happen in their mailbox.</p>
<form method="post" action="`+web.SignInPath+`/invitation"><input type="hidden" name="pending" value="{{.Pending}}">
<button name="decision" value="accept">Accept</button><button class="plain" name="decision" value="refuse">Refuse</button></form>`)
})

type doorView struct{ To, Label string }

func (d *Desk) doors(back string) []doorView {
	var views []doorView
	for _, e := range d.o.Entrances {
		to := web.SignInPath + "/" + e.Name
		if web.LocalPath(back) && back != "/" {
			to += "?back=" + url.QueryEscape(back)
		}
		views = append(views, doorView{to, label(e)})
	}
	return views
}

func label(e Entrance) string {
	if e.Label != "" {
		return e.Label
	}
	return e.Name
}

// chooser shows the ways in. choose=1 shows them even when there is but one: after a
// refusal or a sign-out the way straight through would be a loop.
func (d *Desk) chooser(w http.ResponseWriter, r *http.Request) {
	back := r.URL.Query().Get("back")
	if !web.LocalPath(back) {
		back = "/"
	}
	choose := r.URL.Query().Get("choose") != ""
	if _, _, ok := d.o.Sessions.Current(r); ok && !choose {
		http.Redirect(w, r, back, http.StatusSeeOther)
		return
	}
	doors := d.doors(back)
	if len(doors) == 1 && !choose && !d.local() {
		http.Redirect(w, r, doors[0].To, http.StatusSeeOther)
		return
	}
	form, err := d.passkeyForm(w, r, back)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	page := chooserPage()
	if form != nil {
		page = chooserScriptPage()
	}
	page.Show(w, http.StatusOK, struct {
		Entrances []doorView
		Passkey   *web.PasskeyForm
	}{doors, form})
}

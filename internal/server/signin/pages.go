package signin

import (
	"net/http"
	"net/url"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// Links and not forms lead to providers: browsers apply form-action to the redirect that
// follows a form, and no page should list all providers in its policy.
var chooserPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Sign in", `
{{if .Entrances}}<p>Prove who you are at:</p>
<ul>{{range .Entrances}}<li><a href="{{.To}}">{{.Label}}</a></li>{{end}}</ul>
<p class="note">No password is asked for here, and none of yours is given to anybody.</p>
{{else}}<p>There is no way to sign in yet.</p><p class="note">An administrator adds one as [signin.NAME] in letterlockd.toml.</p>{{end}}`)
})

var failPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("You are not signed in", `<p>{{.What}}</p>{{with .Hint}}<p class="note">{{.}}</p>{{end}}
<p><a href="`+web.SignInPath+`?choose=1">Begin again</a></p>`)
})

var outPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Signed out", `<p>This browser is signed out here. At the place where you proved who you are you may still be signed in.</p>
<p><a href="`+web.SignInPath+`?choose=1">Sign in again</a></p>`)
})

var invitationPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("You are invited", `
<p>Somebody who looks after the mail here has sent you this link. Whoever signs in with it becomes the owner of the mailbox it is for.</p>
{{if .Entrances}}<p>Sign in with the account you want to use from now on:</p>
<ul>{{range .Entrances}}<li><a href="{{.To}}">{{.Label}}</a></li>{{end}}</ul>{{else}}<p>There is no way to sign in yet.</p>{{end}}`)
})

var acceptPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Is this your mailbox?", `
<p>From now on <strong>{{.Shown}}</strong> ({{.Label}}) opens the mailbox <strong>{{.Address}}</strong>.</p>
<p class="warn">Accept only if that address is meant for you. If somebody else sent you this link, what you do here would happen in their mailbox.</p>
<form method="post" action="`+web.SignInPath+`/invitation"><input type="hidden" name="pending" value="{{.Pending}}">
<button name="decision" value="accept">Accept</button><button name="decision" value="refuse">Refuse</button></form>`)
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
	if len(doors) == 1 && !choose {
		http.Redirect(w, r, doors[0].To, http.StatusSeeOther)
		return
	}
	chooserPage().Show(w, http.StatusOK, struct{ Entrances []doorView }{doors})
}

// signOut ends the session here.
func (d *Desk) signOut(w http.ResponseWriter, r *http.Request) {
	_, person, ok := d.o.Sessions.Current(r)
	if err := d.o.Sessions.End(w, r); err != nil {
		d.o.Log.Error("session not ended", "error", err)
		web.Fault(w, http.StatusServiceUnavailable, "The session could not be ended just now.", "This browser has forgotten it. Sign out again in a minute, to be sure.")
		return
	}
	if ok {
		if err := d.event(r, "signout", person.ID, ""); err != nil {
			d.o.Log.Error("sign-out not recorded", "error", err)
		}
	}
	outPage().Show(w, http.StatusOK, nil)
}

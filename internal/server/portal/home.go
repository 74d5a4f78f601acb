package portal

import (
	"cmp"
	"encoding/hex"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// passwordView is an app password on a page.
type passwordView struct {
	Label, Login, State string
	Rights              []string
	Made, Expires       *moment
	Ended               *moment
	Reason              string
	Used                *moment
	UsedFrom, UsedFor   string
	Revoke              token
}

type grantView struct {
	Name     string
	Verified bool
	May      []string
	Since    *moment
	Ended    *moment
	Reason   string
	Revoke   token
	Again    *token // of another issuer's: it stays out until it is allowed again
}

type sessionView struct {
	Agent, How, From string
	Here             bool
	Since, Seen      *moment
	End              token
}

var homeSheet = sync.OnceValue(func() *sheet {
	return newSheet("What may act as you", `
<p class="soft">Everything that gets into your mail at the moment. Revoke what you do not know or do not use.</p>
{{template "waiting" .Waiting}}
{{if .Lately}}<div class="note warn" role="status"><p><strong>How you sign in has changed lately.</strong> Was that not you? Look at <a href="/security">Sign-in security</a>, sign out all other browsers, and tell your postmaster.</p><ul>{{range .Lately}}<li>{{line .What}}{{with .Detail}}: {{line .}}{{end}} ({{template "moment" .At}}{{with .From}}, from {{.}}{{end}})</li>{{end}}</ul></div>{{end}}
<h2>App passwords</h2>
<ul class="cards">{{range .Passwords}}{{template "password" .}}{{else}}<li class="card soft">No app password is in force.</li>{{end}}</ul>
<p><a class="button" href="/passwords/new">Make an app password</a></p>
<h2>Programs you allowed</h2>
<ul class="cards">{{range .Grants}}<li class="card row"><div><h3>{{line .Name}}{{if not .Verified}} <span class="tag">chose its name itself</span>{{end}}</h3>
<ul>{{range .May}}<li>{{line .}}</li>{{end}}</ul><p class="small soft">{{if .Again}}Let in by its issuer since{{else}}Allowed{{end}} {{template "clock" .Since}}</p></div>
<form method="post" action="{{.Revoke.Action}}">{{template "hidden" .Revoke}}<button class="danger" aria-label="Revoke the program {{line .Name}}">Revoke</button></form></li>{{else}}<li class="card soft">No program has a right of its own.</li>{{end}}</ul>
<h2>Browsers that are signed in here</h2>
<ul class="cards">{{range .Sessions}}<li class="card row"><div><h3>{{line .Agent}}{{if .Here}} <span class="tag">this browser</span>{{end}}</h3>
<p class="small soft">Signed in {{with .How}}{{line .}} {{end}}{{template "clock" .Since}}; last seen {{template "moment" .Seen}}{{with .From}} from {{.}}{{end}}</p></div>
{{if not .Here}}<form method="post" action="{{.End.Action}}">{{template "hidden" .End}}<button class="danger" aria-label="Sign out {{line .Agent}}">Sign out</button></form>{{end}}</li>{{end}}</ul>
{{with .Others}}<form method="post" action="{{.Action}}">{{template "hidden" .}}<button class="danger">Sign out all others</button></form>{{end}}
{{if or .OldPasswords .OldGrants}}<details><summary>Ended app passwords and programs</summary><ul class="cards">
{{range .OldPasswords}}<li class="card"><h3>{{line .Label}} <span class="tag">{{.State}}</span></h3><p class="small soft">{{with .Ended}}{{template "clock" .}}{{end}}{{with .Reason}}: {{line .}}{{end}}{{with .Used}}; last used {{template "clock" .}}{{end}}</p></li>{{end}}
{{range .OldGrants}}<li class="card row"><div><h3>{{line .Name}} <span class="tag">revoked</span></h3><p class="small soft">{{with .Ended}}{{template "clock" .}}{{end}}{{with .Reason}}: {{line .}}{{end}}{{if .Again}}<br>It stays out, whatever the issuer gives it.{{end}}</p></div>
{{$name := .Name}}{{with .Again}}<form method="post" action="{{.Action}}">{{template "hidden" .}}<button aria-label="Allow the program {{line $name}} again">Allow again</button></form>{{end}}</li>{{end}}
</ul></details>{{end}}`+passwordBlock)
})

// passwordBlock is one app password in force.
const passwordBlock = `{{define "password"}}<li class="card row"><div><h3>{{line .Label}}{{if eq .State "expired"}} <span class="tag">expired</span>{{end}}</h3>
<ul>{{range .Rights}}<li>{{line .}}</li>{{end}}</ul>
<p class="small soft">{{with .Used}}Last used {{template "moment" .}}, {{.Clock}}{{else}}Never used{{end}}{{with .UsedFrom}}, from {{.}}{{end}}{{with .UsedFor}}, for {{.}}{{end}}<br>Made {{template "clock" .Made}}{{with .Expires}}; works until {{template "clock" .}}{{end}}</p></div>
<form method="post" action="{{.Revoke.Action}}">{{template "hidden" .Revoke}}<button class="danger" aria-label="Revoke the app password {{line .Label}}">Revoke</button></form></li>{{end}}`

func home(v *visit) error {
	ctx := v.r.Context()
	all, err := v.o.Store.Credentials(ctx, v.person.ID)
	if err != nil {
		return err
	}
	grants, err := v.o.Store.GrantsOf(ctx, v.person.ID)
	if err != nil {
		return err
	}
	sessions, err := v.o.Store.Sessions(ctx, v.person.ID)
	if err != nil {
		return err
	}
	data := struct {
		Waiting                 []string
		Passwords, OldPasswords []passwordView
		Grants, OldGrants       []grantView
		Sessions                []sessionView
		Others                  *token
		Lately                  []eventView
	}{Waiting: v.unconfirmed(v.person)}
	if data.Lately, err = v.lately(); err != nil {
		return err
	}
	for _, c := range all {
		view := v.viewPassword(c, v.person, "/passwords/revoke", string(c.ID))
		if view.State == "in force" {
			data.Passwords = append(data.Passwords, view)
		} else {
			data.OldPasswords = append(data.OldPasswords, view)
		}
	}
	newer := map[identity.ClientID]bool{}
	for _, g := range grants {
		view := v.viewGrant(g)
		if newer[g.Client] {
			view.Again = nil
		}
		newer[g.Client] = true
		if g.Revoked.IsZero() {
			data.Grants = append(data.Grants, view)
		} else {
			data.OldGrants = append(data.OldGrants, view)
		}
	}
	data.Sessions = v.viewSessions(sessions)
	if len(data.Sessions) > 1 {
		others := v.sign("/sessions/end-others", "")
		data.Others = &others
	}
	slices.SortStableFunc(data.OldGrants, func(a, b grantView) int { return cmp.Compare(stays(b), stays(a)) })
	data.OldPasswords = data.OldPasswords[:min(len(data.OldPasswords), oldShown)]
	data.OldGrants = data.OldGrants[:min(len(data.OldGrants), oldShown)]
	return v.show(homeSheet(), http.StatusOK, data)
}

// stays puts first what a person can have back.
func stays(g grantView) int {
	if g.Again != nil {
		return 1
	}
	return 0
}

// oldShown is how many of the ended ones are shown; the audit trail has all.
const oldShown = 20

func (v *visit) viewPassword(c identity.Credential, person identity.Person, action, id string) passwordView {
	view := passwordView{
		Label: c.Label, Login: identity.LoginName(person.Address, c.Name), State: "in force", Rights: rights(c),
		Made: v.moment(c.Created), Expires: v.moment(c.Expires), Ended: v.moment(c.Revoked), Reason: c.Reason,
		Used: v.moment(c.LastUse), Revoke: v.sign(action, id),
	}
	if view.Label == "" {
		view.Label = c.Name
	}
	if c.LastFrom.IsValid() {
		view.UsedFrom = c.LastFrom.String()
	}
	if c.LastProtocol != "" {
		view.UsedFor = protocolName(c.LastProtocol)
	}
	switch {
	case !c.Revoked.IsZero():
		view.State = "revoked"
	case !c.Expires.IsZero() && !v.now.Before(c.Expires):
		view.State, view.Ended = "expired", v.moment(c.Expires)
	}
	return view
}

func (v *visit) viewGrant(g identity.Grant) grantView {
	view := grantView{Name: "A program that is not known here any more", Verified: true, Since: v.moment(g.Created), Ended: v.moment(g.Revoked),
		Reason: g.Reason, Revoke: v.sign("/grants/revoke", string(g.ID))}
	if v.o.Client != nil {
		if client, ok := v.o.Client(g.Client); ok {
			view.Name, view.Verified = client.Name, client.Verified
		}
	}
	if _, _, outside := g.Client.Outside(); outside {
		again := v.sign("/grants/again", string(g.ID))
		view.Again = &again
	}
	for _, scope := range g.Scopes {
		view.May = append(view.May, scopeWords(scope))
	}
	return view
}

// viewSessions puts this browser first, and leaves out what has run out.
func (v *visit) viewSessions(sessions []identity.Session) []sessionView {
	var views []sessionView
	for _, s := range sessions {
		if !v.now.Before(s.Expires) {
			continue
		}
		view := sessionView{Agent: s.Agent, How: howWords(s.How) + factorWords(s), Here: s.ID.Equal(v.session.ID), Since: v.moment(s.Created), Seen: v.moment(seen(s)),
			End: v.sign("/sessions/end", hex.EncodeToString(s.ID[:]))}
		if s.From.IsValid() {
			view.From = s.From.String()
		}
		if view.Agent == "" {
			view.Agent = "A browser"
		}
		views = append(views, view)
	}
	slices.SortStableFunc(views, func(a, b sessionView) int {
		switch {
		case a.Here == b.Here:
			return 0
		case a.Here:
			return -1
		}
		return 1
	})
	return views
}

func seen(s identity.Session) time.Time {
	if s.Seen.IsZero() {
		return s.Created
	}
	return s.Seen
}

package portal

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/factor"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

type passkeyView struct {
	Name, From string
	Synced     bool
	Made, Used *moment
	Remove     token
}

type securityPage struct {
	Accounts           []bindingView
	Passkeys           []passkeyView
	CanPasskeys        bool
	App                *moment
	AppUsed            *moment
	RemoveApp, Renew   token
	Recovery           int
	RecoveryMade       *moment
	Unsafe, Few, Local bool
}

var securitySheet = sync.OnceValue(func() *sheet {
	return newSheet("Sign-in security", `
<p class="soft">How you prove that it is you. A second factor keeps your mail yours when somebody else gets into the account you sign in with.</p>
{{if .Unsafe}}<div class="note warn"><p><strong>You have no second factor.</strong> Add a passkey or an authenticator app.</p></div>{{end}}
{{if .Few}}<div class="note warn"><p><strong>{{if .Recovery}}Few recovery codes are left.{{else}}You have no recovery codes.{{end}}</strong> They let you in when a device is lost.{{if .Local}} Without them only an administrator can help you then.{{end}}</p></div>{{end}}
<h2>Passkeys</h2>
<ul class="cards">{{range .Passkeys}}<li class="card row"><div><h3>{{line .Name}}{{if .Synced}} <span class="tag">kept by a password manager</span>{{end}}</h3>
<p class="small soft">{{with .Used}}Last used {{template "moment" .}}, {{.Clock}}{{else}}Never used{{end}}{{with .From}}, from {{.}}{{end}}<br>Added {{template "clock" .Made}}</p></div>
<form method="post" action="{{.Remove.Action}}">{{template "hidden" .Remove}}<button class="danger" aria-label="Remove the passkey {{line .Name}}">Remove</button></form></li>{{else}}<li class="card soft">You have none.</li>{{end}}</ul>
{{if .CanPasskeys}}<p><a class="button" href="/security/passkey">Add a passkey</a></p>{{else}}<p class="soft">Passkeys need pages under a name, by https: ask your administrator.</p>{{end}}
<h2>Authenticator app</h2>
{{with .App}}<div class="card row"><div><p>In use since {{template "clock" .}}.</p><p class="small soft">{{with $.AppUsed}}Last used {{template "moment" .}}, {{.Clock}}{{end}}</p></div>
<form method="post" action="{{$.RemoveApp.Action}}">{{template "hidden" $.RemoveApp}}<button class="danger">Remove the app</button></form></div>
<p><a class="button" href="/security/app">Set up another in its place</a></p>{{else}}<p class="card soft">You have none.</p><p><a class="button" href="/security/app">Set up an app</a></p>{{end}}
<h2>Recovery codes</h2>
<div class="card"><p>{{if .RecoveryMade}}{{.Recovery}} of 10 are left of those made {{template "clock" .RecoveryMade}}.{{else}}You have none.{{end}}</p>
<form method="post" action="{{.Renew.Action}}">{{template "hidden" .Renew}}<button class="plain">{{if .RecoveryMade}}Make new ones; the old ones end{{else}}Make recovery codes{{end}}</button></form></div>
<h2>Accounts you sign in with</h2>
<ul class="cards">{{range .Accounts}}<li class="card"><h3>{{line .Shown}}</h3><p class="small soft">{{line .Issuer}}, since {{template "clock" .Bound}}</p></li>{{else}}<li class="card soft">None yet.</li>{{end}}</ul>`)
})

// fewCodes is when people are asked to make new ones.
const fewCodes = 3

func security(v *visit) error {
	has, err := v.o.Factors.Of(v.r.Context(), v.person.ID)
	if err != nil {
		return err
	}
	bindings, err := v.o.Store.Bindings(v.r.Context(), v.person.ID)
	if err != nil {
		return err
	}
	data := securityPage{
		CanPasskeys: v.o.Factors.Passkeys(), RemoveApp: v.sign("/security/app/remove", ""), Renew: v.sign("/security/recovery", ""),
		Recovery: has.Recovery, RecoveryMade: v.moment(has.RecoveryMade), Unsafe: !has.Second(), Local: onlyLocal(bindings),
		Few: (has.Second() || onlyLocal(bindings)) && has.Recovery < fewCodes,
	}
	if has.TOTP != nil {
		data.App, data.AppUsed = v.moment(has.TOTP.Created), v.moment(has.TOTP.LastUse)
	}
	for _, b := range bindings {
		view := bindingView{b.Shown, b.Issuer, v.moment(b.Bound)}
		if strings.HasPrefix(b.Issuer, localIssuer) {
			view = bindingView{"A passkey, by itself", "here", v.moment(b.Bound)}
		}
		data.Accounts = append(data.Accounts, view)
	}
	for _, k := range has.Passkeys {
		view := passkeyView{Name: k.Name, Synced: k.Synced, Made: v.moment(k.Created), Used: v.moment(k.LastUse), Remove: v.sign("/security/passkey/remove", hex.EncodeToString(k.ID))}
		if k.LastFrom.IsValid() {
			view.From = k.LastFrom.String()
		}
		data.Passkeys = append(data.Passkeys, view)
	}
	return v.show(securitySheet(), http.StatusOK, data)
}

// localIssuer begins the issuer of accounts that are passkeys alone.
const localIssuer = "passkey:"

func onlyLocal(bindings []identity.Binding) bool {
	return len(bindings) > 0 && !slices.ContainsFunc(bindings, func(b identity.Binding) bool { return !strings.HasPrefix(b.Issuer, localIssuer) })
}

// proved: the person proved who they are a short while ago, by a second factor when they
// have one. Where the browser stands (a trusted network) plays no part.
func (v *visit) proved() (bool, error) {
	if !v.fresh() || v.o.Factors == nil || v.session.Factor != "" {
		return v.fresh(), nil
	}
	has, err := v.o.Factors.Of(v.r.Context(), v.person.ID)
	return !has.Second(), err
}

// changesFactors lets through who may change how they sign in: a browser in which somebody
// signed in themselves, not one that a mail program or the web mail opened, with a fresh
// proof. Others are answered.
func (v *visit) changesFactors(back string) bool {
	kind, _, _ := strings.Cut(v.session.How, ":")
	if !slices.Contains([]string{"github", "oidc", "passkey", "recovery"}, kind) {
		v.answer(&fault{http.StatusForbidden, "This browser cannot change how you sign in.", "Sign in here yourself, in a browser of your own."})
		return false
	}
	ok, err := v.proved()
	if err != nil {
		v.answer(err)
		return false
	}
	if !ok {
		v.o.SignIn(v.w, v.r, back, true)
	}
	return ok
}

var passkeySheet = sync.OnceValue(func() *sheet {
	return newScriptSheet("Add a passkey", `
<p class="soft">A passkey is kept by this device, your password manager, or a security key. It asks for your finger, face or PIN, and proves that it is you; no password leaves the device.</p>
{{with .Problem}}<div class="note bad" role="alert"><p>{{.}}</p></div>{{end}}
<div class="card">{{template "passkey" .Form}}</div><p><a href="/security">Back</a></p>`+web.PasskeyPart)
})

func newPasskey(v *visit) error { return v.showNewPasskey(http.StatusOK, "") }

func (v *visit) showNewPasskey(status int, problem string) error {
	if !v.o.Factors.Passkeys() {
		return &fault{http.StatusNotFound, "There are no passkeys at this address.", "Passkeys need pages under a name, by https."}
	}
	options, err := v.o.Factors.NewPasskey(v.r.Context(), "portal", v.browser(), v.person)
	if errors.Is(err, factor.ErrFull) {
		return &fault{http.StatusConflict, "You have as many passkeys as one can have.", "Remove one first."}
	}
	if err != nil {
		return err
	}
	return v.show(passkeySheet(), status, struct {
		Problem string
		Form    web.PasskeyForm
	}{problem, web.PasskeyForm{Action: "/security/passkey", Options: options, New: true, Name: true, Button: "Make the passkey",
		Hidden: []string{"token", v.sign("/security/passkey", "").Token}}})
}

// browser binds challenges to the session.
func (v *visit) browser() string { return hex.EncodeToString(v.session.ID[:]) }

func addPasskey(v *visit) error {
	err := v.o.Store.Together(v.r.Context(), func(ctx context.Context) error {
		key, err := v.o.Factors.AddPasskey(ctx, "portal", v.browser(), v.person, v.form.Get("name"), v.form.Get("answer"))
		if err != nil {
			return err
		}
		return v.record(ctx, "factor.added", v.person.ID, "passkey "+key.Name)
	})
	switch {
	case v.form.Get("answer") == "":
		return v.showNewPasskey(http.StatusUnprocessableEntity, "No passkey arrived. Passkeys need script in your browser.")
	case errors.Is(err, factor.ErrStale):
		return v.showNewPasskey(http.StatusForbidden, "This page was open for too long. Press the button once more.")
	case errors.Is(err, factor.ErrWrong), errors.Is(err, factor.ErrSpent):
		v.o.Log.Info("passkey refused", "person", v.person.Address, "error", err)
		return v.showNewPasskey(http.StatusForbidden, "That passkey could not be taken. Try again, or use another device.")
	case err != nil:
		return err
	}
	return v.done("/security", "factor-added")
}

// removePasskey leaves nobody without a way in.
func removePasskey(v *visit) error {
	id, err := hex.DecodeString(v.form.Get("id"))
	if err != nil {
		return identity.ErrNotFound
	}
	err = v.o.Store.Together(v.r.Context(), func(ctx context.Context) error { return v.dropPasskey(ctx, id) })
	if err != nil {
		return err
	}
	return v.done("/security", "factor-removed")
}

func (v *visit) dropPasskey(ctx context.Context, id []byte) error {
	has, err := v.o.Factors.Of(ctx, v.person.ID)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(has.Passkeys, func(k identity.Passkey) bool { return string(k.ID) == string(id) })
	if at < 0 {
		return identity.ErrNotFound
	}
	bindings, err := v.o.Store.Bindings(ctx, v.person.ID)
	if err != nil {
		return err
	}
	if len(has.Passkeys) == 1 && onlyLocal(bindings) {
		return &fault{http.StatusConflict, "This passkey is the only one, and you sign in with it.", "Add another first; then remove this one."}
	}
	if err := v.o.Factors.RemovePasskey(ctx, v.person.ID, id); err != nil {
		return err
	}
	last := ""
	if len(has.Passkeys) == 1 && has.TOTP == nil {
		last = ", the last second factor"
	}
	return v.record(ctx, "factor.removed", v.person.ID, "passkey "+has.Passkeys[at].Name+last)
}

var appSheet = sync.OnceValue(func() *sheet {
	return newSheet("Set up an authenticator app", `
<p class="soft">The app shows a new code every half minute, which you are asked for when you sign in.</p>
{{with .Problem}}<div class="note bad" role="alert"><p id="problem">{{.}}</p></div>{{end}}
<div class="card"><h2>1. Give the app the key</h2><p>Read the picture with it, open <a href="{{.URI}}">this link</a> on the device with the app, or type the key into it.</p>
<img class="qr" src="{{.Picture}}" alt="The key below, as a picture for the app"><p class="secret" id="key">{{.Text}}</p></div>
<form method="post" action="/security/app" class="card">{{template "hidden" .Token}}<input type="hidden" name="ticket" value="{{.Ticket}}"><h2>2. Type what it shows</h2>
<label for="code">Code</label><input type="text" id="code" name="code" inputmode="numeric" maxlength="10" autocomplete="one-time-code" required{{if .Problem}} aria-invalid="true" aria-describedby="problem"{{end}}>
<p><button>Use the app</button></p></form><p><a href="/security">Back</a></p>`)
})

func newApp(v *visit) error {
	app, err := v.o.Factors.NewApp(v.person)
	if err != nil {
		return err
	}
	return v.showApp(http.StatusOK, app, "")
}

func (v *visit) showApp(status int, app factor.App, problem string) error {
	return v.show(appSheet(), status, struct {
		Problem, Text, Ticket string
		Picture, URI          any
		Token                 token
	}{problem, app.Text.Reveal(), app.Ticket, web.Picture(app.QR), web.AppLink(app.URI.Reveal()),
		v.sign("/security/app", "")})
}

func addApp(v *visit) error {
	ticket := v.form.Get("ticket")
	err := v.change("factor.added", v.person.ID, "authenticator app", func(ctx context.Context) error {
		return v.o.Factors.AddApp(ctx, v.person.ID, ticket, v.form.Get("code"))
	})
	switch {
	case errors.Is(err, factor.ErrStale):
		fresh, err := v.o.Factors.NewApp(v.person)
		if err != nil {
			return err
		}
		return v.showApp(http.StatusForbidden, fresh, "This page was open for too long. Give the app this new key.")
	case errors.Is(err, factor.ErrWrong):
		app, err := v.o.Factors.SameApp(v.person, ticket)
		if err != nil {
			return err
		}
		return v.showApp(http.StatusUnprocessableEntity, app, "That is not the code of this key. Look at the clock of the device, and type the code that it shows now.")
	case err != nil:
		return err
	}
	return v.done("/security", "factor-added")
}

func removeApp(v *visit) error {
	err := v.o.Store.Together(v.r.Context(), func(ctx context.Context) error {
		has, err := v.o.Factors.Of(ctx, v.person.ID)
		if err != nil {
			return err
		}
		last := ""
		if len(has.Passkeys) == 0 {
			last = ", the last second factor"
		}
		if err := v.o.Factors.RemoveTOTP(ctx, v.person.ID); err != nil {
			return err
		}
		return v.record(ctx, "factor.removed", v.person.ID, "authenticator app"+last)
	})
	if err != nil {
		return err
	}
	return v.done("/security", "factor-removed")
}

var codesSheet = sync.OnceValue(func() *sheet {
	return newSheet("Your recovery codes", `
<div class="note warn"><p><strong>These are shown once.</strong> Print them, or put them where you keep what must not be lost. Each lets you in once when a device is gone. Those made before are worth nothing now.</p></div>
<pre id="codes">{{range .}}{{.}}
{{end}}</pre><p><a class="button" href="/security">Done: I have them</a></p>`)
})

// newRecovery shows the codes on the answer itself: they have no address at which they
// could be seen again.
func newRecovery(v *visit) error {
	var codes []secret.String
	err := v.change("recovery.made", v.person.ID, "", func(ctx context.Context) (err error) {
		codes, err = v.o.Factors.NewRecovery(ctx, v.person.ID)
		return err
	})
	if err != nil {
		return err
	}
	var text []string
	for _, code := range codes {
		text = append(text, code.Reveal())
	}
	return v.show(codesSheet(), http.StatusOK, text)
}

// noticed is how long a change of how a person signs in is told them on their first page.
const noticed = 3 * 24 * time.Hour

// lately are changes that the person should know of, whichever browser made them.
func (v *visit) lately() ([]eventView, error) {
	if v.o.Factors == nil {
		return nil, nil
	}
	var views []eventView
	for _, kind := range []string{"factor.", "recovery."} {
		events, err := v.o.Store.Events(v.r.Context(), identity.EventFilter{Person: v.person.ID, Kind: kind, Limit: 20})
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			told := slices.Contains([]string{"factor.added", "factor.removed", "factor.cloned", "recovery.made", "recovery.used"}, e.Kind)
			if told && v.now.Sub(e.At) < noticed && len(views) < 5 {
				views = append(views, v.viewEvent(e, nil))
			}
		}
	}
	return views, nil
}

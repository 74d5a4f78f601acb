package authserver

import (
	"net/url"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// consentView is what the consent page shows. Names of programs are text to the
// template, and marked when the program chose its own.
type consentView struct {
	Action, Address, Target, Request, Token string
	Client                                  identity.Client
	Lines                                   []string
	OfferSendOnly                           bool
}

var consentPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Allow this program to use your mail?", `
<p><strong>{{.Client.Name}}</strong> asks to act as <strong>{{.Address}}</strong>:</p>
<ul>{{range .Lines}}<li>{{.}}</li>{{end}}</ul>
{{if not .Client.Verified}}<p class="warn">Nobody here has checked this program; it chose its name itself.</p>{{end}}
<p class="note">The answer goes to {{.Target}}. Your password is not given to anybody.</p>
<form method="post" action="{{.Action}}">
<input type="hidden" name="request" value="{{.Request}}"><input type="hidden" name="token" value="{{.Token}}">
{{if .OfferSendOnly}}<fieldset><label><input type="checkbox" name="limit" value="send-only"> only let it send, not read</label></fieldset>{{end}}
<button name="decision" value="allow">Allow</button><button name="decision" value="deny">Refuse</button>
</form>`)
})

// deviceView is what the device pages show.
type deviceView struct {
	Action, Address, UserCode, Trouble, Token, From, When string
	Client                                                identity.Client
	Lines                                                 []string
	OfferSendOnly                                         bool
}

var deviceEntryPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Connect a device", `
{{with .Trouble}}<p class="warn">{{.}}</p>{{end}}
<p>Type the code that the device or program shows you.</p>
<form method="post" action="{{.Action}}">
<label>Code <input type="text" name="user_code" value="{{.UserCode}}" autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="20" required></label>
<button>Continue</button></form>
<p class="note">Got the code from somebody else, by mail or on the phone? Close this page: they would get into your mail.</p>`)
})

var deviceConfirmPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Is this your device?", `
<p>Code <strong>{{.UserCode}}</strong>: <strong>{{.Client.Name}}</strong> asked from network address <strong>{{.From}}</strong>
at {{.When}} to act as <strong>{{.Address}}</strong>:</p>
<ul>{{range .Lines}}<li>{{.}}</li>{{end}}</ul>
{{if not .Client.Verified}}<p class="warn">Nobody here has checked this program; it chose its name itself.</p>{{end}}
<p class="warn">Allow it only if the device in front of you shows this code, and you started it yourself.</p>
<form method="post" action="{{.Action}}">
<input type="hidden" name="user_code" value="{{.UserCode}}"><input type="hidden" name="token" value="{{.Token}}">
{{if .OfferSendOnly}}<fieldset><label><input type="checkbox" name="limit" value="send-only"> only let it send, not read</label></fieldset>{{end}}
<button name="decision" value="allow">Allow</button><button name="decision" value="deny">Refuse</button>
</form>`)
})

var deviceDonePage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Done", `<p>{{if .}}The device goes on by itself within a few seconds.{{else}}The device was refused.{{end}} You may close this page.</p>`)
})

func scopeLines(scopes []string) []string {
	lines := make([]string, 0, len(scopes))
	for _, scope := range scopes {
		lines = append(lines, describeScope(scope))
	}
	return lines
}

// targetOf names the place that gets the answer, in words.
func targetOf(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil:
		return "an unknown place"
	case loopback(u.Hostname()):
		return "a program on this computer"
	case u.Host != "":
		return u.Host
	}
	return "the program behind " + u.Scheme + ":"
}

package web

import (
	_ "embed"
	"net/http"
)

// ScriptPath is where the one script of ours is: it lets browsers make and use passkeys.
const ScriptPath = "/assets/passkey.js"

// ScriptPolicy is what a page adds to its Content-Security-Policy to load it. No inline
// script is ever allowed.
const ScriptPolicy = "script-src 'self'"

//go:embed passkey.js
var passkeyScript []byte

// Script answers with it. Its address does not change with its text, so browsers ask
// again each time; it is small.
func Script(w http.ResponseWriter, _ *http.Request) {
	head := w.Header()
	head.Set("Content-Type", "text/javascript; charset=utf-8")
	head.Set("Cache-Control", "no-cache")
	head.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(passkeyScript)
}

// A PasskeyForm is the part of a page that asks a browser for a passkey; PasskeyPart shows
// it. Without script its button leads to a page that says that passkeys need it.
type PasskeyForm struct {
	Action  string
	Options string // JSON for the browser
	New     bool   // makes a passkey; false: uses one
	Button  string
	Name    bool // asks what the new one is to be called
	Plain   bool // the button is not the main one of the page
	// Hidden are further fields, name and value in turns.
	Hidden []string
}

// Fields pairs Hidden for the template.
func (f PasskeyForm) Fields() [][2]string {
	var pairs [][2]string
	for i := 0; i+1 < len(f.Hidden); i += 2 {
		pairs = append(pairs, [2]string{f.Hidden[i], f.Hidden[i+1]})
	}
	return pairs
}

// PasskeyPart is the template of a PasskeyForm, as "passkey".
const PasskeyPart = `{{define "passkey"}}<form method="post" action="{{.Action}}" data-passkey="{{if .New}}create{{else}}get{{end}}" data-options="{{.Options}}">
{{range .Fields}}<input type="hidden" name="{{index . 0}}" value="{{index . 1}}">{{end}}<input type="hidden" name="answer" value="">
{{if .Name}}<label for="passkey-name">What is it to be called?</label><p class="hint" id="passkey-name-hint">Like: laptop, security key on the ring.</p><input type="text" id="passkey-name" name="name" maxlength="60" autocomplete="off" aria-describedby="passkey-name-hint">{{end}}
<p class="bad" role="alert" hidden></p><button{{if .Plain}} class="plain"{{end}}>{{.Button}}</button><noscript><p class="hint">Passkeys need script in your browser; everything else here works without.</p></noscript></form>{{end}}`

package login

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
)

// A message is what one page says. All of them are fixed: nothing of a request ever
// reaches a page.
type message int

const (
	strayMessage message = iota
	arrivedMessage
	deniedMessage
	refusedMessage
	lateMessage
)

func (m message) words() (title, text string) {
	switch m {
	case arrivedMessage:
		// Not "signed in": the code has yet to be exchanged, and the terminal tells
		// how that went.
		return "The answer has arrived", "You can close this window and go back to the program you started the sign-in from."
	case deniedMessage:
		return "The sign-in was not completed", "The provider said no. The program you started the sign-in from tells why. You can close this window."
	case refusedMessage:
		return "This answer was refused", "It does not belong to the sign-in that is waiting here, and nothing was changed. To sign in, start again from the program."
	case lateMessage:
		return "Already done", "This sign-in has had its answer. You can close this window."
	}
	return "Nothing here", "This address only waits for a sign-in to come back."
}

const pageStyle = `body{margin:0;min-height:100vh;display:grid;place-items:center;background:#f4f5f7;color:#1d2733;` +
	`font:1.05rem/1.6 system-ui,sans-serif}main{max-width:26rem;margin:1rem;padding:2rem 2.2rem;background:#fff;` +
	`border-radius:.8rem;box-shadow:0 1px 12px #0002}h1{margin:0 0 .6rem;font-size:1.35rem}p{margin:0}` +
	`footer{margin-top:1.4rem;font-size:.85rem;color:#5b6774}` +
	`@media(prefers-color-scheme:dark){body{background:#14181d;color:#e6eaef}main{background:#1f262e}footer{color:#9aa6b2}}`

// page returns a whole page. The program's name comes from the caller.
func page(app string, say message) []byte {
	title, text := say.words()
	return []byte(`<!doctype html><html lang="en"><head><meta charset="utf-8">` +
		`<meta name="viewport" content="width=device-width,initial-scale=1">` +
		`<title>` + html.EscapeString(title+" - "+app) + `</title><style>` + pageStyle + `</style></head><body><main>` +
		`<h1>` + html.EscapeString(title) + `</h1><p>` + html.EscapeString(text) + `</p>` +
		`<footer>` + html.EscapeString(app) + `</footer></main></body></html>` + "\n")
}

// secure sets what every page of the door carries. The page's address holds the
// code: no-referrer and no-store keep it from wandering.
func secure(header http.Header) {
	sum := sha256.Sum256([]byte(pageStyle))
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+
		base64.StdEncoding.EncodeToString(sum[:])+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
}

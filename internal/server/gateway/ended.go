package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// background reports whether a script or an element of a page asks, for which a page or a
// redirect to one would be no answer.
func background(r *http.Request) bool {
	if r.Header.Get("X-Requested-With") == "XMLHttpRequest" || upgrades(r) {
		return true
	}
	mode := r.Header.Get("Sec-Fetch-Mode")
	return mode != "" && mode != "navigate"
}

// framed reports whether the answer goes into a frame of the web mail.
func framed(r *http.Request) bool {
	dest := r.Header.Get("Sec-Fetch-Dest")
	return dest == "iframe" || dest == "frame"
}

// ended answers who has no session, or none any more. What is being written must survive
// it: a script is told in a way that it understands, a frame does not become a sign-in page,
// a form that is lost is said to be lost; only a page that is asked for leads to the sign-in.
func (g *Gateway) ended(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case background(r) && g.o.Preset.roundcube && r.Header.Get("X-Requested-With") != "":
		g.endedRoundcube(w, r)
	case background(r):
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "session_ended", "sign_in": g.o.PublicURL + "/"})
	case framed(r):
		g.endedFrame(w)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		g.depart(w, r, r.URL.RequestURI())
	default:
		web.Headers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			lostPage().Show(w, http.StatusUnauthorized, nil)
		})).ServeHTTP(w, r)
	}
}

var lostPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("You are signed out", `<p>What you sent was not done: your session had ended.</p>
<p>Go back in your browser to keep what you wrote. <a href="/" target="_blank" rel="noopener">Sign in in a new window</a>, and send it again.</p>`)
})

// signedOut is what the person reads while a message is being written.
const signedOut = "You are signed out. What you wrote is kept in this browser: open a new window, sign in, and go on."

// endedRoundcube speaks as Roundcube does when its own session is over: its script then
// keeps a message that is being written, and leads to the sign-in otherwise.
func (g *Gateway) endedRoundcube(w http.ResponseWriter, r *http.Request) {
	answer := map[string]any{
		"action": "", "unlock": true,
		"exec": `this.display_message("` + signedOut + `","error",0);` + "\n" + `this.session_error("/");` + "\n",
	}
	if action := r.URL.Query().Get("_action"); plainValue(action) {
		answer["action"] = action
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_ = json.NewEncoder(w).Encode(answer)
}

// frameScript tells the page around the frame. It is the answer to Roundcube's own way of
// sending: a form whose answer goes into a hidden frame.
const frameScript = `var r=window.parent!==window&&parent.rcmail;if(r){r.set_busy(false);if(r.iframe_loaded)r.iframe_loaded();` +
	`r.display_message("` + signedOut + ` Nothing was sent.","error",0);r.session_error("/")}`

const frameText = `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>You are signed out</title></head><body><p>You are signed out.</p><script>` + frameScript + `</script></body></html>
`

var frameHash = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(frameScript))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
})

func (g *Gateway) endedFrame(w http.ResponseWriter) {
	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Frame-Options", "SAMEORIGIN")
	policy := "default-src 'none'; frame-ancestors 'self'; base-uri 'none'"
	if g.o.Preset.roundcube {
		policy += "; script-src " + frameHash()
	}
	head.Set("Content-Security-Policy", policy)
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(w, frameText)
}

// Package web is what every page of letterlockd shares: the headers, the layout, the
// error page, and the token that proves a form to be ours. Pages themselves live in
// the packages whose pages they are.
//
// Pages work without script and load nothing: no script, image, font or frame is
// allowed by their policy, so that an injected one would do nothing.
package web

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

const style = `body{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:3em auto;padding:0 1em;color:#1b1f24;background:#fff}
h1{font-size:1.4em}button{font:inherit;padding:.5em 1.2em;margin:.3em .5em .3em 0;cursor:pointer}
input[type=text]{font:inherit;padding:.4em;letter-spacing:.1em}.note{color:#57606a}.warn{border-left:4px solid #b35900;padding-left:.8em}
fieldset{border:1px solid #d0d7de;margin:1em 0}`

const layout = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Title}}</title><style>` + style + `</style></head>
<body><h1>{{.Title}}</h1>
{{template "body" .Data}}
</body></html>
`

// A Page is a body inside the common layout.
type Page struct {
	title string
	tmpl  *template.Template
}

// NewPage parses the body of a page; a fault in it is a fault of the program.
func NewPage(title, body string) *Page {
	tmpl := template.Must(template.New("layout").Parse(layout))
	template.Must(tmpl.New("body").Parse(body))
	return &Page{title: title, tmpl: tmpl}
}

// Show answers with the page. formTargets are redirect URIs that a form of the page
// may lead to: browsers apply form-action to redirects after the POST too, and a
// consent would die there silently.
func (p *Page) Show(w http.ResponseWriter, status int, data any, formTargets ...string) {
	var body bytes.Buffer
	if err := p.tmpl.Execute(&body, struct {
		Title string
		Data  any
	}{p.title, data}); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("Content-Security-Policy", policy(formTargets))
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

func policy(formTargets []string) string {
	targets := "'self'"
	for _, target := range formTargets {
		targets += " " + formSource(target)
	}
	return "default-src 'none'; style-src '" + styleHash() + "'; form-action " + targets +
		"; frame-ancestors 'none'; base-uri 'none'"
}

// formSource writes a redirect URI as a CSP source. IPv6 hosts and schemes of
// programs have no host source in that grammar: the scheme alone stands for them, as
// it does for every host that is not plain letters.
func formSource(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Scheme == "" {
		return "'none'"
	}
	// net/url lets a host hold ; and , which end a directive and a policy.
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-:", r)
	}
	if u.Host == "" || strings.ContainsFunc(u.Host, func(r rune) bool { return !plain(r) }) || (u.Scheme != "http" && u.Scheme != "https") {
		return u.Scheme + ":"
	}
	return u.Scheme + "://" + u.Host
}

var styleHash = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(style))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
})

var errorPage = sync.OnceValue(func() *Page {
	return NewPage("This did not work", `<p>{{.What}}</p>{{with .Hint}}<p class="note">{{.}}</p>{{end}}`)
})

// Fault answers a person with what went wrong and what to do now.
func Fault(w http.ResponseWriter, status int, what, hint string) {
	errorPage().Show(w, status, struct{ What, Hint string }{what, hint})
}

// Headers sets on every answer what no page should be without: pages with rights on
// them are not kept by caches, framed, sniffed, or named in a Referer (the address
// of an authorization page holds the state).
func Headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Cache-Control", "no-store")
		head.Set("Pragma", "no-cache")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("X-Frame-Options", "DENY")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// A FormKey proves forms to be ours. The origin check of net/http stops other sites;
// this stops a form that was made in another session or for another purpose.
type FormKey []byte

// Token binds a form to a session, a purpose and the text it decides about.
func (k FormKey) Token(session, purpose, text string) string {
	mac := hmac.New(sha256.New, k)
	for _, part := range []string{session, purpose, text} {
		// Lengths keep ("ab","c") and ("a","bc") apart.
		_ = binary.Write(mac, binary.BigEndian, uint64(len(part)))
		mac.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Valid reports whether token was made by Token of the same values.
func (k FormKey) Valid(token, session, purpose, text string) bool {
	return hmac.Equal([]byte(token), []byte(k.Token(session, purpose, text)))
}

// LocalPath reports whether a "go back to" value is a path of this site: anything
// that a browser could read as another host is refused.
func LocalPath(path string) bool {
	if !strings.HasPrefix(path, "/") || len(path) > 16<<10 {
		return false
	}
	for _, r := range path {
		if r < 0x21 || r >= 0x7f || r == '\\' {
			return false
		}
	}
	u, err := url.Parse(path)
	// //host and /\host are hosts to a browser; so is /%2f%2f to some proxies.
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && !strings.HasPrefix(path, "//") &&
		!strings.HasPrefix(u.Path, "//") && !strings.ContainsFunc(u.Path, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' })
}

// Package web is what every page of letterlockd shares: the headers, the layout, the
// error page, and the token that proves a form to be ours. Pages themselves live in
// the packages whose pages they are.
//
// Pages work without script and load nothing: no script, font or frame is allowed by
// their policy, so that an injected one would do nothing. Passkeys cannot do without: pages
// that offer them may load one file from here, and nothing inline.
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

// The colours are those of the portal: 4.5:1 between text and ground in both schemes (WCAG
// 2.2, 1.4.3), 3:1 around what can be operated.
const style = `:root{--ground:#f4f5f7;--card:#fff;--text:#1b1f24;--soft:#525c66;--line:#d5dae0;--edge:#6b7580;--link:#0b56a4;--on:#fff;--bad:#a8201a;--badground:#fdeceb;--warn:#6b4500;--warnground:#fff4dc;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ground:#12161b;--card:#1b2128;--text:#e7ebf0;--soft:#a9b4bf;--line:#333c46;--edge:#87929e;--link:#8ac1fa;--on:#0d1823;--bad:#ffa39b;--badground:#3a1c1a;--warn:#f5d08a;--warnground:#362a10}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;margin:0;padding:2.5rem 1rem;color:var(--text);background:var(--ground);overflow-wrap:anywhere}
main{max-width:34rem;margin:0 auto;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:1.2rem 1.4rem 1.4rem}
h1{font-size:1.4rem;line-height:1.25;margin:.3rem 0 .8rem}h2{font-size:1.1rem;margin:1.5rem 0 .4rem}p{margin:.6rem 0}a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:3px}
ul.doors{list-style:none;margin:.6rem 0;padding:0}ul.doors li{margin:.5rem 0}
button,.button{font:inherit;display:inline-block;min-height:44px;padding:.5rem 1.2rem;margin:.3rem .5rem .3rem 0;border:1px solid var(--link);border-radius:6px;background:var(--link);color:var(--on);cursor:pointer;text-decoration:none}
button.plain,.button.plain{background:transparent;color:var(--link)}button:hover,.button:hover{filter:brightness(1.08);text-decoration:underline}
label{display:block;font-weight:600;margin-top:.8rem}
input[type=text],input[type=email]{font:inherit;width:100%;max-width:24rem;min-height:44px;padding:.4rem .6rem;border:1px solid var(--edge);border-radius:6px;background:var(--card);color:var(--text);display:block;margin:.2rem 0 .4rem}
input.code{letter-spacing:.1em}
.note,.hint{color:var(--soft)}.hint{font-size:.9rem;margin:.1rem 0}
.warn,.bad{border-left:5px solid;border-radius:6px;padding:.6rem .9rem;margin:.9rem 0}.warn{color:var(--warn);background:var(--warnground)}.bad{color:var(--bad);background:var(--badground)}
.secret{font:1rem/1.5 ui-monospace,"DejaVu Sans Mono",Menlo,monospace;border:1px solid var(--edge);border-radius:6px;padding:.5rem .8rem;user-select:all;-webkit-user-select:all}
img.qr{display:block;max-width:100%;height:auto;border:12px solid #fff;margin:.6rem 0}
details{margin:1rem 0}summary{cursor:pointer;padding:.5rem 0;color:var(--link)}
fieldset{border:1px solid var(--line);border-radius:8px;margin:1em 0}`

const layout = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{{.Title}}</title><link rel="icon" href="data:,"><style>` + style + `</style>{{if .Script}}<script src="` + ScriptPath + `" defer></script>{{end}}</head>
<body><main><h1>{{.Title}}</h1>
{{template "body" .Data}}
</main></body></html>
`

// A Page is a body inside the common layout.
type Page struct {
	title  string
	tmpl   *template.Template
	script bool
}

// NewPage parses the body of a page; a fault in it is a fault of the program.
func NewPage(title, body string) *Page {
	tmpl := template.Must(template.New("layout").Parse(layout))
	template.Must(tmpl.New("body").Parse(body))
	return &Page{title: title, tmpl: tmpl}
}

// NewScriptPage is NewPage for a page that offers passkeys.
func NewScriptPage(title, body string) *Page {
	page := NewPage(title, body)
	page.script = true
	return page
}

// Show answers with the page. formTargets are redirect URIs that a form of the page
// may lead to: browsers apply form-action to redirects after the POST too, and a
// consent would die there silently.
func (p *Page) Show(w http.ResponseWriter, status int, data any, formTargets ...string) {
	var body bytes.Buffer
	if err := p.tmpl.Execute(&body, struct {
		Title  string
		Data   any
		Script bool
	}{p.title, data, p.script}); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("Content-Security-Policy", policy(formTargets))
	if p.script {
		head.Set("Content-Security-Policy", policy(formTargets)+"; "+ScriptPolicy)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

func policy(formTargets []string) string {
	targets := "'self'"
	for _, target := range formTargets {
		targets += " " + formSource(target)
	}
	return "default-src 'none'; style-src '" + styleHash() + "'; img-src data:; form-action " + targets +
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

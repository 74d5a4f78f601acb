package portal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// The colours keep 4.5:1 between text and ground in both schemes (WCAG 2.2, 1.4.3), and
// 3:1 around what can be operated; a test in the browser measures them.
const style = `:root{--ground:#f4f5f7;--card:#fff;--text:#1b1f24;--soft:#525c66;--line:#d5dae0;--edge:#6b7580;--link:#0b56a4;--on:#fff;--bad:#a8201a;--badground:#fdeceb;--good:#14532d;--goodground:#e7f5ec;--warn:#6b4500;--warnground:#fff4dc;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ground:#12161b;--card:#1b2128;--text:#e7ebf0;--soft:#a9b4bf;--line:#333c46;--edge:#87929e;--link:#8ac1fa;--on:#0d1823;--bad:#ffa39b;--badground:#3a1c1a;--good:#a5e3bd;--goodground:#173324;--warn:#f5d08a;--warnground:#362a10}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;margin:0;color:var(--text);background:var(--ground);overflow-wrap:anywhere}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:3px}
.skip{position:absolute;left:-99em}.skip:focus{left:1em;top:.5em;background:var(--card);padding:.4em .8em;z-index:1}
header{background:var(--card);border-bottom:1px solid var(--line)}
header>div,main,footer{max-width:52rem;margin:0 auto;padding:0 1rem}
header .top{display:flex;flex-wrap:wrap;gap:.3rem 1rem;align-items:center;justify-content:space-between;padding-top:.7rem}
header .brand{font-weight:700;text-decoration:none;color:var(--text)}
header form{display:flex;gap:.8rem;align-items:center;margin:0}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:0 1.2rem;margin:0;padding:.2rem 0}
nav a{display:inline-block;padding:.55rem 0;text-decoration:none;border-bottom:3px solid transparent}
nav a:hover{border-color:var(--line)}nav a[aria-current]{border-color:var(--link);color:var(--text);font-weight:600}
nav.admin{border-top:1px solid var(--line)}
h1{font-size:1.55rem;line-height:1.25;margin:1.6rem 0 .5rem}h2{font-size:1.15rem;margin:2rem 0 .6rem}h3{font-size:1rem;margin:0}
p{margin:.5rem 0}.soft{color:var(--soft)}.small{font-size:.9rem}
.card,fieldset{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.9rem 1rem;margin:0 0 .8rem}
ul.cards{list-style:none;margin:0;padding:0}
.card.row{display:flex;flex-wrap:wrap;gap:.6rem 1rem;justify-content:space-between;align-items:flex-start}.card.row>div{flex:1 1 16rem;min-width:0}.card.row form{margin:0}
.card ul{margin:.3rem 0;padding-left:1.1rem}
.tag{display:inline-block;font-size:.85rem;border:1px solid var(--edge);border-radius:99px;padding:0 .6rem;margin-left:.4rem;font-weight:400}
.note{border-left:5px solid;border-radius:6px;padding:.7rem 1rem;margin:1rem 0}.note p:first-child{margin-top:0}.note p:last-child{margin-bottom:0}
.good{color:var(--good);background:var(--goodground)}.warn{color:var(--warn);background:var(--warnground)}.bad{color:var(--bad);background:var(--badground)}
.note a{color:inherit}
button,.button{font:inherit;display:inline-block;min-height:44px;padding:.5rem 1.1rem;border:1px solid var(--link);border-radius:6px;background:var(--link);color:var(--on);cursor:pointer;text-decoration:none}
button.plain{background:transparent;color:var(--link)}button.danger{background:transparent;color:var(--bad);border-color:var(--bad)}
button:hover,.button:hover{filter:brightness(1.08);text-decoration:underline}
legend{font-weight:600;padding:0 .3rem}
label,.label{display:block;font-weight:600;margin-top:.9rem}label.choice{font-weight:400;margin:0;padding:.35rem 0;display:flex;gap:.6rem;align-items:flex-start}
label.choice input{width:1.25rem;height:1.25rem;margin:.15rem 0 0;flex:none}
fieldset>label:first-of-type{margin-top:.2rem}.card>h2,form.card>label:first-of-type{margin-top:0}.card>p:last-child,.card>div>p:last-child{margin-bottom:0}fieldset.flat{border:0;padding:0;margin:.9rem 0 0}
input[type=text],input[type=search],input[type=number],textarea,select{font:inherit;width:100%;max-width:30rem;min-height:44px;padding:.5rem .6rem;border:1px solid var(--edge);border-radius:6px;background:var(--card);color:var(--text);display:block;margin:.2rem 0}
input[type=number]{max-width:10rem}textarea{min-height:5.2rem;resize:vertical}
[aria-invalid=true]{border:2px solid var(--bad)!important}
.error{color:var(--bad);font-weight:600;margin:.2rem 0}
.hint{color:var(--soft);font-size:.9rem;margin:.1rem 0 .2rem}
.inline{display:flex;flex-wrap:wrap;gap:.5rem;align-items:flex-end}.inline>div{flex:1 1 12rem}
pre,.secret{font:1rem/1.5 ui-monospace,"DejaVu Sans Mono",Menlo,monospace;background:var(--ground);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;margin:.4rem 0;white-space:pre-wrap;user-select:all;-webkit-user-select:all}
.secret{font-size:1.15rem;font-weight:600;border:2px solid var(--edge)}
table{border-collapse:collapse;width:100%;margin:.3rem 0}th{text-align:left;font-weight:400;color:var(--soft);padding:.2rem .8rem .2rem 0;width:9rem;vertical-align:top}td{padding:.2rem 0;vertical-align:top}
img.qr{display:block;max-width:100%;height:auto;border:12px solid #fff;margin:.6rem 0}
form[data-passkey] button{margin-top:.6rem}
p.bad{padding:.5rem .8rem;border-left:5px solid;border-radius:6px}
dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.2rem 1rem;margin:.4rem 0}dt{color:var(--soft)}dd{margin:0}
details{margin:.8rem 0}summary{cursor:pointer;padding:.6rem 0;color:var(--link)}
.events{list-style:none;padding:0;margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px}.events li{padding:.6rem 1rem;border-top:1px solid var(--line)}.events li:first-child{border:0}.events .refused{color:var(--bad)}
footer{padding:2rem 1rem;color:var(--soft);font-size:.9rem}
@media(max-width:30rem){nav ul{gap:0 1rem}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.4rem}.card.row form,.card.row button{width:100%}}`

const layout = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{{.Title}} - Letterlock</title><link rel="icon" href="data:,"><style>` + style + `</style>{{if .Script}}<script src="` + web.ScriptPath + `" defer></script>{{end}}</head>
<body><a class="skip" href="#main">Skip to the page</a>
<header><div class="top"><a class="brand" href="/">Letterlock</a>
{{with .SignOut}}<form method="post" action="{{.Action}}"><span class="small soft">{{$.Person.Address}}</span>{{template "hidden" .}}<button class="plain">Sign out</button></form>{{else}}<span class="small soft">{{.Person.Address}}</span>{{end}}</div>
<div><nav aria-label="Your pages"><ul>{{range .Menu}}<li><a href="{{.Path}}"{{if eq .Path $.Path}} aria-current="page"{{end}}>{{.Text}}</a></li>{{end}}</ul></nav></div>
{{with .Admin}}<div><nav class="admin" aria-label="Administration"><ul>{{range .}}<li><a href="{{.Path}}"{{if eq .Path $.Path}} aria-current="page"{{end}}>{{.Text}}</a></li>{{end}}</ul></nav></div>{{end}}
</header>
<main id="main"><h1>{{.Title}}</h1>
{{with .Notice}}<div class="note good" role="status"><p>{{.}}</p></div>{{end}}
{{template "body" .Data}}
</main><footer>Times are UTC.</footer></body></html>
`

// parts are what several pages use.
const parts = `{{define "hidden"}}{{if .ID}}<input type="hidden" name="id" value="{{.ID}}">{{end}}<input type="hidden" name="token" value="{{.Token}}">{{end}}
{{define "moment"}}{{with .}}<time datetime="{{.Machine}}" title="{{.Clock}}">{{.Ago}}</time>{{else}}at an unknown time{{end}}{{end}}
{{define "clock"}}{{with .}}<time datetime="{{.Machine}}">{{.Clock}}</time>{{else}}at an unknown time{{end}}{{end}}
{{define "error"}}{{with .Error}}<p class="error" id="{{$.Name}}-error">{{.}}</p>{{end}}{{end}}
{{define "text"}}<label for="{{.Name}}">{{.Label}}</label>{{with .Hint}}<p class="hint" id="{{$.Name}}-hint">{{.}}</p>{{end}}{{template "error" .}}<input type="{{or .Type "text"}}" id="{{.Name}}" name="{{.Name}}" value="{{.Value}}" maxlength="{{or .Max 320}}" autocomplete="off"{{template "described" .}}>{{end}}
{{define "area"}}<label for="{{.Name}}">{{.Label}}</label>{{with .Hint}}<p class="hint" id="{{$.Name}}-hint">{{.}}</p>{{end}}{{template "error" .}}<textarea id="{{.Name}}" name="{{.Name}}" rows="3" spellcheck="false" autocapitalize="none"{{template "described" .}}>{{.Value}}</textarea>{{end}}
{{define "described"}}{{if .Error}} aria-invalid="true"{{end}}{{if or .Hint .Error}} aria-describedby="{{if .Hint}}{{.Name}}-hint{{end}}{{if .Error}} {{.Name}}-error{{end}}"{{end}}{{end}}
{{define "events"}}<ul class="events">{{range .}}<li><strong{{if .Refused}} class="refused"{{end}}>{{line .What}}</strong> <span class="soft">{{template "clock" .At}}{{with .At}} ({{.Ago}}){{end}}</span>{{with .Whose}}<br>{{.}}{{end}}{{with .Detail}}<br>{{line .}}{{end}}{{with .From}}<br><span class="soft">from {{.}}</span>{{end}}{{with .Actor}}<br><span class="soft">by {{line .}}</span>{{end}}</li>{{else}}<li class="soft">Nothing yet.</li>{{end}}</ul>{{end}}
{{define "waiting"}}{{with .}}<div class="note warn" role="status"><p><strong>Not confirmed at {{range $i, $n := .}}{{if $i}}, {{end}}{{line $n}}{{end}}.</strong> New sign-ins are refused already; a connection that was open at that mail server may still be. It is told again and again until it confirms.</p><p><a href="">Look again</a></p></div>{{end}}{{end}}`

// A field is one input of a form.
type field struct {
	Name, Label, Hint, Value, Error, Type string
	Max                                   int
}

// A sheet is a body in the layout.
type sheet struct {
	title  string
	tmpl   *template.Template
	script bool
}

// newSheet parses the body of a page; a fault in it is a fault of the program.
func newSheet(title, body string) *sheet {
	// What others have written is one line without controls and direction overrides.
	tmpl := template.Must(template.New("layout").Funcs(template.FuncMap{"line": cli.Line}).Parse(layout))
	template.Must(tmpl.New("parts").Parse(parts))
	template.Must(tmpl.New("body").Parse(body))
	return &sheet{title: title, tmpl: tmpl}
}

// newScriptSheet is newSheet for a page that offers passkeys.
func newScriptSheet(title, body string) *sheet {
	s := newSheet(title, body)
	s.script = true
	return s
}

// show answers with a page.
func (v *visit) show(s *sheet, status int, data any) error {
	view := struct {
		Title, Path, Notice string
		Person              any
		SignOut             *token
		Menu, Admin         []Link
		Data                any
		Script              bool
	}{Script: s.script, Title: s.title, Path: v.r.URL.Path, Person: v.person, Menu: v.menu(), Data: data}
	if v.r.Method == http.MethodGet && status == http.StatusOK {
		view.Notice = noticeWords(v.r.URL.Query().Get("done"))
	}
	if v.o.SignOut != "" {
		view.SignOut = &token{Action: v.o.SignOut}
		if v.o.SignOutToken != nil {
			view.SignOut.Token = v.o.SignOutToken(v.r)
		}
	}
	if v.person.Admin {
		view.Admin = []Link{{"People", "/admin"}, {"All addresses", "/admin/addresses"}, {"Bans and lists", "/admin/bans"},
			{"Audit trail", "/admin/audit"}, {"Health", "/admin/health"}}
	}
	var body bytes.Buffer
	if err := s.tmpl.Execute(&body, view); err != nil {
		return err
	}
	head := v.w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("Content-Security-Policy", "default-src 'none'; style-src '"+styleHash()+"'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	if s.script {
		head.Set("Content-Security-Policy", head.Get("Content-Security-Policy")+"; "+web.ScriptPolicy)
	}
	v.w.WriteHeader(status)
	_, _ = v.w.Write(body.Bytes())
	return nil
}

func (v *visit) menu() []Link {
	links := []Link{{"What may act as you", "/"}, {"New app password", "/passwords/new"}, {"Addresses", "/addresses"}, {"Activity", "/activity"}}
	if v.o.Factors != nil {
		links = append(links, Link{"Sign-in security", "/security"})
	}
	return append(links, v.o.Links...)
}

var styleHash = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(style))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
})

var faultSheet = sync.OnceValue(func() *sheet {
	return newSheet("This did not work", `<div class="note bad" role="alert"><p><strong>{{.What}}</strong></p>{{with .Hint}}<p>{{.}}</p>{{end}}</div><p><a href="/">To what may act as you</a></p>`)
})

func (v *visit) showFault(f *fault) {
	err := v.show(faultSheet(), f.status, struct{ What, Hint string }{f.what, f.hint})
	if err != nil {
		http.Error(v.w, f.what, f.status)
	}
}

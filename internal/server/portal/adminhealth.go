package portal

import (
	"net/http"
	"sync"
	"time"
)

type nodeView struct {
	Name, Error  string
	Waiting      int
	Since, Tried *moment
}

type listView struct {
	Name, Error     string
	Entries, Faults int
	Read            *moment
}

var healthSheet = sync.OnceValue(func() *sheet {
	return newSheet("Health", `
<h2>Database</h2>
{{if .Trouble}}<div class="note bad" role="alert"><p><strong>Does not answer.</strong> Known passwords and programs go on for a while.</p><p>{{line .Trouble}}</p></div>{{else}}<div class="note good"><p>Answers, in {{.Took}}.</p></div>{{end}}
<h2>Mail servers that are told of revocations</h2>
<ul class="cards">{{range .Nodes}}<li class="card"><h3>{{line .Name}} {{if .Waiting}}<span class="tag">not confirmed</span>{{else}}<span class="tag">all confirmed</span>{{end}}</h3>
<p class="small soft">{{if .Waiting}}{{.Waiting}} {{if eq .Waiting 1}}person waits{{else}}persons wait{{end}}{{with .Since}} since {{template "clock" .}}{{end}}. {{end}}{{with .Tried}}Last told {{template "clock" .}}.{{else}}Nothing had to be told since the start.{{end}}</p>{{with .Error}}<p class="error">{{line .}}</p>{{end}}</li>
{{else}}<li class="card">None is in the configuration: a revoked right opens nothing new, but connections that are open at Dovecot stay open until they end. See [doveadm.NAME] in letterlockd.toml(5).</li>{{end}}</ul>
{{with .Lists}}<h2>Lists of networks that are refused</h2>
<ul class="cards">{{range .}}<li class="card"><h3>{{line .Name}} {{if not .Read}}<span class="tag">not read</span>{{else if .Error}}<span class="tag">as it was</span>{{else}}<span class="tag">in force</span>{{end}}</h3>
<p class="small soft">{{with .Read}}Read {{template "clock" .}}.{{else}}It refuses nobody.{{end}}{{if .Read}} {{.Entries}} {{if eq .Entries 1}}entry{{else}}entries{{end}}.{{end}}{{if .Faults}} Lines left out: {{.Faults}}.{{end}}</p>{{with .Error}}<p class="error">{{line .}}</p>{{end}}</li>{{end}}</ul>{{end}}`)
})

// adminHealth is shown also when the database is away, as far as it gets: the person was
// found before it went.
func adminHealth(v *visit) error {
	data := struct {
		Trouble, Took string
		Nodes         []nodeView
		Lists         []listView
	}{}
	begin := v.o.Now()
	if _, err := v.o.Store.Generation(v.r.Context()); err != nil {
		data.Trouble = err.Error()
	}
	data.Took = max(v.o.Now().Sub(begin), 0).Round(10 * time.Microsecond).String()
	if v.o.Nodes != nil {
		for _, n := range v.o.Nodes() {
			data.Nodes = append(data.Nodes, nodeView{n.Name, n.Error, n.Waiting, v.moment(n.Since), v.moment(n.Tried)})
		}
	}
	if v.o.Lists != nil {
		for _, l := range v.o.Lists() {
			data.Lists = append(data.Lists, listView{l.Name, l.Error, l.Entries, l.Faults, v.moment(l.Read)})
		}
	}
	return v.show(healthSheet(), http.StatusOK, data)
}

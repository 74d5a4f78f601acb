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

var healthSheet = sync.OnceValue(func() *sheet {
	return newSheet("Health", `
<h2>Database</h2>
{{if .Trouble}}<div class="note bad" role="alert"><p><strong>Does not answer.</strong> Known passwords and programs go on for a while.</p><p>{{line .Trouble}}</p></div>{{else}}<div class="note good"><p>Answers, in {{.Took}}.</p></div>{{end}}
<h2>Mail servers that are told of revocations</h2>
<ul class="cards">{{range .Nodes}}<li class="card"><h3>{{line .Name}} {{if .Waiting}}<span class="tag">not confirmed</span>{{else}}<span class="tag">all confirmed</span>{{end}}</h3>
<p class="small soft">{{if .Waiting}}{{.Waiting}} {{if eq .Waiting 1}}person waits{{else}}persons wait{{end}}{{with .Since}} since {{template "clock" .}}{{end}}. {{end}}{{with .Tried}}Last told {{template "clock" .}}.{{else}}Nothing had to be told since the start.{{end}}</p>{{with .Error}}<p class="error">{{line .}}</p>{{end}}</li>
{{else}}<li class="card">None is in the configuration: a revoked right opens nothing new, but connections that are open at Dovecot stay open until they end. See [doveadm.NAME] in letterlockd.toml(5).</li>{{end}}</ul>`)
})

// adminHealth is shown also when the database is away, as far as it gets: the person was
// found before it went.
func adminHealth(v *visit) error {
	data := struct {
		Trouble, Took string
		Nodes         []nodeView
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
	return v.show(healthSheet(), http.StatusOK, data)
}

package portal

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

var auditSheet = sync.OnceValue(func() *sheet {
	return newSheet("Audit trail", `
<p class="soft">What has happened, the newest first. It is only ever added to.</p>
<form method="get" action="/admin/audit" role="search" class="card">{{template "text" .Person}}<label for="kind">What</label><select id="kind" name="kind">{{range .Kinds}}<option value="{{.Value}}"{{if .On}} selected{{end}}>{{.Text}}</option>{{end}}</select><p><button>Show</button></p></form>
{{template "events" .Events}}
{{with .Older}}<p><a class="button" href="{{.}}">Older</a></p>{{end}}`)
})

func adminAudit(v *visit) error {
	query := v.r.URL.Query()
	data := struct {
		Person field
		Kinds  []choice
		Events []eventView
		Older  string
	}{Person: field{Name: "person", Label: "Person", Hint: "Their own address. Empty: everybody.", Value: cli.Line(query.Get("person"))}}
	filter := identity.EventFilter{Limit: eventPage}
	for _, one := range [][2]string{{"", "everything"}, {"signin.", "sign-ins and refusals"}, {"signin.refused", "refusals"}, {"credential.", "app passwords"},
		{"grant.", "programs"}, {"session.", "browsers"}, {"person.", "persons"}, {"address.", "addresses"}, {"ban.", "bans and lists"}} {
		on := query.Get("kind") == one[0]
		if on {
			filter.Kind = one[0]
		}
		data.Kinds = append(data.Kinds, choice{"kind", one[0], one[1], on})
	}
	if text := strings.TrimSpace(query.Get("person")); text != "" {
		var person identity.Person
		address, err := identity.CanonicalAddress(text)
		if err == nil {
			person, err = v.o.Store.PersonByAddress(v.r.Context(), address)
		}
		switch {
		case errors.Is(err, identity.ErrNotFound), errors.Is(err, identity.ErrAddress):
			data.Person.Error = "Nobody here has this as their own address."
			return v.show(auditSheet(), http.StatusOK, data)
		case err != nil:
			return err
		}
		filter.Person = person.ID
	}
	readPlace(query, &filter)
	events, err := v.o.Store.Events(v.r.Context(), filter)
	if err != nil {
		return err
	}
	names := v.book()
	for _, e := range events {
		view := v.viewEvent(e, names)
		view.Whose = names(e.Person)
		data.Events = append(data.Events, view)
	}
	data.Older = older("/admin/audit", url.Values{"person": {query.Get("person")}, "kind": {filter.Kind}}, events)
	return v.show(auditSheet(), http.StatusOK, data)
}

package portal

import (
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

type addressView struct {
	Address, Kind string
	May           []string
	Targets       []string
	Others        int // persons with a role besides
}

var addressSheet = sync.OnceValue(func() *sheet {
	return newSheet("Addresses", `
<p class="soft">Addresses that are yours, and shared ones where you have a role. Administrators change them.</p>
<h2>What you have</h2>
<ul class="cards">{{range .}}<li class="card"><h3>{{.Address}} <span class="tag">{{.Kind}}</span></h3>
<ul>{{range .May}}<li>{{.}}</li>{{end}}{{with .Targets}}<li>Its mail goes to {{range $i, $t := .}}{{if $i}}, {{end}}{{$t}}{{end}}</li>{{end}}{{if .Others}}<li>Shared with {{.Others}} {{if eq .Others 1}}other{{else}}others{{end}}</li>{{end}}</ul></li>{{end}}</ul>`)
})

func addresses(v *visit) error {
	all, err := v.o.Store.AddressesOf(v.r.Context(), v.person.ID)
	if err != nil {
		return err
	}
	var views []addressView
	for _, a := range all {
		views = append(views, viewAddress(a, v.person))
	}
	slices.SortStableFunc(views, func(a, b addressView) int {
		switch {
		case (a.Kind == "your address") == (b.Kind == "your address"):
			return strings.Compare(a.Address, b.Address)
		case a.Kind == "your address":
			return -1
		}
		return 1
	})
	return v.show(addressSheet(), http.StatusOK, views)
}

func viewAddress(a identity.Address, person identity.Person) addressView {
	view := addressView{Address: a.Address, Kind: "shared mailbox", Targets: a.Targets}
	switch {
	case a.Address == person.Address:
		view.Kind = "your address"
	case strings.HasPrefix(a.Address, "@"):
		view.Kind = "whole domain"
	case len(a.Targets) > 0:
		view.Kind = "alias"
	case len(a.Owners) == 1:
		view.Kind = "mailbox"
	}
	for _, o := range a.Owners {
		if o.Person != person.ID {
			view.Others++
			continue
		}
		if o.Has(identity.RoleLogin) && len(a.Targets) == 0 {
			view.May = append(view.May, "You may open its mailbox")
		}
		if o.Has(identity.RoleSend) {
			view.May = append(view.May, "You may send as it")
		}
	}
	return view
}

package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

type personView struct {
	Path, Address, Name, Reason string
	Admin                       bool
	Disabled                    *moment
}

type peopleView struct {
	Search        field
	People        []personView
	Searched      bool
	More          string
	Cut           bool
	Held          []heldView
	HeldCut       bool
	Add           token
	Address, Name field
}

var peopleSheet = sync.OnceValue(func() *sheet {
	return newSheet("People", `
<form method="get" action="/admin" role="search"><div class="inline"><div>{{template "text" .Search}}</div><button>Search</button></div></form>
<h2>{{if .Searched}}Found{{else}}Everybody{{end}}</h2>
<ul class="cards">{{range .People}}<li class="card"><h3><a href="{{.Path}}">{{.Address}}</a>{{if .Admin}} <span class="tag">administrator</span>{{end}}{{if .Disabled}} <span class="tag">disabled</span>{{end}}</h3>
<p class="small soft">{{line .Name}}{{with .Disabled}} Disabled {{template "clock" .}}{{end}}{{with .Reason}}: {{line .}}{{end}}</p></li>{{else}}<li class="card soft">Nobody.</li>{{end}}</ul>
{{if .Cut}}<p class="soft">There are more. Search for more of the name.</p>{{end}}{{with .More}}<p><a class="button" href="{{.}}">Next page</a></p>{{end}}`+heldPart+`
<h2 id="add">Add a person</h2>
<form method="post" action="{{.Add.Action}}" class="card">{{template "hidden" .Add}}{{template "text" .Address}}{{template "text" .Name}}<p><button>Add</button></p></form>`)
})

const (
	peoplePage = 50
	// searchRows is how many persons one search looks at.
	searchRows = 20_000
	searchPage = 500
)

func adminPeople(v *visit) error { return v.showPeople(http.StatusOK, nil, nil) }

func (v *visit) showPeople(status int, typed url.Values, f faults) error {
	query := strings.TrimSpace(cli.Line(v.r.URL.Query().Get("q")))
	if utf8.RuneCountInString(query) > 100 {
		query = string([]rune(query)[:100])
	}
	data := peopleView{
		Search: field{Name: "q", Label: "Search by address or name", Value: query, Type: "search", Max: 100}, Searched: query != "",
		Add:     v.sign("/admin/person/add", ""),
		Address: field{Name: "address", Label: "Address", Hint: "At " + and(v.o.Domains) + ".", Value: typed.Get("address"), Error: f["address"]},
		Name:    field{Name: "name", Label: "Name", Value: typed.Get("name"), Error: f["name"], Max: 100},
	}
	people, more, err := v.search(query, v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	for _, p := range people {
		data.People = append(data.People, v.viewPerson(p))
	}
	data.Cut = more && query != ""
	if more && query == "" {
		data.More = "/admin?" + url.Values{"after": {people[len(people)-1].Address}}.Encode()
	}
	// At the end of the list: on the last of its pages, and with what was found.
	if data.More == "" {
		if data.Held, data.HeldCut, err = v.held(query); err != nil {
			return err
		}
	}
	return v.show(peopleSheet(), status, data)
}

// search returns a page of those whose address or name holds the words.
func (v *visit) search(words, after string) (found []identity.Person, more bool, err error) {
	ctx := v.r.Context()
	if words == "" {
		people, err := v.o.Store.People(ctx, clip(after), peoplePage+1)
		return people[:min(len(people), peoplePage)], len(people) > peoplePage, err
	}
	words = strings.ToLower(words)
	return sift(ctx, v.o.Store.People, func(p identity.Person) string { return p.Address }, func(p identity.Person) bool {
		return strings.Contains(p.Address, words) || strings.Contains(strings.ToLower(p.Name), words)
	})
}

// sift returns a page of what fits among the first searchRows of a list that is ordered by a
// key; more: there is, or may be, more of it.
func sift[T any](ctx context.Context, list func(ctx context.Context, after string, limit int) ([]T, error), key func(T) string, fits func(T) bool) (found []T, more bool, err error) {
	after := ""
	for range searchRows / searchPage {
		page, err := list(ctx, after, searchPage)
		if err != nil {
			return nil, false, err
		}
		for _, one := range page {
			after = key(one)
			if !fits(one) {
				continue
			}
			if len(found) == peoplePage {
				return found, true, nil
			}
			found = append(found, one)
		}
		if len(page) < searchPage {
			return found, false, nil
		}
	}
	return found, true, nil
}

func (v *visit) viewPerson(p identity.Person) personView {
	return personView{Path: "/admin/person/" + url.PathEscape(string(p.ID)), Address: p.Address, Name: p.Name, Admin: p.Admin, Disabled: v.moment(p.Disabled), Reason: p.Reason}
}

// addPerson makes a person and the mailbox that belongs to them.
func addPerson(v *visit) error {
	f := faults{}
	address, problem := v.ownAddress(v.form.Get("address"))
	if problem != "" {
		f["address"] = problem
	}
	name := strings.TrimSpace(v.form.Get("name"))
	if utf8.RuneCountInString(name) > 100 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		f["name"] = "Use at most 100 characters that can be seen."
	}
	if len(f) > 0 {
		return v.showPeople(http.StatusUnprocessableEntity, v.kept(), f)
	}
	id, err := identity.NewID(v.o.Random, v.now)
	if err != nil {
		return err
	}
	person := identity.Person{ID: identity.PersonID(id), Address: address, Name: name, Created: v.now}
	err = v.change("person.added", person.ID, address, func(ctx context.Context) error {
		if err := v.o.Store.AddPerson(ctx, person); err != nil {
			return err
		}
		return v.o.Store.PutAddress(ctx, identity.OwnMailbox(person))
	})
	if errors.Is(err, identity.ErrExists) {
		f["address"] = "This address is somebody's already."
		return v.showPeople(http.StatusConflict, v.kept(), f)
	}
	if err != nil {
		return err
	}
	return v.done("/admin/person/"+id, "added")
}

// kept is the form to be shown again, without what is too long to be.
func (v *visit) kept() url.Values {
	kept := url.Values{}
	for _, name := range []string{"address", "name", "targets", "person", "network", "reason", "role", "list", "days"} {
		kept[name] = nil
		for _, value := range v.form[name] {
			if len(value) <= maxLines {
				kept[name] = append(kept[name], strings.ToValidUTF8(value, "\ufffd"))
			}
		}
	}
	return kept
}

// ownAddress is the canonical form of an address in one of our domains, or what is wrong.
func (v *visit) ownAddress(text string) (address, problem string) {
	address, err := identity.CanonicalAddress(strings.TrimSpace(text))
	if err != nil {
		return "", "Write an address like ann@example.org."
	}
	domain := address[strings.LastIndexByte(address, '@')+1:]
	if !slices.Contains(v.o.Domains, domain) {
		return "", quoted(domain) + " is not served here; the configuration names " + and(v.o.Domains) + "."
	}
	return address, ""
}

// ownEntry is ownAddress that takes "@domain" too.
func (v *visit) ownEntry(text string) (address, problem string) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "@") {
		return v.ownAddress(text)
	}
	address, problem = v.ownAddress("x" + text)
	return strings.TrimPrefix(address, "x"), problem
}

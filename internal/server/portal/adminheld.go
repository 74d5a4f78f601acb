package portal

import (
	"context"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

type heldView struct {
	Address, External, Reason string
	Since                     *moment
	Release                   token
}

// heldPart is on the page of people, below those who are there.
const heldPart = `{{with .Held}}<h2 id="held">Removed, and kept out</h2>
<p class="soft">A directory has removed them after an administrator had disabled them. Whoever is made with the address, or by the directory's own id, is disabled again, unless it is forgotten here.</p>
<ul class="cards">{{range .}}<li class="card row"><div><h3>{{.Address}}</h3>
<p class="small soft">Disabled {{template "clock" .Since}}{{with .Reason}}: {{line .}}{{end}}{{with .External}}<br>The directory's own id: {{line .}}{{end}}</p></div>
<form method="post" action="{{.Release.Action}}">{{template "hidden" .Release}}<button class="danger" aria-label="Forget what is held against {{.Address}}">Forget</button></form></li>{{end}}</ul>
{{if $.HeldCut}}<p class="soft">There are more. Search for more of the address.</p>{{end}}{{end}}`

// held is what is held against addresses that hold the words.
func (v *visit) held(words string) (found []heldView, more bool, err error) {
	words = strings.ToLower(words)
	after := ""
	for range searchRows / searchPage {
		page, err := v.o.Store.Held(v.r.Context(), after, searchPage)
		if err != nil {
			return nil, false, err
		}
		for _, h := range page {
			after = h.Address
			if !strings.Contains(h.Address, words) {
				continue
			}
			if len(found) == peoplePage {
				return found, true, nil
			}
			found = append(found, heldView{Address: h.Address, External: h.External, Reason: h.Reason, Since: v.moment(h.Since),
				Release: v.sign("/admin/held/release", h.Address)})
		}
		if len(page) < searchPage {
			return found, false, nil
		}
	}
	return found, true, nil
}

func releaseHeld(v *visit) error {
	address, err := identity.CanonicalAddress(v.form.Get("id"))
	if err != nil {
		return identity.ErrNotFound
	}
	err = v.change("hold.released", "", address, func(ctx context.Context) error { return v.o.Store.ReleaseHeld(ctx, address) })
	if err != nil {
		return err
	}
	return v.done("/admin", "released")
}

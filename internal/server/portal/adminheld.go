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
	all, more, err := sift(v.r.Context(), v.o.Store.Held, func(h identity.Held) string { return h.Address },
		func(h identity.Held) bool { return strings.Contains(h.Address, words) })
	for _, h := range all {
		found = append(found, heldView{Address: h.Address, External: h.External, Reason: h.Reason, Since: v.moment(h.Since),
			Release: v.sign("/admin/held/release", h.Address)})
	}
	return found, more, err
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

package portal

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

type banView struct {
	Network, Is, Reason string
	Over                bool
	Until, Made         *moment
	Remove              token
}

type banPage struct {
	Bans            []banView
	Add             token
	Network, Reason field
	Lists, Days     []choice
	DaysError       string
}

var banSheet = sync.OnceValue(func() *sheet {
	return newSheet("Bans and lists", `
<p class="soft">Networks that are refused whatever they show, and those that are never slowed for guessing. Guessing is slowed and refused by itself; this list is for what you know better.</p>
<h2>Entries</h2>
<ul class="cards">{{range .Bans}}<li class="card row"><div><h3>{{.Network}} <span class="tag">{{.Is}}</span>{{if .Over}} <span class="tag">over</span>{{end}}</h3>
<p class="small soft">{{with .Reason}}{{line .}}. {{end}}Since {{template "clock" .Made}}{{with .Until}}, until {{template "clock" .}}{{end}}</p></div>
<form method="post" action="{{.Remove.Action}}">{{template "hidden" .Remove}}<button class="danger" aria-label="Remove the entry for {{.Network}}">Remove</button></form></li>{{else}}<li class="card soft">No entry.</li>{{end}}</ul>
<h2>Add an entry</h2>
<form method="post" action="{{.Add.Action}}" class="card">{{template "hidden" .Add}}{{template "text" .Network}}
<fieldset class="flat"><legend>It is</legend>{{range .Lists}}<label class="choice"><input type="radio" name="{{.Name}}" value="{{.Value}}"{{if .On}} checked{{end}}> {{.Text}}</label>{{end}}</fieldset>
<label for="days">It holds</label>{{with .DaysError}}<p class="error" id="days-error">{{.}}</p>{{end}}<select id="days" name="days"{{if .DaysError}} aria-invalid="true" aria-describedby="days-error"{{end}}>{{range .Days}}<option value="{{.Value}}"{{if .On}} selected{{end}}>{{.Text}}</option>{{end}}</select>
{{template "text" .Reason}}<p><button>Add</button></p></form>`)
})

func adminBans(v *visit) error { return v.showBans(http.StatusOK, url.Values{"days": {"1"}}, nil) }

func (v *visit) showBans(status int, typed url.Values, f faults) error {
	bans, err := v.o.Store.Bans(v.r.Context())
	if err != nil {
		return err
	}
	data := banPage{
		Add:     v.sign("/admin/bans/add", ""),
		Network: field{Name: "network", Label: "Network", Hint: "192.0.2.7, 192.0.2.0/24 or 2001:db8::/48", Value: typed.Get("network"), Error: f["network"]},
		Reason:  field{Name: "reason", Label: "Reason", Value: typed.Get("reason"), Error: f["reason"], Max: maxReason},
		Lists: []choice{{"list", "refuse", "always refused", typed.Get("list") != "allow"},
			{"list", "allow", "never slowed or refused for guessing", typed.Get("list") == "allow"}},
		DaysError: f["days"],
	}
	for _, days := range lifetimes() {
		text := "for " + plural(days, "day")
		if days == 0 {
			text = "until it is removed"
		}
		data.Days = append(data.Days, choice{"days", strconv.Itoa(days), text, typed.Get("days") == strconv.Itoa(days)})
	}
	for _, b := range bans {
		view := banView{Network: b.Network.String(), Is: "refused", Reason: b.Reason, Until: v.moment(b.Until), Made: v.moment(b.Made),
			Over: !b.Until.IsZero() && !v.now.Before(b.Until), Remove: v.sign("/admin/bans/remove", b.Network.String())}
		if b.Allow {
			view.Is = "never throttled"
		}
		data.Bans = append(data.Bans, view)
	}
	return v.show(banSheet(), status, data)
}

// addBan refuses a network. One that holds the administrator's own address is taken for a
// slip: it would shut them out of this page.
func addBan(v *visit) error {
	f := faults{}
	networks, problem := parseNetworks(v.form.Get("network"))
	switch {
	case problem != "":
		f["network"] = problem
	case len(networks) != 1:
		f["network"] = "Write one network."
	}
	reason := strings.ToValidUTF8(strings.TrimSpace(v.form.Get("reason")), "\ufffd")
	if utf8.RuneCountInString(reason) > maxReason {
		f["reason"] = "Use at most 200 characters."
	}
	days, err := strconv.Atoi(v.form.Get("days"))
	if err != nil || !slices.Contains(lifetimes(), days) {
		f["days"] = "Choose one of these."
	}
	ban := identity.Ban{Allow: v.form.Get("list") == "allow", Reason: reason, Made: v.now}
	if len(f) == 0 {
		ban.Network = networks[0]
		if own := v.o.Browser.Client(v.r); !ban.Allow && own.IsValid() && ban.Network.Contains(own.Unmap()) {
			f["network"] = "This holds your own address " + own.String() + ": you would shut yourself out."
		}
	}
	if len(f) > 0 {
		return v.showBans(http.StatusUnprocessableEntity, v.kept(), f)
	}
	if days > 0 {
		ban.Until = v.now.Add(time.Duration(days) * 24 * time.Hour)
	}
	kind := "ban.added"
	if ban.Allow {
		kind = "ban.allowed"
	}
	err = v.change(kind, "", strings.TrimSpace(ban.Network.String()+" "+reason), func(ctx context.Context) error { return v.o.Store.PutBan(ctx, ban) })
	if err != nil {
		return err
	}
	return v.done("/admin/bans", "added")
}

func removeBan(v *visit) error {
	network, err := netip.ParsePrefix(v.form.Get("id"))
	if err != nil {
		return identity.ErrNotFound
	}
	err = v.change("ban.removed", "", network.String(), func(ctx context.Context) error { return v.o.Store.DeleteBan(ctx, network) })
	if err != nil {
		return err
	}
	return v.done("/admin/bans", "removed")
}

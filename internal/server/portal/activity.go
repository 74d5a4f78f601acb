package portal

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

type eventView struct {
	What, Whose, Detail, From, Actor string
	Refused                          bool
	At                               *moment
}

const eventPage = 50

var activitySheet = sync.OnceValue(func() *sheet {
	return newSheet("Activity", `
<p class="soft">Sign-ins, refusals and changes in your name, the newest first. Something you did not do? Revoke it under <a href="/">What may act as you</a> and tell your postmaster.</p>
{{template "events" .Events}}
{{with .Older}}<p><a class="button" href="{{.}}">Older</a></p>{{end}}`)
})

func activity(v *visit) error {
	filter := identity.EventFilter{Person: v.person.ID, Limit: eventPage}
	readPlace(v.r.URL.Query(), &filter)
	events, err := v.o.Store.Events(v.r.Context(), filter)
	if err != nil {
		return err
	}
	data := struct {
		Events []eventView
		Older  string
	}{Older: older("/activity", nil, events)}
	for _, e := range events {
		data.Events = append(data.Events, v.viewEvent(e, nil))
	}
	return v.show(activitySheet(), http.StatusOK, data)
}

// viewEvent writes an event for people. name finds out who an actor is; without it, which
// is on people's own pages, administrators are not named.
func (v *visit) viewEvent(e identity.Event, name func(identity.PersonID) string) eventView {
	view := eventView{What: kindWords(e.Kind), Detail: e.Detail, Actor: e.Actor, At: v.moment(e.At), Refused: strings.HasSuffix(e.Kind, ".refused")}
	if e.From.IsValid() {
		view.From = e.From.String()
	}
	switch {
	case e.Actor == string(v.person.ID):
		view.Actor = "you"
	case strings.HasPrefix(e.Actor, "shell:"):
		view.Actor = "an administrator at the server"
	case name != nil:
		view.Actor = name(identity.PersonID(e.Actor))
	case e.Actor == string(e.Person), e.Actor == "":
		view.Actor = ""
	default:
		view.Actor = "an administrator"
	}
	return view
}

// older is the address of the next page, empty when this was the last.
func older(path string, query url.Values, events []identity.Event) string {
	if len(events) < eventPage {
		return ""
	}
	if query == nil {
		query = url.Values{}
	}
	last := events[len(events)-1]
	query.Set("before", strconv.FormatInt(last.At.UnixMicro(), 10))
	query.Set("id", last.ID)
	return (&url.URL{Path: path, RawQuery: query.Encode()}).String()
}

// readPlace reads where a page begins; what is no place is the first page.
func readPlace(query url.Values, filter *identity.EventFilter) {
	at, err := strconv.ParseInt(query.Get("before"), 10, 64)
	id := query.Get("id")
	if err == nil && at > 0 && at < 1<<53 && len(id) <= 64 {
		filter.Before, filter.BeforeID = time.UnixMicro(at).UTC(), id
	}
}

package signin

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A Refused says that an account may not come in, and what its owner can do.
type Refused struct {
	Reason string            // one word, for audit trail and log
	Detail string            // what the page does not tell
	Person identity.PersonID // whose sign-in that would have been, when it is known
	What   string
	Hint   string
}

func (r *Refused) Error() string {
	if r.Detail == "" {
		return "refused: " + r.Reason
	}
	return "refused: " + r.Reason + ": " + r.Detail
}

// because is the same refusal with more for those who look after it.
func (r *Refused) because(why string) *Refused {
	more := *r
	more.Detail += ": " + why
	return &more
}

// An Away says that the provider could not tell. It is nobody's fault at the browser.
type Away struct {
	Who   string
	After time.Duration // when the provider will be asked again; zero: not known
	Err   error
}

func (a *Away) Error() string { return fmt.Sprintf("%s could not tell who that is: %v", a.Who, a.Err) }

// Unwrap returns what went wrong.
func (a *Away) Unwrap() error { return a.Err }

// mistaken is for answers that belong to no sign-in of this browser.
func mistaken(detail string) *Refused {
	return &Refused{Reason: "state", Detail: detail, What: "This sign-in was not begun in this browser, took too long, or has been used already.", Hint: "Begin again. Cookies must be allowed for this site."}
}

// judge turns what package oauth says about an answer of the provider into ours.
func judge(who string, err error) error {
	var refused *Refused
	var away *Away
	var fault *oauth.Error
	switch {
	case errors.As(err, &refused), errors.As(err, &away):
		return err
	case errors.As(err, &fault) && fault.Code == "access_denied":
		return &Refused{Reason: "denied", What: "You refused at " + who + ", or it refused you.", Hint: "Nothing was changed. Begin again if that was a mistake."}
	case errors.As(err, &fault) && fault.Code != "" && !fault.Temporary():
		// A code that is used up or another's (invalid_grant, GitHub's bad_verification_code)
		// is this browser's matter; a wrong client secret is the administrator's.
		return &Refused{Reason: "provider", Detail: fault.Error(), What: who + " did not confirm this sign-in.", Hint: "Begin again. If it happens each time, your administrator finds the reason in the log."}
	case errors.As(err, &fault):
		return &Away{Who: who, After: fault.RetryAfter, Err: err}
	}
	return &Away{Who: who, Err: err}
}

// fail answers with what went wrong. It always answers.
func (d *Desk) fail(w http.ResponseWriter, r *http.Request, err error) {
	var refused *Refused
	var away *Away
	switch {
	case errors.As(err, &refused):
		d.o.Log.Info("sign-in refused", "reason", refused.Reason, "detail", refused.Detail, "remote", d.o.Sessions.Client(r))
		if err := d.event(r.Context(), r, "signin.refused", refused.Person, refused.Error()); err != nil {
			d.o.Log.Error("refusal not recorded", "error", err)
		}
		failPage().Show(w, http.StatusForbidden, refused)
	case errors.Is(err, identity.ErrUnavailable):
		d.o.Log.Error("sign-in not possible", "error", err)
		web.Later(w)
	case errors.As(err, &away):
		d.o.Log.Warn("identity provider away", "provider", away.Who, "error", away.Err)
		if away.After > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(away.After/time.Second)+1))
		}
		failPage().Show(w, http.StatusBadGateway, &Refused{What: away.Who + " could not tell us just now who you are.", Hint: "Try again in some minutes. Mail programs that are set up already go on working."})
	default:
		d.o.Log.Error("sign-in failed", "error", err)
		failPage().Show(w, http.StatusInternalServerError, &Refused{What: "The sign-in could not be completed.", Hint: "Try again; your administrator finds the reason in the log."})
	}
}

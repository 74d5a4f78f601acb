package delivery

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

const (
	gmailBase = "https://gmail.googleapis.com"
	// gmailLimit is the documented size of users.messages.send's upload.
	gmailLimit = 35 << 20
	// gmailInline is up to where the message rides in the JSON; beyond, the upload
	// address takes it as it is, without the third that base64 adds.
	gmailInline = 1 << 20
)

// gmail sends by users.messages.send of the Gmail API, for which the scope gmail.send
// is enough: it cannot read. Google sets the envelope's sender to the account's
// address and takes the recipients out of the header, Bcc included.
func (c *Carrier) gmail(ctx context.Context, r Route, j *job) error {
	base, err := apiBase(r.API, gmailBase)
	if err != nil {
		return err
	}
	c.viaAPI(ctx, r, api{name: "gmail.googleapis.com", base: base, limit: gmailLimit, request: gmailRequest, judge: gmailJudge}, j)
	return nil
}

func gmailRequest(base string, raw []byte) (url, kind string, body []byte) {
	if len(raw) > gmailInline {
		return base + "/upload/gmail/v1/users/me/messages/send?uploadType=media", "message/rfc822", raw
	}
	const before, after = `{"raw":"`, `"}`
	body = make([]byte, 0, len(before)+base64.URLEncoding.EncodedLen(len(raw))+len(after))
	body = append(body, before...)
	body = base64.URLEncoding.AppendEncode(body, raw) // letters of base64url need no escape
	return base + "/gmail/v1/users/me/messages/send", "application/json", append(body, after...)
}

// gmailJudge reads Google's reasons; the HTTP status alone lumps "slow down" and
// "never" together under 403.
func gmailJudge(status int, text []byte) answer {
	var e struct {
		Error struct {
			Errors []struct {
				Reason string `json:"reason"`
			} `json:"errors"`
			Details []struct {
				Reason string `json:"reason"`
			} `json:"details"`
		} `json:"error"`
	}
	_ = json.Unmarshal(text, &e) // what is no JSON has no reason
	var reasons []string
	for _, one := range e.Error.Errors {
		reasons = append(reasons, one.Reason)
	}
	for _, one := range e.Error.Details {
		reasons = append(reasons, one.Reason)
	}
	for _, reason := range reasons {
		switch reason {
		case "rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "quotaExceeded", "backendError":
			return answer{verdict: queue.Deferred, status: "4.7.0"}
		case "insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "authError", "accessNotConfigured", "SERVICE_DISABLED", "domainPolicy":
			// A person can mend each: sign in with the scope, switch the API on.
			return answer{verdict: queue.SignIn, status: "5.7.0", closed: reason != "insufficientPermissions" && reason != "authError"}
		case "failedPrecondition":
			return answer{verdict: queue.Deferred, status: "4.3.2"}
		}
	}
	if status == http.StatusForbidden {
		return answer{verdict: queue.SignIn, status: "5.7.0"}
	}
	return answer{verdict: queue.Refused, status: "5.6.0"}
}

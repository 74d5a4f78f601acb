package delivery

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

const (
	graphBase = "https://graph.microsoft.com"
	// graphLimit: a request may have 4 MB, and the message travels as base64. Larger
	// ones would need a draft and an upload session, and those need Mail.ReadWrite: a
	// right to read the mailbox, for which this way must not ask. Fallback is for them.
	graphLimit = 4 << 20 / 4 * 3
)

// graph sends by Microsoft Graph's sendMail in MIME form, for which the scope Mail.Send
// is enough. 202 means that Exchange has taken it.
func (c *Carrier) graph(ctx context.Context, r Route, j *job) error {
	base, err := apiBase(r.API, graphBase)
	if err != nil {
		return err
	}
	request := func(base string, raw []byte) (address, kind string, body []byte) {
		user := "me"
		if r.Mailbox != "" {
			user = "users/" + url.PathEscape(r.Mailbox)
		}
		return base + "/v1.0/" + user + "/sendMail", "text/plain", base64.StdEncoding.AppendEncode(nil, raw)
	}
	c.viaAPI(ctx, r, api{name: "graph.microsoft.com", base: base, limit: graphLimit, request: request, judge: graphJudge}, j)
	return nil
}

// graphJudge reads Microsoft's error codes.
func graphJudge(status int, text []byte) answer {
	var e struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	_ = json.Unmarshal(text, &e) // what is no JSON has no code
	switch e.Error.Code {
	case "ErrorSendAsDenied":
		return answer{verdict: queue.Refused, status: "5.7.60"}
	case "ErrorMessageSizeExceeded", "RequestEntityTooLarge":
		return answer{verdict: queue.Refused, status: "5.3.4", closed: true}
	case "ErrorQuotaExceeded", "ErrorExceededMessageLimit", "ErrorMessageThrottled", "ApplicationThrottled", "ErrorServerBusy", "ErrorMailboxStoreUnavailable", "ErrorTooManyObjectsOpened":
		return answer{verdict: queue.Deferred, status: "4.7.0"}
	case "ErrorAccessDenied", "Authorization_RequestDenied", "ErrorInsufficientPermissionsInAccessToken":
		return answer{verdict: queue.SignIn, status: "5.7.0"}
	case "MailboxNotEnabledForRESTAPI", "MailboxNotSupportedForRESTAPI", "ResourceNotFound", "ErrorInvalidUser":
		// The mailbox is not one that Graph reaches; the mail is good.
		return answer{verdict: queue.SignIn, status: "5.7.0", closed: true}
	}
	if status == http.StatusForbidden {
		return answer{verdict: queue.SignIn, status: "5.7.0"}
	}
	if status == http.StatusRequestTimeout || status == http.StatusConflict || status == http.StatusLocked {
		return answer{verdict: queue.Deferred, status: "4.3.0"}
	}
	return answer{verdict: queue.Refused, status: "5.6.0"}
}

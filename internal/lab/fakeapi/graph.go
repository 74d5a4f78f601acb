package fakeapi

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strings"
)

// GraphAudience is what a token for Graph is issued for.
const GraphAudience = "https://graph.microsoft.com"

const graphLimit = 4 << 20 // of a request

// NewGraph stands for graph.microsoft.com.
func NewGraph() *Service {
	s := newService(serveGraph)
	s.Refusals = []string{"path", "method", "authorization-missing", "token-unknown", "audience", "scope", "user-unknown", "content-type", "base64", "mime",
		"too-large", "recipient-missing", "recipient-invalid", "send-as"}
	s.Live = []string{
		"whether Bcc in MIME reaches its recipients and is taken out", "whether recipients of Resent-To are sent to",
		"whether 4 MB is counted before or after base64", "the code of a mailbox without Exchange licence",
	}
	return s
}

func (s *Service) microsoft(w http.ResponseWriter, name string, status int, code, message string) {
	s.refuse(w, name, status, map[string]any{"error": map[string]any{
		"code": code, "message": message, "innerError": map[string]any{"request-id": "00000000-0000-0000-0000-000000000000"},
	}})
}

func serveGraph(s *Service, w http.ResponseWriter, r *http.Request) {
	user, ok := graphUser(r.URL)
	g, known := s.grants[bearer(r)]
	switch {
	case !ok:
		s.microsoft(w, "path", 400, "BadRequest", "Resource not found for the segment")
	case r.Method != http.MethodPost:
		s.microsoft(w, "method", 405, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
	case bearer(r) == "":
		s.microsoft(w, "authorization-missing", 401, "InvalidAuthenticationToken", "Access token is empty.")
	case !known:
		s.microsoft(w, "token-unknown", 401, "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired.")
	case g.Audience != GraphAudience:
		s.microsoft(w, "audience", 401, "InvalidAuthenticationToken", "Access token validation failure. Invalid audience.")
	case !slices.Contains(g.Scopes, "Mail.Send"):
		s.microsoft(w, "scope", 403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
	case user != "" && !strings.EqualFold(user, g.Address) && !slices.Contains(g.SendAs, user):
		s.microsoft(w, "user-unknown", 404, "ErrorInvalidUser", "The requested user '"+user+"' is invalid.")
	default:
		s.graphSend(w, r, g, user)
	}
}

// graphUser reads /v1.0/me/sendMail and /v1.0/users/{id}/sendMail.
func graphUser(u *url.URL) (user string, ok bool) {
	if u.Path == "/v1.0/me/sendMail" {
		return "", true
	}
	rest, ok := strings.CutPrefix(u.EscapedPath(), "/v1.0/users/")
	if !ok {
		return "", false
	}
	rest, ok = strings.CutSuffix(rest, "/sendMail")
	user, err := url.PathUnescape(rest)
	return user, ok && err == nil && user != "" && !strings.Contains(rest, "/")
}

func (s *Service) graphSend(w http.ResponseWriter, r *http.Request, g Grant, user string) {
	// The other form is JSON, which our client does not speak.
	if r.Header.Get("Content-Type") != "text/plain" {
		s.microsoft(w, "content-type", 400, "RequestBodyRead", "The MIME format wants Content-Type text/plain")
		return
	}
	text, _ := io.ReadAll(io.LimitReader(r.Body, graphLimit+1))
	if len(text) > graphLimit {
		s.microsoft(w, "too-large", 413, "RequestEntityTooLarge", "The request body is too large")
		return
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil {
		s.microsoft(w, "base64", 400, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content.")
		return
	}
	message, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		s.microsoft(w, "mime", 400, "ErrorMimeContentInvalid", "The MIME content is invalid.")
		return
	}
	from, err := mail.ParseAddress(message.Header.Get("From"))
	permitted := append([]string{g.Address, user}, g.SendAs...)
	if err != nil || !slices.ContainsFunc(permitted, func(a string) bool { return strings.EqualFold(a, from.Address) }) {
		s.microsoft(w, "send-as", 403, "ErrorSendAsDenied", "The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account.")
		return
	}
	if s.answerArmed(w) {
		return
	}
	switch s.take(raw, false) {
	case "":
		w.WriteHeader(http.StatusAccepted)
	case "recipient-missing":
		s.microsoft(w, "recipient-missing", 400, "ErrorInvalidRecipients", "At least one recipient is not valid.")
	default:
		s.microsoft(w, "recipient-invalid", 400, "ErrorInvalidRecipients", "At least one recipient isn't valid.")
	}
}

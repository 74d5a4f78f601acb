package fakeapi

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"slices"
)

// GmailScopes are those of which users.messages.send needs one.
func GmailScopes() []string {
	return []string{"https://www.googleapis.com/auth/gmail.send", "https://www.googleapis.com/auth/gmail.compose",
		"https://www.googleapis.com/auth/gmail.modify", "https://mail.google.com/"}
}

const (
	gmailPath       = "/gmail/v1/users/me/messages/send"
	gmailUploadPath = "/upload" + gmailPath
	gmailUpload     = 36700160 // bytes, "Maximum file size: 35MB"
	gmailJSON       = 10 << 20 // our own bound: the documentation sends larger ones to upload
)

// NewGmail stands for gmail.googleapis.com.
func NewGmail() *Service {
	s := newService(serveGmail)
	s.Refusals = []string{"path", "method", "authorization-missing", "token-unknown", "token-in-url", "scope", "content-type", "json", "json-field",
		"raw-missing", "raw-base64", "upload-type", "upload-content-type", "too-large", "recipient-missing", "recipient-invalid"}
	s.Live = []string{
		"whether Bcc in raw reaches its recipients and is taken out", "whether Resent-To and Resent-Cc are sent to",
		"what becomes of a From that is no alias of the account", "whether bare group syntax in To is taken", "the exact size limit of the JSON form",
	}
	return s
}

func (s *Service) google(w http.ResponseWriter, name string, code int, status, reason, message string) {
	s.refuse(w, name, code, map[string]any{"error": map[string]any{
		"code": code, "message": message, "status": status,
		"errors": []map[string]any{{"message": message, "domain": "global", "reason": reason}},
	}})
}

func serveGmail(s *Service, w http.ResponseWriter, r *http.Request) {
	upload := r.URL.Path == gmailUploadPath
	g, known := s.grants[bearer(r)]
	switch {
	case !upload && r.URL.Path != gmailPath:
		s.google(w, "path", 404, "NOT_FOUND", "notFound", "Not Found")
	case r.Method != http.MethodPost:
		s.google(w, "method", 404, "NOT_FOUND", "notFound", "Not Found")
	case r.URL.Query().Has("access_token"):
		s.google(w, "token-in-url", 401, "UNAUTHENTICATED", "required", "Login Required.")
	case bearer(r) == "":
		s.google(w, "authorization-missing", 401, "UNAUTHENTICATED", "required", "Login Required.")
	case !known:
		s.google(w, "token-unknown", 401, "UNAUTHENTICATED", "authError", "Invalid Credentials")
	case !slices.ContainsFunc(g.Scopes, func(scope string) bool { return slices.Contains(GmailScopes(), scope) }):
		s.google(w, "scope", 403, "PERMISSION_DENIED", "insufficientPermissions", "Request had insufficient authentication scopes.")
	case upload:
		s.gmailUpload(w, r)
	default:
		s.gmailJSON(w, r)
	}
}

func (s *Service) gmailJSON(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		s.google(w, "content-type", 400, "INVALID_ARGUMENT", "badRequest", "Invalid content type")
		return
	}
	text, _ := io.ReadAll(io.LimitReader(r.Body, gmailJSON+1))
	if len(text) > gmailJSON {
		s.google(w, "too-large", 413, "INVALID_ARGUMENT", "uploadTooLarge", "Request payload size exceeds the limit")
		return
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil {
		s.google(w, "json", 400, "INVALID_ARGUMENT", "parseError", "Parse Error")
		return
	}
	for name := range fields {
		if !slices.Contains([]string{"raw", "threadId", "labelIds", "id", "payload", "snippet", "historyId", "internalDate", "sizeEstimate"}, name) {
			s.google(w, "json-field", 400, "INVALID_ARGUMENT", "badRequest", `Invalid JSON payload received. Unknown name "`+name+`": Cannot find field.`)
			return
		}
	}
	var raw string
	if json.Unmarshal(fields["raw"], &raw) != nil || raw == "" {
		s.google(w, "raw-missing", 400, "INVALID_ARGUMENT", "invalidArgument", "'raw' RFC822 payload message string or uploading message via /upload/* URL required")
		return
	}
	// Strict on purpose: the service takes base64url with or without its padding.
	message, err := base64.URLEncoding.Strict().DecodeString(raw)
	if err != nil {
		message, err = base64.RawURLEncoding.Strict().DecodeString(raw)
	}
	if err != nil {
		s.google(w, "raw-base64", 400, "INVALID_ARGUMENT", "badRequest", "Invalid value at 'message.raw' (TYPE_BYTES), Base64 decoding failed")
		return
	}
	s.gmailTake(w, message, false)
}

func (s *Service) gmailUpload(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("uploadType") != "media" {
		s.google(w, "upload-type", 400, "INVALID_ARGUMENT", "badRequest", "uploadType must be media here")
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "message/rfc822" {
		s.google(w, "upload-content-type", 400, "INVALID_ARGUMENT", "badContent", "Media type is not supported. Valid media types: [message/rfc822]")
		return
	}
	message, _ := io.ReadAll(io.LimitReader(r.Body, gmailUpload+1))
	if len(message) > gmailUpload {
		s.google(w, "too-large", 413, "INVALID_ARGUMENT", "uploadTooLarge", "Request is too large")
		return
	}
	s.gmailTake(w, message, true)
}

func (s *Service) gmailTake(w http.ResponseWriter, message []byte, upload bool) {
	if s.answerArmed(w) {
		return
	}
	switch s.take(message, upload) {
	case "":
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		_, _ = io.WriteString(w, `{"id":"18c0ffee","threadId":"18c0ffee","labelIds":["SENT"]}`)
	case "recipient-missing":
		s.google(w, "recipient-missing", 400, "INVALID_ARGUMENT", "invalidArgument", "Recipient address required")
	default:
		s.google(w, "recipient-invalid", 400, "INVALID_ARGUMENT", "invalidArgument", "Invalid To header")
	}
}

package sasl

import (
	"encoding/json"
	"strings"
)

// A Refusal is a server's reason for refusing a token: the JSON of its error
// challenge (RFC 7628 section 3.2.2, and the same for XOAUTH2). A [Check] returns
// one to have it told to the client.
type Refusal struct {
	// Status: invalid_token, insufficient_scope, invalid_request (RFC 6750 section
	// 3.1), or with XOAUTH2 a HTTP status as text.
	Status string `json:"status"`
	// Schemes is "bearer", XOAUTH2 only.
	Schemes string `json:"schemes,omitempty"`
	// Scope is what the token would have needed.
	Scope string `json:"scope,omitempty"`
	// OpenIDConfiguration is where the issuer describes itself: the one place where
	// IMAP and SMTP can name it.
	OpenIDConfiguration string `json:"openid-configuration,omitempty"`
}

// Error says what the status says.
func (r *Refusal) Error() string { return "token refused: " + r.Status }

// JSON returns the challenge for the mechanism, whose statuses are spelt apart.
func (r *Refusal) JSON(mechanism string) []byte {
	out := *r
	if mechanism == XOAuth2 {
		out.Status = httpStatus(r.Status)
		out.Schemes = "bearer"
	}
	text, err := json.Marshal(out)
	if err != nil { // not with four strings
		return []byte(`{"status":"invalid_request"}`)
	}
	return text
}

// httpStatus gives the HTTP status of RFC 6750 section 3.1 for an error name.
func httpStatus(status string) string {
	switch status {
	case "invalid_request":
		return "400"
	case "invalid_token":
		return "401"
	case "insufficient_scope":
		return "403"
	}
	return status
}

// ParseRefusal reads an error challenge. It is lenient, because it serves diagnosis:
// a number for a status is taken, unknown fields are ignored. ok is false when the
// challenge is not such a thing at all.
func ParseRefusal(challenge []byte) (refusal Refusal, ok bool) {
	if len(challenge) == 0 || len(challenge) > MaxMessage {
		return Refusal{}, false
	}
	var fields struct {
		Status  json.RawMessage `json:"status"`
		Schemes json.RawMessage `json:"schemes"`
		Scope   json.RawMessage `json:"scope"`
		OpenID  json.RawMessage `json:"openid-configuration"`
	}
	if err := json.Unmarshal(challenge, &fields); err != nil || fields.Status == nil {
		return Refusal{}, false
	}
	return Refusal{
		Status: text(fields.Status), Schemes: text(fields.Schemes),
		Scope: text(fields.Scope), OpenIDConfiguration: text(fields.OpenID),
	}, true
}

// text is a JSON string's value, or the JSON itself of anything else.
func text(raw json.RawMessage) string {
	var s string
	if err := json.Unmarshal(raw, &s); err == nil {
		return s
	}
	return strings.TrimSpace(string(raw))
}

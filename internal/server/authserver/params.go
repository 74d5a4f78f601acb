package authserver

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"unicode/utf8"
)

const (
	maxBody   = 64 << 10
	maxQuery  = 16 << 10
	maxParams = 50
	maxValue  = 4 << 10
)

// params are request parameters, each at most once and never empty: "Parameters sent
// without a value MUST be treated as if they were omitted" (RFC 6749 section 3.1);
// Dovecot 2.3 sends an empty client_id and client_secret beside HTTP Basic.
type params map[string]string

var errParams = errors.New("malformed parameters")

// parseParams reads a query or form. twice lists parameters that came more than once,
// which RFC 6749 section 3.1 forbids: first and last winner differ between programs,
// and attackers live in between. `resource` may repeat (RFC 8707 section 2).
func parseParams(raw string) (all params, twice []string, err error) {
	return parse(raw, maxValue)
}

// parseForm reads a form of our own pages, which holds a whole query.
func parseForm(raw string) (all params, twice []string, err error) {
	return parse(raw, maxQuery)
}

func parse(raw string, limit int) (all params, twice []string, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil || len(values) > maxParams {
		return nil, nil, errParams
	}
	all = make(params, len(values))
	for name, list := range values {
		if len(list) > 1 && name != "resource" {
			twice = append(twice, name)
		}
		for _, value := range list {
			if !plainText(name, limit) || !plainText(value, max(limit, longer(name))) {
				return nil, nil, errParams
			}
		}
		if list[0] != "" {
			all[name] = list[0]
		}
	}
	return all, twice, nil
}

// longer is the bound of a parameter that may be longer than others.
func longer(name string) int {
	if name == "client_assertion" {
		return maxAssertion
	}
	return 0
}

// plainText reports whether text is short valid UTF-8 without control characters,
// which have no place in any parameter and much to do in logs and headers.
func plainText(text string, limit int) bool {
	if len(text) > limit || !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return false
		}
	}
	return true
}

// form reads the body of a POST to an endpoint for programs.
func form(w http.ResponseWriter, r *http.Request) (params, *oauthError) {
	if r.URL.RawQuery != "" {
		// RFC 6749 section 2.3.1 and 3.2: in the body only; a query ends up in logs.
		return nil, invalidRequest("parameters belong in the body")
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return nil, invalidRequest("want application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, invalidRequest("the body cannot be read or is too long")
	}
	all, twice, err := parseParams(string(body))
	if err != nil {
		return nil, invalidRequest("malformed parameters")
	}
	if len(twice) > 0 {
		return nil, invalidRequest("a parameter came twice")
	}
	return all, nil
}

// An oauthError is an error answer (RFC 6749 section 5.2). Its description is neutral:
// the cause goes to the log.
type oauthError struct {
	Status      int    `json:"-"`
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

func (e *oauthError) Error() string { return e.Code + ": " + e.Description }

func invalidRequest(description string) *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_request", description}
}

func invalidGrant(description string) *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_grant", description}
}

// invalidClient is 401 with a challenge only to those who tried HTTP authentication, and
// says neither that a client is known nor that a secret is wrong (RFC 6749 section 5.2).
func invalidClient(w http.ResponseWriter, r *http.Request) *oauthError {
	if r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="letterlock"`)
		return &oauthError{http.StatusUnauthorized, "invalid_client", "the client is not known by this"}
	}
	return &oauthError{http.StatusBadRequest, "invalid_client", "unknown client"}
}

func serverError() *oauthError {
	return &oauthError{http.StatusServiceUnavailable, "temporarily_unavailable", "try again later"}
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value)
}

func writeError(w http.ResponseWriter, fault *oauthError) { writeJSON(w, fault.Status, fault) }

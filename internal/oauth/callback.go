package oauth

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// maxCallback bounds the query of an authorization response. Microsoft's codes are the
// longest known, about 2 KB.
const maxCallback = 16 << 10

// ErrNoResponse says that a query is no authorization response at all, as opposed to a
// wrong one: a listener that meets it goes on waiting.
var ErrNoResponse = errors.New("no authorization response: neither code nor error")

// A Callback is a parsed authorization response (query of the redirect URI).
type Callback struct {
	Code  secret.String
	State string
	Iss   string
	Err   *Error // error, error_description, error_uri
}

// ParseCallback reads the query of an authorization response; duplicates are refused.
func ParseCallback(query string) (Callback, error) {
	if len(query) > maxCallback {
		return Callback{}, fmt.Errorf("authorization response of more than %d bytes", maxCallback)
	}
	values, err := url.ParseQuery(strings.TrimPrefix(query, "?"))
	if err != nil {
		return Callback{}, errors.New("authorization response: malformed query")
	}
	for _, list := range values {
		if len(list) > 1 { // RFC 6749 section 3.1
			return Callback{}, errors.New("authorization response: a parameter comes twice")
		}
	}
	code, fault := values.Get("code"), values.Get("error")
	switch {
	case code == "" && fault == "":
		return Callback{}, ErrNoResponse
	case code != "" && fault != "":
		return Callback{}, errors.New("authorization response: both code and error")
	case !charset(code, 0x20):
		return Callback{}, errors.New("authorization response: code with characters that no code has")
	}
	cb := Callback{Code: secret.New(code), State: values.Get("state"), Iss: values.Get("iss")}
	if fault != "" {
		cb.Err = callbackFault(values)
	}
	return cb, nil
}

func callbackFault(values url.Values) *Error {
	var scrub scrubber
	return &Error{
		Endpoint:    "authorization",
		Code:        scrub.text(values.Get("error")),
		Subcode:     scrub.text(values.Get("error_subtype")),
		Description: scrub.text(values.Get("error_description")),
		URI:         scrub.text(values.Get("error_uri")),
	}
}

// CheckCallback compares state in constant time and iss by RFC 9207. It says whether
// the response may be believed, not whether it brings good news: see Callback.Err.
func (c *Conn) CheckCallback(cb Callback, state string) error {
	if state == "" || subtle.ConstantTimeCompare([]byte(cb.State), []byte(state)) != 1 {
		return errors.New("authorization response with a wrong state: not the answer to this request")
	}
	if cb.Iss == "" {
		if c.Endpoints.IssParameter {
			return errors.New("authorization response without issuer, which this server always sends")
		}
		return nil
	}
	if c.Endpoints.Issuer == "" && !c.Endpoints.IssParameter {
		return nil // endpoints given by hand: there is nothing to compare with
	}
	if _, ok := c.Endpoints.Issuer.matches(cb.Iss); !ok {
		return fmt.Errorf("authorization response of another issuer: %s, not %s", oneLine(cb.Iss), c.Endpoints.Issuer)
	}
	return nil
}

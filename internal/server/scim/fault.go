package scim

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const errorSchema = "urn:ietf:params:scim:api:messages:2.0:Error"

// A Fault is an error as RFC 7644 section 3.12 has them. Kind is its scimType.
type Fault struct {
	status int
	Kind   string
	Detail string
}

func (f *Fault) Error() string { return f.Detail }

// The kinds of bad requests (RFC 7644 table 9).
const (
	invalidFilter = "invalidFilter"
	uniqueness    = "uniqueness"
	mutability    = "mutability"
	invalidSyntax = "invalidSyntax"
	invalidPath   = "invalidPath"
	noTarget      = "noTarget"
	invalidValue  = "invalidValue"
	tooMany       = "tooMany"
)

func bad(kind, format string, args ...any) *Fault {
	return &Fault{http.StatusBadRequest, kind, fmt.Sprintf(format, args...)}
}

func atOperation(i int, err error) error {
	var f *Fault
	if errors.As(err, &f) {
		return &Fault{f.status, f.Kind, fmt.Sprintf("operation %d: %s", i+1, f.Detail)}
	}
	return err
}

// fault turns any error into an answer. What is ours, a caller learns only as "later".
func (h *Handler) fault(err error) *Fault {
	var f *Fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, identity.ErrNotFound):
		return &Fault{http.StatusNotFound, "", "there is no such user"}
	case errors.Is(err, identity.ErrExists):
		return &Fault{http.StatusConflict, uniqueness, "userName or externalId is somebody's already"}
	case errors.Is(err, identity.ErrInvalid):
		return bad(invalidValue, "a value cannot be kept")
	case errors.Is(err, identity.ErrUnavailable):
		return &Fault{http.StatusServiceUnavailable, "", "try again later"}
	}
	return &Fault{http.StatusInternalServerError, "", "something went wrong; the log says what"}
}

// faultBody is the answer on the wire; status is text there.
type faultBody struct {
	Schemas []string `json:"schemas"`
	Status  string   `json:"status"`
	Kind    string   `json:"scimType,omitempty"`
	Detail  string   `json:"detail,omitempty"`
}

func (f *Fault) body() faultBody {
	return faultBody{[]string{errorSchema}, strconv.Itoa(f.status), f.Kind, f.Detail}
}

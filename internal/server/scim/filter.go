package scim

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A comparison is ATTRIBUTE eq VALUE (RFC 7644 section 3.4.2.2).
type comparison struct {
	attribute string // lower case
	value     any    // string or bool
}

// maxFilter bounds a filter and a path.
const maxFilter = 1 << 10

// parseComparison reads one comparison. Directories look people up by one attribute; other
// operators, and, or and parentheses are refused by name rather than misread.
func parseComparison(text string) (comparison, error) {
	if len(text) > maxFilter {
		return comparison{}, bad(invalidFilter, "the filter is too long")
	}
	attribute, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	operator, value, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if !strings.EqualFold(operator, "eq") {
		return comparison{}, bad(invalidFilter, "only ATTRIBUTE eq VALUE is known")
	}
	p, err := parsePath(attribute)
	if err != nil || p.where != nil || p.extension {
		return comparison{}, bad(invalidFilter, "the attribute of the filter is none")
	}
	c := comparison{attribute: strings.ToLower(p.attribute)}
	if p.sub != "" {
		c.attribute += "." + strings.ToLower(p.sub)
	}
	if err := json.Unmarshal([]byte(value), &c.value); err != nil {
		return c, bad(invalidFilter, "the value must be one text in double quotes, or true or false")
	}
	switch c.value.(type) {
	case string, bool:
		return c, nil
	}
	return c, bad(invalidFilter, "the value must be a text, or true or false")
}

const listSchema = "urn:ietf:params:scim:api:messages:2.0:ListResponse"

// listBody is the answer to a query (RFC 7644 section 3.4.2).
type listBody struct {
	Schemas   []string `json:"schemas"`
	Total     int      `json:"totalResults"`
	Start     int      `json:"startIndex"`
	PerPage   int      `json:"itemsPerPage"`
	Resources []any    `json:"Resources"`
}

func (h *Handler) list(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	start, count := 1, pageSize
	for parameter, into := range map[string]*int{"startIndex": &start, "count": &count} {
		text := query.Get(parameter)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return bad(invalidValue, "%s is not a number", parameter)
		}
		*into = int(n)
	}
	// RFC 7644 section 3.4.2.4: less than one is one, a negative count is none.
	start, count = max(start, 1), min(max(count, 0), pageSize)
	var users []identity.User
	var total int
	var err error
	if filter := query.Get("filter"); filter != "" {
		users, err = h.find(r.Context(), filter)
		total = len(users)
		users = users[min(start-1, len(users)):]
		users = users[:min(count, len(users))]
	} else {
		users, total, err = h.o.Store.Users(r.Context(), start-1, count)
	}
	if err != nil {
		return err
	}
	answer := listBody{Schemas: []string{listSchema}, Total: total, Start: start, PerPage: len(users), Resources: []any{}}
	for _, u := range users {
		shown, err := chosen(r, h.render(u))
		if err != nil {
			return err
		}
		answer.Resources = append(answer.Resources, shown)
	}
	h.say(w, r, http.StatusOK, answer)
	return nil
}

// find answers a filter: who has that userName, externalId or id.
func (h *Handler) find(ctx context.Context, filter string) ([]identity.User, error) {
	c, err := parseComparison(filter)
	if err != nil {
		return nil, err
	}
	text, ok := c.value.(string)
	if !ok {
		return nil, bad(invalidFilter, "%s is compared with a text", c.attribute)
	}
	var u identity.User
	switch c.attribute {
	case "username":
		// What could be nobody's address is nobody's.
		address, err := identity.CanonicalAddress(text)
		if err != nil {
			return nil, nil
		}
		u, err = h.o.Store.UserByAddress(ctx, address)
		return one(u, err)
	case "externalid":
		u, err = h.o.Store.UserByExternal(ctx, text)
	case "id":
		u, err = h.o.Store.User(ctx, identity.PersonID(text))
	default:
		return nil, bad(invalidFilter, "people are found by userName, externalId and id only")
	}
	return one(u, err)
}

func one(u identity.User, err error) ([]identity.User, error) {
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return []identity.User{u}, nil
}

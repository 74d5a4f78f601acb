package scim

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const userSchema = "urn:ietf:params:scim:schemas:core:2.0:User"

// A resource is a user as it is written on the wire (RFC 7643 section 4.1), as far as we
// know it. encoding/json compares names without case, as section 2.1 wants.
type resource struct {
	Schemas     []string `json:"schemas,omitempty"`
	ID          string   `json:"id,omitempty"`
	ExternalID  *string  `json:"externalId,omitempty"`
	UserName    string   `json:"userName,omitempty"`
	Name        *name    `json:"name,omitempty"`
	DisplayName string   `json:"displayName,omitempty"`
	Active      *truth   `json:"active,omitempty"`
	Emails      []email  `json:"emails,omitempty"`
	Meta        *meta    `json:"meta,omitempty"`
}

type name struct {
	Formatted  string `json:"formatted,omitempty"`
	FamilyName string `json:"familyName,omitempty"`
	GivenName  string `json:"givenName,omitempty"`
	MiddleName string `json:"middleName,omitempty"`
	Prefix     string `json:"honorificPrefix,omitempty"`
	Suffix     string `json:"honorificSuffix,omitempty"`
}

type email struct {
	Value   string `json:"value"`
	Display string `json:"display,omitempty"`
	Type    string `json:"type,omitempty"`
	Primary truth  `json:"primary,omitempty"`
}

type meta struct {
	ResourceType string    `json:"resourceType"`
	Created      time.Time `json:"created"`
	LastModified time.Time `json:"lastModified"`
	Location     string    `json:"location"`
	Version      string    `json:"version"`
}

// A truth is also read from "True" and "False", which is how Entra ID writes them.
type truth bool

// UnmarshalJSON implements json.Unmarshaler.
func (t *truth) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) != nil {
		text = string(data)
	}
	switch strings.ToLower(text) {
	case "true":
		*t = true
	case "false":
		*t = false
	case "null": // by convention it changes nothing
	default:
		return bad(invalidValue, "a truth value must be true or false")
	}
	return nil
}

// Limits of what is kept.
const (
	maxText   = 256 // of a name, in characters
	maxEmails = 20
)

// kept is what of a resource is stored as it was said.
type kept struct {
	Name        *name   `json:"name,omitempty"`
	DisplayName string  `json:"displayName,omitempty"`
	Emails      []email `json:"emails,omitempty"`
}

// readUser reads the body of POST and PUT.
func readUser(data []byte) (resource, error) {
	var res resource
	if err := decode(data, &res); err != nil {
		return res, err
	}
	if !slices.ContainsFunc(res.Schemas, func(s string) bool { return strings.EqualFold(s, userSchema) }) {
		return res, bad(invalidSyntax, "schemas must name %s", userSchema)
	}
	if res.UserName == "" {
		return res, bad(invalidValue, "userName is required")
	}
	return res, nil
}

// decode reads one JSON value and nothing after it.
func decode(data []byte, into any) error {
	var f *Fault
	if !utf8.Valid(data) {
		return bad(invalidSyntax, "the body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(into)
	switch {
	case errors.As(err, &f):
		return f
	case err != nil:
		return bad(invalidSyntax, "the body is not what it should be: JSON with the types of the schema")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return bad(invalidSyntax, "something follows the JSON value")
	}
	return nil
}

// into checks what is wanted and writes it into a user.
func (h *Handler) into(wanted resource, u *identity.User) error {
	address, err := h.address(wanted.UserName)
	if err != nil {
		return err
	}
	shown, derived := keptOf(*u), derivedEmails(u.Person.Address)
	u.Person.Address = address
	if wanted.ExternalID != nil {
		if u.External = *wanted.ExternalID; len(u.External) > maxText || strings.ContainsFunc(u.External, unicode.IsControl) {
			return bad(invalidValue, "externalId is longer than %d bytes, or holds control characters", maxText)
		}
	}
	k := kept{Name: wanted.Name, DisplayName: wanted.DisplayName, Emails: wanted.Emails}
	if err := k.check(); err != nil {
		return err
	}
	changed := !k.same(shown)
	if slices.Equal(k.Emails, derived) {
		k.Emails = nil // it follows userName
	}
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if changed {
		u.Attributes = string(text)
	}
	u.Person.Name = k.person()
	switch {
	case wanted.Active == nil:
		u.Wish = identity.WishNothing
	case bool(*wanted.Active):
		u.Wish = identity.WishActive
	default:
		u.Wish = identity.WishInactive
	}
	return nil
}

// address is a userName as the address of a person.
func (h *Handler) address(userName string) (string, error) {
	address, err := identity.CanonicalAddress(strings.TrimSpace(userName))
	if err != nil {
		return "", bad(invalidValue, "userName must be a mail address")
	}
	_, domain, _ := strings.Cut(address, "@")
	if !slices.Contains(h.o.Domains, domain) {
		return "", bad(invalidValue, "userName must be an address in a domain that is served here")
	}
	return address, nil
}

// check bounds what is kept, and cleans it: it is shown on pages and handed to the hook.
func (k *kept) check() error {
	texts := []*string{&k.DisplayName}
	if k.Name != nil {
		copied := *k.Name
		k.Name = &copied
		texts = append(texts, &k.Name.Formatted, &k.Name.FamilyName, &k.Name.GivenName, &k.Name.MiddleName, &k.Name.Prefix, &k.Name.Suffix)
	}
	if len(k.Emails) > maxEmails {
		return bad(tooMany, "more than %d emails", maxEmails)
	}
	k.Emails = slices.Clone(k.Emails)
	for i := range k.Emails {
		texts = append(texts, &k.Emails[i].Value, &k.Emails[i].Display, &k.Emails[i].Type)
	}
	for _, text := range texts {
		*text = strings.TrimSpace(strings.Map(visible, *text))
		if utf8.RuneCountInString(*text) > maxText {
			return bad(invalidValue, "a text has more than %d characters", maxText)
		}
	}
	return nil
}

// visible drops what cannot be seen, and could turn the rest around.
func visible(r rune) rune {
	if r != ' ' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)) {
		return -1
	}
	return r
}

// person is the name that pages show.
func (k kept) person() string {
	switch n := k.Name; {
	case k.DisplayName != "":
		return k.DisplayName
	case n == nil:
		return ""
	case n.Formatted != "":
		return n.Formatted
	default:
		return strings.TrimSpace(n.GivenName + " " + n.FamilyName)
	}
}

func (k kept) same(other kept) bool {
	a, err1 := json.Marshal(k)
	b, err2 := json.Marshal(other)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}

// keptOf is what was said about a user, brought up to date with what others have changed.
func keptOf(u identity.User) kept {
	var k kept
	if json.Unmarshal([]byte(u.Attributes), &k) != nil {
		k = kept{}
	}
	if k.person() != u.Person.Name {
		k.DisplayName = u.Person.Name // an administrator has changed it since
	}
	if len(k.Emails) == 0 {
		k.Emails = derivedEmails(u.Person.Address)
	}
	return k
}

// derivedEmails is what a user has about whom nobody has said other ones.
func derivedEmails(address string) []email {
	return []email{{Value: address, Type: "work", Primary: true}}
}

// resourceOf is a user as the directory sees it, without meta.
func resourceOf(u identity.User) resource {
	k := keptOf(u)
	active := truth(u.Person.Disabled.IsZero())
	res := resource{Schemas: []string{userSchema}, ID: string(u.Person.ID), UserName: u.Person.Address, Name: k.Name, DisplayName: k.DisplayName, Active: &active, Emails: k.Emails}
	if external := u.External; external != "" {
		res.ExternalID = &external
	}
	return res
}

func (h *Handler) render(u identity.User) resource {
	res := resourceOf(u)
	changed := u.Changed
	if changed.IsZero() {
		changed = u.Person.Created
	}
	res.Meta = &meta{ResourceType: "User", Created: u.Person.Created, LastModified: changed, Location: h.place(u.Person.ID), Version: etag(res)}
	return res
}

// etag is a weak entity tag of what is shown, so that it changes whoever made the change.
func etag(res resource) string {
	res.Meta = nil
	text, err := json.Marshal(res)
	if err != nil {
		return `W/""`
	}
	sum := sha256.Sum256(text)
	return `W/"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// chosen leaves out what the caller does not want to see (RFC 7644 section 3.9), by
// attributes of the first level. schemas and id always stay.
func chosen(r *http.Request, res resource) (any, error) {
	query := r.URL.Query()
	only, without := query.Get("attributes"), query.Get("excludedAttributes")
	if only == "" && without == "" {
		return res, nil
	}
	text, err := json.Marshal(res)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	for attribute := range all {
		named := func(list string) bool {
			return slices.ContainsFunc(strings.Split(list, ","), func(one string) bool {
				p, err := parsePath(strings.TrimSpace(one))
				return err == nil && strings.EqualFold(p.attribute, attribute)
			})
		}
		if attribute != "id" && attribute != "schemas" && (only != "" && !named(only) || only == "" && named(without)) {
			delete(all, attribute)
		}
	}
	return all, nil
}

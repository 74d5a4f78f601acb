package scim

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

const patchSchema = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

// maxOperations bounds one PATCH.
const maxOperations = 100

// An operation is one of a PATCH (RFC 7644 section 3.5.2).
type operation struct {
	verb  string // add, replace, remove
	path  path   // the zero path: value holds attributes by name
	value json.RawMessage
}

// A path names an attribute (RFC 7644 figure 7): emails[type eq "work"].value.
type path struct {
	attribute string
	where     *comparison
	sub       string
	extension bool // of a schema we do not know
}

// parsePath reads one; the URN of the core schema may stand before it.
func parsePath(text string) (path, error) {
	if len(text) > maxFilter || text == "" {
		return path{}, bad(invalidPath, "a path is empty or too long")
	}
	if len(text) >= 4 && strings.EqualFold(text[:4], "urn:") {
		if len(text) <= len(userSchema) || !strings.EqualFold(text[:len(userSchema)], userSchema) || text[len(userSchema)] != ':' {
			return path{attribute: text, extension: true}, nil
		}
		text = text[len(userSchema)+1:]
	}
	var p path
	if open := strings.IndexByte(text, '['); open >= 0 {
		// The value of the filter may hold brackets; what follows it cannot.
		end := strings.LastIndexByte(text, ']')
		if end < open {
			return p, bad(invalidPath, "a bracket is not closed")
		}
		where, err := parseComparison(text[open+1 : end])
		if err != nil {
			return p, bad(invalidFilter, "only [ATTRIBUTE eq VALUE] selects values")
		}
		p.attribute, p.where = text[:open], &where
		rest := text[end+1:]
		if p.sub = strings.TrimPrefix(rest, "."); rest != "" && (p.sub == rest || p.sub == "") {
			return p, bad(invalidPath, "a path goes on wrongly behind its filter")
		}
	} else {
		p.attribute, p.sub, _ = strings.Cut(text, ".")
		if p.sub == "" && strings.Contains(text, ".") {
			return p, bad(invalidPath, "a path ends with a dot")
		}
	}
	if !plainName(p.attribute) || p.sub != "" && !plainName(p.sub) {
		return p, bad(invalidPath, "a path is not the name of an attribute")
	}
	return p, nil
}

// plainName is ATTRNAME of RFC 7643 section 2.1; "$ref" is a name too.
func plainName(text string) bool {
	for i, r := range text {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || i == 0 && r == '$'
		if !letter && (i == 0 || !(r >= '0' && r <= '9') && r != '-' && r != '_') {
			return false
		}
	}
	return text != ""
}

// parsePatch reads the body of a PATCH. Entra ID writes "Replace", others "replace".
func parsePatch(data []byte) ([]operation, error) {
	var wire struct {
		Schemas    []string `json:"schemas"`
		Operations []struct {
			Op    string          `json:"op"`
			Path  *string         `json:"path"`
			Value json.RawMessage `json:"value"`
		} `json:"Operations"`
	}
	if err := decode(data, &wire); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(wire.Schemas, func(s string) bool { return strings.EqualFold(s, patchSchema) }) {
		return nil, bad(invalidSyntax, "schemas must name %s", patchSchema)
	}
	if len(wire.Operations) == 0 || len(wire.Operations) > maxOperations {
		return nil, bad(invalidSyntax, "there must be 1 to %d operations", maxOperations)
	}
	var all []operation
	for i, one := range wire.Operations {
		o := operation{verb: strings.ToLower(one.Op), value: one.Value}
		if o.verb != "add" && o.verb != "replace" && o.verb != "remove" {
			return nil, atOperation(i, bad(invalidSyntax, "op must be add, replace or remove"))
		}
		switch {
		case one.Path != nil && *one.Path != "":
			var err error
			if o.path, err = parsePath(*one.Path); err != nil {
				return nil, atOperation(i, err)
			}
		case o.verb == "remove":
			return nil, atOperation(i, bad(noTarget, "remove needs a path"))
		}
		if o.verb != "remove" && (len(o.value) == 0 || string(o.value) == "null") {
			return nil, atOperation(i, bad(invalidValue, "%s needs a value", o.verb))
		}
		all = append(all, o)
	}
	return all, nil
}

// apply does the operation on a user.
func (o operation) apply(to *resource) error {
	if o.path.attribute != "" {
		return o.at(to)
	}
	var values map[string]json.RawMessage
	if json.Unmarshal(o.value, &values) != nil {
		return bad(invalidValue, "without a path the value must hold attributes by name")
	}
	// In order of their names: a part ("name.givenName" is a name to Entra ID) comes after its
	// whole, each time.
	for _, attribute := range slices.SortedFunc(maps.Keys(values), byName) {
		value := values[attribute]
		p, err := parsePath(attribute)
		if err != nil {
			return err
		}
		if err := (operation{verb: o.verb, path: p, value: value}).at(to); err != nil {
			return err
		}
	}
	return nil
}

// byName: attributes have no case, but the order must not depend on chance either.
func byName(a, b string) int {
	return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
}

// at does it at its path.
func (o operation) at(to *resource) error {
	if o.path.extension {
		return nil // taken and forgotten, as in POST
	}
	attribute := strings.ToLower(o.path.attribute)
	if o.path.where != nil && attribute != "emails" && !forgotten(attribute) {
		return bad(invalidPath, "%s has one value and nothing to select", attribute)
	}
	switch attribute {
	case "username":
		return o.text(&to.UserName, true)
	case "externalid":
		var external string
		err := o.text(&external, false)
		to.ExternalID = &external
		return err
	case "displayname":
		return o.text(&to.DisplayName, false)
	case "active":
		return o.active(to)
	case "name":
		return o.name(to)
	case "emails":
		return o.emails(to)
	case "id", "meta", "schemas", "groups":
		if attribute == "schemas" || attribute == "id" && o.path.sub == "" && o.verb != "remove" && o.says(to.ID) {
			return nil // said again by clients that send everything
		}
		return bad(mutability, "%s cannot be changed", attribute)
	}
	if forgotten(attribute) {
		return nil
	}
	return bad(invalidPath, "there is no attribute %s", attribute)
}

// forgotten are attributes of the core schema that mean nothing here (RFC 7643 section
// 4.1). They are taken, because directories send all that they map in one request.
func forgotten(attribute string) bool {
	switch attribute {
	case "nickname", "profileurl", "title", "usertype", "preferredlanguage", "locale", "timezone", "password",
		"phonenumbers", "ims", "photos", "addresses", "entitlements", "roles", "x509certificates":
		return true
	}
	return false
}

// text is an attribute with one text as its value.
func (o operation) text(into *string, required bool) error {
	if o.path.sub != "" {
		return bad(invalidPath, "%s has no parts", o.path.attribute)
	}
	if o.verb == "remove" {
		if required {
			return bad(mutability, "%s is required", o.path.attribute)
		}
		*into = ""
		return nil
	}
	var text string
	if json.Unmarshal(bare(o.value), &text) != nil {
		return bad(invalidValue, "%s must be a text", o.path.attribute)
	}
	if required && text == "" {
		return bad(invalidValue, "%s is required", o.path.attribute)
	}
	*into = text
	return nil
}

// bare takes a value out of [{"value": …}], in which older directories wrap it.
func bare(value json.RawMessage) json.RawMessage {
	var wrapped []struct {
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(value, &wrapped) == nil && len(wrapped) == 1 && len(wrapped[0].Value) > 0 {
		return wrapped[0].Value
	}
	return value
}

// says reports whether the value is that text.
func (o operation) says(text string) bool {
	var given string
	return json.Unmarshal(o.value, &given) == nil && given == text
}

// active is never removed: what a person is then, would be a guess.
func (o operation) active(to *resource) error {
	if o.path.sub != "" {
		return bad(invalidPath, "active has no parts")
	}
	if o.verb == "remove" {
		return bad(mutability, "active is true or false")
	}
	var active truth
	if json.Unmarshal(bare(o.value), &active) != nil {
		return bad(invalidValue, "active must be true or false")
	}
	to.Active = &active
	return nil
}

// name is the name or one part of it. A copy is changed: the old one may be tried again.
func (o operation) name(to *resource) error {
	var n name
	if to.Name != nil {
		n = *to.Name
	}
	parts := map[string]*string{"formatted": &n.Formatted, "familyname": &n.FamilyName, "givenname": &n.GivenName,
		"middlename": &n.MiddleName, "honorificprefix": &n.Prefix, "honorificsuffix": &n.Suffix}
	switch {
	case o.path.sub != "":
		into, known := parts[strings.ToLower(o.path.sub)]
		if !known {
			return bad(invalidPath, "a name has no part %s", o.path.sub)
		}
		if err := (operation{verb: o.verb, path: path{attribute: o.path.sub}, value: o.value}).text(into, false); err != nil {
			return err
		}
	case o.verb == "remove":
		n = name{}
	case json.Unmarshal(o.value, &n) != nil: // parts that are not named stay (section 3.5.2.3)
		return bad(invalidValue, "a name has parts that are texts")
	}
	to.Name = &n
	return nil
}

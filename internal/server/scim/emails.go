package scim

import (
	"encoding/json"
	"slices"
	"strings"
)

// emails changes the list, those that a filter selects, or one part of those.
func (o operation) emails(to *resource) error {
	list := slices.Clone(to.Emails)
	if o.path.where == nil {
		if o.path.sub != "" {
			return o.emailParts(to, list, func(email) bool { return true })
		}
		return o.emailList(to, list)
	}
	where := *o.path.where
	selects := func(e email) bool { return where.selects(e) }
	switch where.attribute {
	case "type", "value", "display", "primary":
	default:
		return bad(invalidFilter, "emails have no %s", where.attribute)
	}
	switch {
	case o.verb == "remove" && o.path.sub == "":
		to.Emails = slices.DeleteFunc(list, selects)
		return nil
	case o.verb != "remove" && !slices.ContainsFunc(list, selects):
		// Section 3.5.2.3 has nothing to replace; an addition makes what it selects, which is
		// how Entra ID writes the first one.
		if o.verb == "replace" {
			return bad(noTarget, "no email is selected")
		}
		fresh, err := where.email()
		if err != nil {
			return err
		}
		list = append(list, fresh)
	}
	if o.path.sub != "" {
		return o.emailParts(to, list, selects)
	}
	for i := range list {
		if selects(list[i]) {
			if json.Unmarshal(o.value, &list[i]) != nil {
				return bad(invalidValue, "an email has value, type, display and primary")
			}
		}
	}
	to.Emails = list
	return nil
}

// emailList adds to the list, or takes its place.
func (o operation) emailList(to *resource, list []email) error {
	if o.verb == "remove" {
		to.Emails = nil
		return nil
	}
	var given []email
	if json.Unmarshal(o.value, &given) != nil {
		var single email
		if json.Unmarshal(o.value, &single) != nil {
			return bad(invalidValue, "emails is a list")
		}
		given = []email{single}
	}
	if o.verb == "replace" {
		to.Emails = given
		return nil
	}
	for _, e := range given {
		if !slices.ContainsFunc(list, func(have email) bool { return strings.EqualFold(have.Value, e.Value) && have.Type == e.Type }) {
			list = append(list, e)
		}
	}
	to.Emails = list
	return nil
}

// emailParts changes one part of the selected ones.
func (o operation) emailParts(to *resource, list []email, selects func(email) bool) error {
	for i := range list {
		e := &list[i]
		if !selects(*e) {
			continue
		}
		part := operation{verb: o.verb, path: path{attribute: o.path.sub}, value: o.value}
		var err error
		switch strings.ToLower(o.path.sub) {
		case "value":
			err = part.text(&e.Value, false)
		case "display":
			err = part.text(&e.Display, false)
		case "type":
			err = part.text(&e.Type, false)
		case "primary":
			e.Primary = false
			if o.verb != "remove" && json.Unmarshal(bare(o.value), &e.Primary) != nil {
				err = bad(invalidValue, "primary must be true or false")
			}
		default:
			err = bad(invalidPath, "an email has no part %s", o.path.sub)
		}
		if err != nil {
			return err
		}
	}
	to.Emails = slices.DeleteFunc(list, func(e email) bool { return e.Value == "" && o.verb == "remove" })
	return nil
}

// selects reports whether an email has the value.
func (c comparison) selects(e email) bool {
	text, isText := c.value.(string)
	if !isText {
		return c.attribute == "primary" && c.value == bool(e.Primary)
	}
	switch c.attribute {
	case "type":
		return strings.EqualFold(e.Type, text)
	case "value":
		return strings.EqualFold(e.Value, text)
	case "display":
		return strings.EqualFold(e.Display, text)
	}
	return strings.EqualFold(text, "true") == bool(e.Primary)
}

// email is a new one that the comparison selects.
func (c comparison) email() (email, error) {
	text, isText := c.value.(string)
	switch {
	case isText && c.attribute == "type":
		return email{Type: text}, nil
	case isText && c.attribute == "value":
		return email{Value: text}, nil
	case c.attribute == "primary":
		return email{Primary: true}, nil
	}
	return email{}, bad(noTarget, "no email is selected")
}

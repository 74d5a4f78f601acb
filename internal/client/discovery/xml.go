package discovery

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxElements bounds the tree of a document; Thunderbird's largest has some 200.
const maxElements = 2000

// An element is one of XML, with its own text. Name spaces are left out: the format
// has none.
type element struct {
	name       string
	attributes map[string]string
	text       string
	children   []*element
}

func (e *element) all(name string) []*element {
	var found []*element
	for _, c := range e.children {
		if c.name == name {
			found = append(found, c)
		}
	}
	return found
}

// child is the text of the first child of that name.
func (e *element) child(name string) string {
	for _, c := range e.children {
		if c.name == name {
			return c.text
		}
	}
	return ""
}

var errXML = errors.New("not XML")

// parseXML reads a small tree of UTF-8. There are no document types, so no entities
// but the five of XML itself: a "billion laughs" ends at its first line.
//
// It is our own because encoding/xml makes the table of HTML's entities at every start
// of the program, a fifth of all that letterlock allocates before main, and tokens are
// asked for by every cron job while settings are looked for once. A test holds the two
// to the same trees.
func parseXML(body []byte) (*element, error) {
	if len(body) > maxDocument {
		return nil, fmt.Errorf("a document of more than %d bytes", maxDocument)
	}
	if !utf8.Valid(body) {
		return nil, errors.New("XML that is not in UTF-8")
	}
	holder := &element{}
	x := &xmlReader{rest: strings.TrimPrefix(string(body), "\ufeff"), open: []*element{holder}}
	for x.rest != "" {
		if err := x.step(); err != nil {
			return nil, err
		}
	}
	if len(x.open) != 1 || len(holder.children) != 1 || strings.TrimSpace(holder.text) != "" {
		return nil, errors.New("XML without one whole root")
	}
	return holder.children[0], nil
}

type xmlReader struct {
	rest  string
	open  []*element
	count int
}

// step reads one piece of markup, or the text before it.
func (x *xmlReader) step() error {
	text, markup, found := strings.Cut(x.rest, "<")
	if text != "" || !found {
		plain, err := unescape(text)
		if err != nil {
			return err
		}
		x.open[len(x.open)-1].text += plain
		x.rest = x.rest[len(text):]
		return nil
	}
	switch {
	case strings.HasPrefix(markup, "!--"):
		return x.skip(markup[len("!--"):], "-->")
	case strings.HasPrefix(markup, "![CDATA["):
		inside, rest, ok := strings.Cut(markup[len("![CDATA["):], "]]>")
		if !ok || !allowed(inside) {
			return errXML
		}
		x.open[len(x.open)-1].text += inside
		x.rest = rest
		return nil
	case strings.HasPrefix(markup, "!"):
		return errors.New("XML with a document type")
	case strings.HasPrefix(markup, "?"):
		return x.instruction(markup[1:])
	case strings.HasPrefix(markup, "/"):
		return x.end(markup[1:])
	}
	return x.start(markup)
}

func (x *xmlReader) skip(markup, end string) error {
	_, rest, ok := strings.Cut(markup, end)
	if !ok {
		return errXML
	}
	x.rest = rest
	return nil
}

// instruction passes over "<?...?>", but for the declaration of another character set.
func (x *xmlReader) instruction(markup string) error {
	inside, rest, ok := strings.Cut(markup, "?>")
	target, _, _ := strings.Cut(strings.NewReplacer("\t", " ", "\r", " ", "\n", " ").Replace(inside), " ")
	if !ok || !properName(target) {
		return errXML
	}
	if declaration, isXML := strings.CutPrefix(inside, "xml "); isXML {
		if _, after, named := strings.Cut(declaration, "encoding="); named {
			if name := strings.ToLower(strings.Trim(strings.TrimSpace(after), `"'`)); !strings.HasPrefix(name, "utf-8") && !strings.HasPrefix(name, "us-ascii") {
				return errors.New("XML that is not in UTF-8")
			}
		}
	}
	x.rest = rest
	return nil
}

func (x *xmlReader) end(markup string) error {
	name, rest, ok := strings.Cut(markup, ">")
	top := x.open[len(x.open)-1]
	if !ok || len(x.open) == 1 || local(strings.TrimRight(name, blanks)) != top.name {
		return errors.New("XML whose elements do not match")
	}
	top.text = strings.TrimSpace(top.text)
	x.open, x.rest = x.open[:len(x.open)-1], rest
	return nil
}

const blanks = " \t\r\n"

func (x *xmlReader) start(markup string) error {
	if x.count++; x.count > maxElements || len(x.open) > maxDepth {
		return errors.New("XML with too many elements, or nested too deeply")
	}
	end := strings.IndexAny(markup, blanks+"/>")
	if end <= 0 || !properName(markup[:end]) {
		return errXML
	}
	e := &element{name: local(markup[:end]), attributes: map[string]string{}}
	markup = markup[end:]
	for {
		markup = strings.TrimLeft(markup, blanks)
		top := x.open[len(x.open)-1]
		switch {
		case strings.HasPrefix(markup, "/>"):
			top.children = append(top.children, e)
			x.rest = markup[2:]
			return nil
		case strings.HasPrefix(markup, ">"):
			top.children = append(top.children, e)
			x.open, x.rest = append(x.open, e), markup[1:]
			return nil
		}
		var err error
		if markup, err = e.attribute(markup); err != nil {
			return err
		}
	}
}

// attribute reads one name="value" and returns what comes after it.
func (e *element) attribute(markup string) (string, error) {
	name, rest, ok := strings.Cut(markup, "=")
	name, rest = strings.TrimRight(name, blanks), strings.TrimLeft(rest, blanks)
	if !ok || !properName(name) || rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return "", errXML
	}
	value, rest, ok := strings.Cut(rest[1:], rest[:1])
	if !ok || strings.Contains(value, "<") {
		return "", errXML
	}
	if _, twice := e.attributes[local(name)]; twice {
		return "", errors.New("XML that gives an attribute twice")
	}
	plain, err := unescape(value)
	e.attributes[local(name)] = plain
	return rest, err
}

// properName is stricter than XML: ASCII, as all names of the format are.
func properName(name string) bool {
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		if !letter && (i == 0 || !(r >= '0' && r <= '9' || r == '-' || r == '.' || r == ':')) {
			return false
		}
	}
	return name != "" && !strings.HasSuffix(name, ":") && strings.Count(name, ":") <= 1
}

func local(name string) string {
	if _, after, ok := strings.Cut(name, ":"); ok {
		return after
	}
	return name
}

// unescape resolves the five entities and characters by number (XML section 4.1).
func unescape(text string) (string, error) {
	if !allowed(text) || strings.Contains(text, "]]>") {
		return "", errXML
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "&")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, rest, ok := strings.Cut(after, ";")
		if !ok || len(name) > 10 {
			return "", errors.New("XML with an entity that it does not have")
		}
		switch name {
		case "amp":
			b.WriteByte('&')
		case "lt":
			b.WriteByte('<')
		case "gt":
			b.WriteByte('>')
		case "apos":
			b.WriteByte('\'')
		case "quot":
			b.WriteByte('"')
		default:
			r, ok := byNumber(name)
			if !ok {
				return "", errors.New("XML with an entity that it does not have")
			}
			b.WriteRune(r)
		}
		text = rest
	}
}

func byNumber(name string) (rune, bool) {
	digits, ok := strings.CutPrefix(name, "#")
	base := 10
	if hex, isHex := strings.CutPrefix(digits, "x"); isHex {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	return rune(n), ok && err == nil && n <= utf8.MaxRune && allowed(string(rune(n)))
}

// allowed are the characters of XML section 2.2.
func allowed(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff || r == utf8.RuneError
	})
}

package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
)

// A Rule is something of the web mail that nobody reaches through the gateway: a path with
// all below it, a parameter of query or form with a value, or both.
type Rule struct {
	Path         string // "/installer"; empty: everywhere
	Param, Value string // empty Param: whatever the parameters; empty Value: any
}

// ParseRule reads "/path", "?name=value" or "/path?name=value".
func ParseRule(text string) (Rule, error) {
	path, query, has := strings.Cut(text, "?")
	rule := Rule{Path: path}
	if has {
		rule.Param, rule.Value, _ = strings.Cut(query, "=")
	}
	_, err := newRules([]Rule{rule})
	return rule, err
}

// rules are all Rules in the form that is compared.
type rules struct {
	all        []Rule
	everywhere []Rule // those that look at parameters, whatever the path
	below      []Rule // those that look at parameters below a path
}

func newRules(all []Rule) (rules, error) {
	var r rules
	for _, one := range all {
		if one.Path == "" && one.Param == "" || one.Path != "" && !strings.HasPrefix(one.Path, "/") || one.Path == "/" && one.Param == "" ||
			one.Param != "" && one.Param != plainName(one.Param) || !plainValue(one.Value) || one.Param == "" && one.Value != "" || len(one.Param) > maxName {
			return r, fmt.Errorf("rule %q: want /PATH, ?NAME=VALUE or /PATH?NAME=VALUE", one.Path+"?"+one.Param+"="+one.Value)
		}
		one.Path = strings.ToLower(strings.TrimSuffix(one.Path, "/"))
		r.all = append(r.all, one)
		switch {
		case one.Param == "":
		case one.Path == "":
			r.everywhere = append(r.everywhere, one)
		default:
			r.below = append(r.below, one)
		}
	}
	return r, nil
}

// paths reports whether a rule without parameter meets the path. Hidden files are nobody's
// business, but for the well-known ones.
func (r rules) paths(path string) bool {
	path = squeeze(path)
	for _, one := range r.all {
		if one.Param == "" && below(path, one.Path) {
			return true
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(segment, ".") && segment != ".well-known" {
			return true
		}
	}
	return false
}

// squeeze writes a path as lenient servers read it: one slash for several, no case, no
// parameters of segments.
func squeeze(path string) string {
	var b strings.Builder
	for segment := range strings.SplitSeq(strings.ToLower(path), "/") {
		segment, _, _ = strings.Cut(segment, ";")
		if segment = strings.TrimRight(segment, " "); segment != "" {
			b.WriteString("/" + segment)
		}
	}
	return b.String()
}

func below(path, rule string) bool {
	rest, ok := strings.CutPrefix(path, rule)
	return ok && (rest == "" || rest[0] == '/')
}

// watches are the rules that look at parameters of a request with this path.
func (r rules) watches(path string) []Rule {
	if len(r.below) == 0 {
		return r.everywhere
	}
	path = squeeze(path)
	some := slices.Clone(r.everywhere)
	for _, one := range r.below {
		if below(path, one.Path) {
			some = append(some, one)
		}
	}
	return some
}

// blocked answers what no rule lets through, and sees to the body of what goes on.
func (g *Gateway) blocked(w http.ResponseWriter, r *http.Request) (answered bool) {
	if g.rules.paths(r.URL.Path) {
		g.fault(w, r, http.StatusNotFound, "There is no such page.", "Go back to the start page.")
		return true
	}
	watches := g.rules.watches(r.URL.Path)
	if len(watches) == 0 {
		return false
	}
	if formOf(watches, r.URL.RawQuery) {
		if start := r.URL.Path == "/" || r.URL.Path == "/index.php"; start && g.o.Preset.roundcube && r.Method == http.MethodGet && !background(r) {
			// Roundcube's own scripts lead to its login page when its session is over.
			// The start page signs in by itself.
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return true
		}
		g.fault(w, r, http.StatusNotFound, "There is no such page.", "Go back to the start page. Nobody signs in with a password here.")
		return true
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = watchBody(r, watches)
	}
	return false
}

// formOf reports whether a query holds what one of the rules names.
func formOf(watches []Rule, query string) bool {
	p := pairs{watches: watches}
	return p.feed([]byte(query)) || p.end()
}

// errBlocked ends a body that holds what a rule names.
var errBlocked = errors.New("the form holds what is not let through")

// watchBody looks at a form while it passes by: nothing is buffered, however large it is.
// The web mail never gets the end of one that is refused, and so does nothing.
func watchBody(r *http.Request, watches []Rule) io.ReadCloser {
	kind := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Type")))
	switch {
	case strings.HasPrefix(kind, "application/x-www-form-urlencoded"):
		return &watched{ReadCloser: r.Body, look: &pairs{watches: watches}}
	case strings.HasPrefix(kind, "multipart/"):
		return &watched{ReadCloser: r.Body, look: &parts{watches: watches}}
	}
	return r.Body
}

type looker interface {
	feed(data []byte) (found bool)
	end() (found bool)
}

type watched struct {
	io.ReadCloser
	look looker
	hit  atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) {
	if w.hit.Load() {
		return 0, errBlocked
	}
	n, err := w.ReadCloser.Read(p)
	if w.look.feed(p[:n]) || err != nil && w.look.end() {
		w.hit.Store(true)
		return 0, errBlocked
	}
	return n, err
}

const (
	maxName  = 64
	maxValue = 64
)

// pairs reads name=value&… piece by piece, as PHP reads it.
type pairs struct {
	watches     []Rule
	name, value []byte
	inValue     bool
	escape      []byte // "%4" so far
}

func (p *pairs) feed(data []byte) bool {
	for _, c := range data {
		if len(p.escape) > 0 {
			p.escape = append(p.escape, c)
			if len(p.escape) < 3 && isHex(c) {
				continue
			}
			raw := p.escape
			p.escape = p.escape[:0]
			if len(raw) == 3 && isHex(c) {
				p.put(unhex(raw[1])<<4 | unhex(raw[2]))
				continue
			}
			for _, b := range raw[:len(raw)-1] {
				p.put(b)
			}
		}
		switch {
		case c == '&':
			if p.end() {
				return true
			}
		case c == '=' && !p.inValue:
			p.inValue = true
		case c == '%':
			p.escape = append(p.escape[:0], c)
		case c == '+':
			p.put(' ')
		default:
			p.put(c)
		}
	}
	return false
}

// put keeps the first bytes of a name or value, and of more that there was more.
func (p *pairs) put(c byte) {
	switch {
	case p.inValue && len(p.value) <= maxValue:
		p.value = append(p.value, c)
	case !p.inValue && len(p.name) == 0 && c == ' ': // PHP drops blanks before a name
	case !p.inValue && len(p.name) <= maxName:
		p.name = append(p.name, c)
	}
}

func (p *pairs) end() bool {
	for _, b := range p.escape {
		p.put(b)
	}
	found := false
	for _, rule := range p.watches {
		found = found || rule.meets(string(p.name), string(p.value))
	}
	p.name, p.value, p.inValue, p.escape = p.name[:0], p.value[:0], false, p.escape[:0]
	return found
}

// meets reports whether a pair is what the rule names. A value of a watched name that is
// not plain meets it too: web mail drops tags and signs from such values, each in its way.
func (rule Rule) meets(name, value string) bool {
	if plainName(name) != rule.Param {
		return false
	}
	return rule.Value == "" || strings.EqualFold(value, rule.Value) || !plainValue(value)
}

// plainName is a name as PHP makes it of what was sent: blanks and dots are underscores,
// and an index or a NUL ends it.
func plainName(name string) string {
	if cut := strings.IndexAny(name, "[\x00"); cut > 0 {
		name = name[:cut]
	}
	// Two passes instead of a Replacer: it is asked for each pair, and hardly one has either.
	return strings.ReplaceAll(strings.ReplaceAll(strings.TrimLeft(name, " "), " ", "_"), ".", "_")
}

func plainValue(value string) bool {
	return len(value) <= maxValue && !strings.ContainsFunc(value, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' || r == '/')
	})
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// parts looks at the lines of a multipart form that name its fields. A field that has the
// name of a watched parameter is not let through, whatever its value: real forms have those
// in their address.
type parts struct {
	watches []Rule
	line    []byte
	since   int  // bytes since the last LF
	cut     bool // there was more of the line than is kept
	joined  bool // the line before ended with a CR alone, which is no end to PHP
	named   bool // the line before was one that names, and may go on
}

const maxLine = 2 << 10

func (p *parts) feed(data []byte) bool {
	for _, c := range data {
		p.since++
		if c != '\n' && c != '\r' {
			if len(p.line) < maxLine {
				p.line = append(p.line, c)
			} else {
				p.cut = true
			}
			continue
		}
		if len(p.line) > 0 && p.end() {
			return true
		}
		if c == '\n' {
			if p.since == 1 || p.since == 2 && p.joined {
				p.named = false // an empty line: what follows is the field itself
			}
			p.since = 0
		}
		p.joined = c == '\r' // the LF behind it, if there is one, undoes that
	}
	return false
}

func (p *parts) end() bool {
	line, cut := strings.ToLower(string(p.line)), p.cut
	p.line, p.cut = p.line[:0], false
	const blanks = " \t\v\f"
	folded := p.joined || line != "" && strings.ContainsRune(blanks, rune(line[0]))
	p.named = strings.HasPrefix(strings.TrimLeft(line, blanks), "content-disposition") || p.named && folded
	if !p.named {
		return false
	}
	if cut {
		return true // the name may stand behind, and no browser writes such a line
	}
	line = strings.NewReplacer(".", "_", " ", "_", "\\", "").Replace(line)
	for _, rule := range p.watches {
		if strings.Contains(line, strings.ToLower(rule.Param)) {
			return true
		}
	}
	return false
}

// queryOf reads the query of an address that a web server in front names.
func queryOf(uri string) (path, query string, ok bool) {
	u, err := url.ParseRequestURI(uri)
	if err != nil || len(uri) > 16<<10 {
		return "", "", false
	}
	return u.Path, u.RawQuery, true
}

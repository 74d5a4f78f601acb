package domain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// spfLimit is far above what fits into the lookups allowed.
const spfLimit = 8 << 10

// An spfTerm is one mechanism (RFC 7208 section 4.6.1).
type spfTerm struct {
	text      string
	qualifier byte
	name      string
	spec      string // domain-spec, macros and all
	prefix    netip.Prefix
	bits4     int
	bits6     int
}

func (t spfTerm) verdict() Verdict {
	switch t.qualifier {
	case '-':
		return Fail
	case '~':
		return SoftFail
	case '?':
		return Neutral
	}
	return Pass
}

// parseSPF reads a whole record: a fault at its end makes its beginning void too.
func parseSPF(text string) (terms []spfTerm, redirect string, err error) {
	if len(text) > spfLimit {
		return nil, "", fmt.Errorf("it is longer than %d bytes", spfLimit)
	}
	if len(text) < 6 || !strings.EqualFold(text[:6], "v=spf1") {
		return nil, "", errors.New("it does not begin with v=spf1")
	}
	seen := map[string]bool{}
	for word := range strings.SplitSeq(text[6:], " ") {
		if word == "" {
			continue
		}
		name, value, ok := cutModifier(word)
		if !ok {
			t, err := parseMechanism(word)
			if err != nil {
				return nil, "", fmt.Errorf("%q: %w", shorten(word), err)
			}
			terms = append(terms, t)
			continue
		}
		if known := name == "redirect" || name == "exp"; known {
			if seen[name] {
				return nil, "", fmt.Errorf("%s= stands there twice", name)
			}
			seen[name] = true
			err = checkSpec(value)
		} else {
			// Unknown modifiers are ignored, but their macros must be well-formed.
			err = checkMacros(value, true)
		}
		if err != nil {
			return nil, "", fmt.Errorf("%q: %w", shorten(word), err)
		}
		if name == "redirect" {
			redirect = value
		}
	}
	if slices.ContainsFunc(terms, func(t spfTerm) bool { return t.name == "all" }) {
		redirect = "" // RFC 7208 section 6.1
	}
	return terms, redirect, nil
}

// cutModifier: a name, then "=" before any ":" or "/".
func cutModifier(word string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(word, "=")
	if !ok || name == "" || !isAlpha(name[0]) || strings.ContainsFunc(name, func(r rune) bool {
		return r > '~' || !isAlpha(byte(r)) && !isDigit(byte(r)) && r != '-' && r != '_' && r != '.'
	}) {
		return "", "", false
	}
	return strings.ToLower(name), value, true
}

func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func parseMechanism(word string) (spfTerm, error) {
	t := spfTerm{text: word, qualifier: '+', bits4: 32, bits6: 128}
	if strings.IndexByte("+-~?", word[0]) >= 0 {
		t.qualifier, word = word[0], word[1:]
	}
	end := strings.IndexAny(word, ":/")
	if end < 0 {
		end = len(word)
	}
	t.name = strings.ToLower(word[:end])
	rest := word[end:]
	var err error
	switch t.name {
	case "all":
		if rest != "" {
			return t, errors.New("all takes nothing")
		}
	case "ip4", "ip6":
		t.prefix, err = parseNetwork(t.name, strings.TrimPrefix(rest, ":"))
	case "a", "mx":
		if rest, err = t.cutLengths(rest); err != nil {
			return t, err
		}
		fallthrough
	case "ptr":
		if rest != "" {
			t.spec = rest[1:]
			if rest[0] != ':' {
				return t, errors.New("there must be a colon before the domain")
			}
			err = checkSpec(t.spec)
		}
	case "include", "exists":
		if !strings.HasPrefix(rest, ":") {
			return t, errors.New("it needs a domain")
		}
		t.spec = rest[1:]
		err = checkSpec(t.spec)
	default:
		return t, errors.New("there is no such mechanism")
	}
	return t, err
}

func parseNetwork(name, text string) (netip.Prefix, error) {
	address, length, sized := strings.Cut(text, "/")
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Zone() != "" || ip.Is4() != (name == "ip4") {
		return netip.Prefix{}, errors.New("it needs an address of its kind")
	}
	bits := ip.BitLen()
	if sized {
		if bits, err = parseLength(length, ip.BitLen()); err != nil {
			return netip.Prefix{}, err
		}
	}
	return ip.Prefix(bits)
}

// parseLength: no leading zero, nothing but digits.
func parseLength(text string, limit int) (int, error) {
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || int(n) > limit || len(text) > 1 && text[0] == '0' {
		return 0, fmt.Errorf("/%s is no prefix length up to %d", shorten(text), limit)
	}
	return int(n), nil
}

// cutLengths takes "/24", "//64" or both from the end.
func (t *spfTerm) cutLengths(rest string) (string, error) {
	if head, six, ok := cutDigits(rest, "//"); ok {
		bits, err := parseLength(six, 128)
		if err != nil {
			return "", err
		}
		rest, t.bits6 = head, bits
	}
	if head, four, ok := cutDigits(rest, "/"); ok {
		bits, err := parseLength(four, 32)
		if err != nil {
			return "", err
		}
		rest, t.bits4 = head, bits
	}
	return rest, nil
}

// cutDigits takes sep and the digits after it from the end of text. Other slashes belong
// to the domain.
func cutDigits(text, sep string) (head, digits string, ok bool) {
	before := strings.TrimRight(text, "0123456789")
	head, ok = strings.CutSuffix(before, sep)
	if !ok || before == text {
		return text, "", false
	}
	return head, text[len(before):], true
}

// checkSpec is domain-spec (RFC 7208 section 7.1): macros and text, at its end a macro
// or a top label that is not a number.
func checkSpec(spec string) error {
	if spec == "" {
		return errors.New("it needs a domain")
	}
	if err := checkMacros(spec, false); err != nil {
		return err
	}
	if endsInMacro(spec) {
		return nil
	}
	_, top, dotted := cutLast(strings.TrimSuffix(spec, "."), ".")
	digits := true
	for i := range len(top) {
		c := top[i]
		if !isAlpha(c) && !isDigit(c) && (c != '-' || i == 0 || i == len(top)-1) {
			return errors.New("it does not end like a domain")
		}
		digits = digits && isDigit(c)
	}
	if !dotted || top == "" || digits {
		return errors.New("it does not end like a domain")
	}
	return nil
}

// endsInMacro: "%{...}" at the end; "%%", "%_" and "%-" make no domain, but the grammar
// counts them.
func endsInMacro(spec string) bool {
	end := ""
	_ = eachMacro(spec, true, func(_, m string) error {
		if m != "" {
			end = m
		}
		return nil
	})
	return end != "" && strings.HasSuffix(spec, end)
}

func checkMacros(text string, explaining bool) error {
	return eachMacro(text, explaining, func(string, string) error { return nil })
}

// eachMacro calls do with each macro and the literal text before it, at the end with
// the rest and no macro.
func eachMacro(text string, explaining bool, do func(literal, macro string) error) error {
	start := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c <= ' ' || c > '~':
			return errors.New("it has a character that may not stand there")
		case c != '%':
			continue
		case i+1 == len(text):
			return errors.New("a % stands alone at the end")
		}
		end := i + 2
		switch text[i+1] {
		case '%', '_', '-':
		case '{':
			size := strings.IndexByte(text[i:], '}')
			if size < 0 {
				return errors.New("a macro has no end")
			}
			end = i + size + 1
			if _, err := parseMacro(text[i:end], explaining); err != nil {
				return err
			}
		default:
			return errors.New("a % stands alone")
		}
		if err := do(text[start:i], text[i:end]); err != nil {
			return err
		}
		start, i = end, end-1
	}
	return do(text[start:], "")
}

// A macro is "%{" letter, digits, "r", delimiters "}" (RFC 7208 section 7.1).
type macro struct {
	letter     byte // lower case
	escape     bool // written in upper case
	keep       int  // 0: all
	reverse    bool
	delimiters string
}

func parseMacro(text string, explaining bool) (macro, error) {
	inner := text[2 : len(text)-1]
	var m macro
	letters := "slodiphv"
	if explaining {
		letters += "crt"
	}
	if inner == "" || !isAlpha(inner[0]) || strings.IndexByte(letters, inner[0]|0x20) < 0 {
		return m, fmt.Errorf("there is no macro %q here", shorten(text))
	}
	m.letter, m.escape = inner[0]|0x20, inner[0] < 'a'
	inner = inner[1:]
	digits := len(inner) - len(strings.TrimLeft(inner, "0123456789"))
	if digits > 0 {
		n, err := strconv.ParseUint(inner[:digits], 10, 16)
		if errors.Is(err, strconv.ErrRange) {
			n = 128
		} else if err != nil || n == 0 {
			return m, fmt.Errorf("the macro %q keeps nothing", shorten(text))
		}
		m.keep = int(n)
	}
	inner = inner[digits:]
	if inner != "" && inner[0]|0x20 == 'r' {
		m.reverse, inner = true, inner[1:]
	}
	if strings.Trim(inner, ".-+,/_=") != "" {
		return m, fmt.Errorf("the macro %q has unknown delimiters", shorten(text))
	}
	m.delimiters = inner
	if m.delimiters == "" {
		m.delimiters = "."
	}
	return m, nil
}

// expand makes a name of a domain-spec (RFC 7208 section 7.3).
func (e *spfRun) expand(ctx context.Context, spec, domain string) (string, error) {
	var out strings.Builder
	err := eachMacro(spec, false, func(literal, text string) error {
		out.WriteString(literal)
		switch text {
		case "":
		case "%%":
			out.WriteByte('%')
		case "%_":
			out.WriteByte(' ')
		case "%-":
			out.WriteString("%20")
		default:
			m, err := parseMacro(text, false)
			if err != nil {
				return err
			}
			value, err := e.value(ctx, m.letter, domain)
			if err != nil {
				return err
			}
			out.WriteString(m.transform(value))
		}
		return nil
	})
	name := strings.TrimSuffix(out.String(), ".")
	for len(name) > 253 {
		_, rest, found := strings.Cut(name, ".")
		if !found {
			break
		}
		name = rest
	}
	return name, err
}

func (e *spfRun) value(ctx context.Context, letter byte, domain string) (string, error) {
	switch letter {
	case 's':
		return e.local + "@" + e.origin, nil
	case 'l':
		return e.local, nil
	case 'o':
		return e.origin, nil
	case 'd':
		return domain, nil
	case 'i':
		return dotted(e.ip), nil
	case 'h':
		return e.helo, nil
	case 'v':
		if e.ip.Is4() {
			return "in-addr", nil
		}
		return "ip6", nil
	}
	names, err := e.validated(ctx) // p
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if strings.EqualFold(name, domain) {
			return name, nil
		}
	}
	for _, name := range names {
		if isBelow(name, domain) {
			return name, nil
		}
	}
	return append(names, "unknown")[0], nil
}

func (m macro) transform(value string) string {
	var parts []string
	start := 0
	for i := range len(value) {
		if strings.IndexByte(m.delimiters, value[i]) >= 0 {
			parts, start = append(parts, value[start:i]), i+1
		}
	}
	parts = append(parts, value[start:])
	if m.reverse {
		slices.Reverse(parts)
	}
	if m.keep > 0 && m.keep < len(parts) {
		parts = parts[len(parts)-m.keep:]
	}
	text := strings.Join(parts, ".")
	if !m.escape {
		return text
	}
	var out strings.Builder
	for i := range len(text) {
		if c := text[i]; isAlpha(c) || isDigit(c) || strings.IndexByte("-._~", c) >= 0 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

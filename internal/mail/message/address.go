package message

import (
	"errors"
	"fmt"
	"mime"
	"net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An address longer than this is no address: RFC 5321 section 4.5.3.1 allows 64 and
// 255 octets, bounce addresses with a coded recipient go somewhat over the 64.
const maxAddress = 512

// Error tells the address and what is wrong with it.
func (e *AddressError) Error() string {
	return fmt.Sprintf("address %q: %s", shorten(e.Text), e.Problem)
}

func shorten(text string) string {
	if len(text) > 100 {
		return text[:100] + "..."
	}
	return text
}

// A token is a lexical piece of an address field (RFC 5322 section 3.2).
type token struct {
	kind       byte // 'a' atom with dots, 'q' quoted string, 'c' comment, 'l' domain literal, else the special itself
	text       string
	start, end int // in the text it came from
}

// scan splits an address field into tokens; white space and folds separate them.
func scan(text string) ([]token, error) {
	var tokens []token
	for i := 0; i < len(text); {
		start := i
		kind := byte('a')
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
			continue
		case '"':
			kind, i = 'q', closing(text, i, '"')
		case '(':
			kind, i = 'c', closeComment(text, i)
		case '[':
			kind, i = 'l', closing(text, i, ']')
		case '<', '>', '@', ',', ';', ':':
			kind = c
			i++
		case ')', ']', '\\':
			return nil, &AddressError{Text: text, Problem: fmt.Sprintf("%q without its beginning", c)}
		default:
			for i < len(text) && !strings.ContainsRune(" \t\r\n\"([<>@,;:)]\\", rune(text[i])) {
				i++
			}
		}
		if i < 0 {
			return nil, &AddressError{Text: text, Problem: "a quote or bracket is never closed"}
		}
		tokens = append(tokens, token{kind: kind, text: text[start:i], start: start, end: i})
	}
	return tokens, nil
}

// closing returns where a quoted string or domain literal ends, or -1.
func closing(text string, i int, end byte) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case end:
			return i + 1
		}
	}
	return -1
}

// closeComment is closing for comments, which nest.
func closeComment(text string, i int) int {
	for depth := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			depth--
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// An element is one mailbox of a list.
type element struct {
	Mailbox
	specEnd   int     // where the addr-spec ends in the text, comments not counted
	specStart int     // where it starts
	words     []token // its tokens outside the addr-spec: display name and comments
	err       error
}

// parseList parses what To, Cc, From... hold: mailboxes and groups, with commas (or
// the semicolons that people type) between them. An element that is wrong does not
// spoil the others.
func parseList(text string) ([]element, error) {
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	var list []element
	var part []token
	angle := false
	flush := func() {
		if e, ok := parseElement(text, part); ok {
			list = append(list, e)
		}
		part = nil
	}
	for _, t := range tokens {
		switch {
		case t.kind == '<' && !angle:
			angle = true
		case t.kind == '>' && angle:
			angle = false
		case angle:
		case t.kind == ':' && !hasKind(part, '@'): // what came before was the name of a group
			part = nil
			continue
		case t.kind == ',' || t.kind == ';':
			flush()
			continue
		}
		part = append(part, t)
	}
	flush()
	return list, nil
}

func hasKind(tokens []token, kind byte) bool {
	return slices.ContainsFunc(tokens, func(t token) bool { return t.kind == kind })
}

// parseElement reads the tokens of one mailbox. Nothing but comments is no mailbox.
func parseElement(text string, part []token) (element, bool) {
	e := element{}
	var spec []token
	var angles, inside int
	for _, t := range part {
		switch {
		case t.kind == '<':
			angles++
			inside++
			e.words, spec = append(e.words, spec...), nil
		case t.kind == '>':
			inside--
		case t.kind == 'c':
			e.words = append(e.words, t)
		case angles > 0 && inside == 0:
			e.err = problem(text, part, "text after the address")
		default:
			spec = append(spec, t)
		}
	}
	if angles == 0 && len(spec) == 0 {
		return e, false
	}
	switch {
	case angles > 1 || inside != 0:
		e.err = problem(text, part, "angle brackets do not match")
	case e.err == nil:
		e.Address, e.err = addrSpec(text, part, cutRoute(spec, angles > 0))
	}
	if e.err == nil {
		spec = cutRoute(spec, angles > 0)
		e.specStart, e.specEnd = spec[0].start, spec[len(spec)-1].end
		e.Name = displayName(e.words)
	}
	return e, true
}

// cutRoute drops an obsolete source route, "<@hop,@hop:local@domain>" (RFC 5321
// appendix C says to ignore it).
func cutRoute(spec []token, angle bool) []token {
	if !angle || len(spec) == 0 || spec[0].kind != '@' {
		return spec
	}
	for i, t := range spec {
		if t.kind == ':' {
			return spec[i+1:]
		}
	}
	return spec
}

func problem(text string, part []token, what string) error {
	return &AddressError{Text: text[part[0].start:part[len(part)-1].end], Problem: what}
}

// addrSpec puts an address together: the local part quoted where it needs that and
// nowhere else, obsolete blanks around dots and @ taken out.
func addrSpec(text string, part, spec []token) (string, error) {
	at := -1
	for i, t := range spec {
		switch t.kind {
		case '@':
			at = i
		case 'a', 'q', 'l':
		default:
			return "", problem(text, part, fmt.Sprintf("%q inside of the address", t.text))
		}
	}
	localTokens := spec
	if at >= 0 {
		localTokens = spec[:at]
	}
	local, err := joinWords(localTokens, false)
	if err != nil {
		return "", problem(text, part, err.Error())
	}
	if err := checkLocal(local); err != nil {
		return "", problem(text, part, err.Error())
	}
	address := quoteLocal(local)
	if at >= 0 {
		domain, err := joinWords(spec[at+1:], true)
		if err == nil {
			err = checkDomain(domain)
		}
		if err != nil {
			return "", problem(text, part, err.Error())
		}
		address += "@" + domain
	}
	if len(address) > maxAddress {
		return "", problem(text, part, "too long")
	}
	return address, nil
}

func joinWords(tokens []token, domain bool) (string, error) {
	var b strings.Builder
	for i, t := range tokens {
		if i > 0 && !strings.HasSuffix(tokens[i-1].text, ".") && !strings.HasPrefix(t.text, ".") {
			return "", errors.New("several words where one is due")
		}
		switch {
		case t.kind == 'q' && !domain:
			b.WriteString(unquote(t.text))
		case t.kind == 'a', t.kind == 'l' && domain && len(tokens) == 1:
			b.WriteString(t.text)
		default:
			return "", errors.New("a bracket, quote or @ where it does not belong")
		}
	}
	return b.String(), nil
}

// unquote takes quotes (or parentheses) and backslashes away, and folds.
func unquote(text string) string {
	var b strings.Builder
	inner := text[1 : len(text)-1]
	for i := 0; i < len(inner); i++ {
		if inner[i] == '\\' && i+1 < len(inner) {
			i++
		} else if inner[i] == '\r' || inner[i] == '\n' {
			continue
		}
		b.WriteByte(inner[i])
	}
	return b.String()
}

func checkLocal(local string) error {
	if local == "" {
		return errors.New("no local part")
	}
	return checkText(local)
}

// checkText refuses what may not stand in any address. What gets past it can be
// written between angle brackets of an SMTP command.
func checkText(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("octets over 127 that are not UTF-8")
	}
	for _, r := range text {
		// U+2028 and U+2029 are line ends to some readers.
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\ufeff' {
			return errors.New("control character")
		}
	}
	return nil
}

func checkDomain(domain string) error {
	if err := checkText(domain); err != nil {
		return err
	}
	if strings.HasPrefix(domain, "[") {
		if strings.ContainsAny(domain[1:len(domain)-1], "[]\\ \t<>@") || len(domain) < 4 {
			return errors.New("domain literal is wrong")
		}
		return nil
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" {
			return errors.New("empty domain or label")
		}
		for _, r := range label {
			if r < 0x80 && r != '-' && r != '_' && !(r >= '0' && r <= '9') && !(r >= 'a' && r <= 'z') && !(r >= 'A' && r <= 'Z') {
				return fmt.Errorf("%q in the domain", r)
			}
		}
	}
	return nil
}

// quoteLocal quotes a local part that is no dot-string (RFC 5321 section 4.1.2).
func quoteLocal(local string) string {
	plain := !strings.HasPrefix(local, ".") && !strings.HasSuffix(local, ".") && !strings.Contains(local, "..")
	for _, r := range local {
		plain = plain && (r >= 0x80 && !unicode.IsSpace(r) || isAtext(r) || r == '.')
	}
	if plain {
		return local
	}
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local)
	return `"` + escaped + `"`
}

func isAtext(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' ||
		r < 0x80 && strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

// displayName is the phrase before the angle bracket or, without one, the comment,
// where "root (Cron Daemon)" has it.
func displayName(words []token) string {
	var phrase, comments []string
	for _, w := range words {
		switch w.kind {
		case 'q':
			phrase = append(phrase, unquote(w.text))
		case 'c':
			comments = append(comments, unquote(w.text))
		default:
			phrase = append(phrase, w.text)
		}
	}
	if len(phrase) == 0 {
		phrase = comments
	}
	name := strings.Join(phrase, " ")
	decoder := new(mime.WordDecoder)
	if decoded, err := decoder.DecodeHeader(name); err == nil {
		name = decoded
	}
	return oneLine(name)
}

// ParseAddresses reads what callers put into argv: "a@x", "a@x, b@x", "Bob <b@x>",
// "root". Control characters (CR, LF, NUL among them) and octets over 127 that are
// not UTF-8 are refused with an *AddressError. So is an empty list.
func ParseAddresses(text string) ([]string, error) {
	// Before anything else: the parser takes CRLF for a fold, and argv has no folds.
	if err := checkText(text); err != nil {
		return nil, &AddressError{Text: text, Problem: err.Error()}
	}
	list, err := parseList(text)
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, e := range list {
		if e.err != nil {
			return nil, e.err
		}
		addresses = append(addresses, e.Address)
	}
	if len(addresses) == 0 {
		return nil, &AddressError{Text: text, Problem: "no address in it"}
	}
	return addresses, nil
}

// ParseSender reads an envelope sender as -f gives it: one address as in
// ParseAddresses, or the null sender, which is "" or "<>".
func ParseSender(text string) (string, error) {
	if trimmed := strings.Trim(text, " \t"); trimmed == "" || trimmed == "<>" {
		return "", nil
	}
	addresses, err := ParseAddresses(text)
	if err != nil {
		return "", err
	}
	if len(addresses) > 1 {
		return "", &AddressError{Text: text, Problem: "a sender is one address"}
	}
	return addresses[0], nil
}

// FormatMailbox writes a mailbox for a header field, the name as RFC 2047 words or a
// quoted string where it needs that.
func FormatMailbox(m Mailbox) string {
	name := oneLine(m.Name)
	switch {
	case name == "":
		return m.Address
	case !isASCII(name):
		return foldWords(encodePhrase(name)) + " <" + m.Address + ">"
	}
	// net/mail knows what to quote; it wants an address with a domain.
	quoted := strings.TrimSuffix((&mail.Address{Name: name, Address: "x@x"}).String(), " <x@x>")
	return quoted + " <" + m.Address + ">"
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}

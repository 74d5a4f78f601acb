package senders

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// What is wrong with an originator field. The texts go to the peer.
var (
	errGroup    = errors.New("groups are not allowed there")
	errGrammar  = errors.New("it is not a plain list of addresses")
	errControl  = errors.New("it holds control characters")
	errName     = errors.New("the name hides an address or cannot be read")
	errTooLarge = errors.New("it is too long")
)

const (
	maxHeader    = 16384
	maxMailboxes = 50
)

// A mailbox is one address of a field. shown are the addresses that its name shows to a
// reader who sees only the name.
type mailbox struct {
	address string // canonical
	shown   []string
}

// parseMailboxes reads an originator field. Its grammar is a good deal narrower than
// RFC 5322 section 3.4: whatever two programs could read in two ways is refused. That is
// why neither net/mail nor package message reads it; both forgive.
func parseMailboxes(value string) ([]mailbox, error) {
	if len(value) > maxHeader {
		return nil, errTooLarge
	}
	text, err := unfold(value)
	if err != nil {
		return nil, err
	}
	var list []mailbox
	for {
		var m mailbox
		if m, text, err = parseMailbox(text); err != nil {
			return nil, err
		}
		list = append(list, m)
		if text == "" {
			return list, nil
		}
		if len(list) == maxMailboxes {
			return nil, errTooLarge
		}
		text = text[1:] // the comma
	}
}

// unfold joins the lines of a field (RFC 5322 section 2.2.3) and refuses every other
// control character.
func unfold(value string) (string, error) {
	if !utf8.ValidString(value) {
		return "", errControl
	}
	value = strings.ReplaceAll(value, "\r\n", "\n")
	value = strings.NewReplacer("\n ", " ", "\n\t", " ", "\t", " ").Replace(value)
	if strings.ContainsFunc(value, isControl) {
		return "", errControl
	}
	return value, nil
}

// isControl also takes the characters that turn text around: with them a name shows an
// address backwards.
func isControl(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// parseMailbox reads up to a comma or the end, which begin rest.
func parseMailbox(text string) (m mailbox, rest string, err error) {
	var words []string // phrase, or the bare address
	var comments []string
	quoted, angled := false, false
	address := ""
	for text = strings.TrimLeft(text, " "); text != "" && text[0] != ','; text = strings.TrimLeft(text, " ") {
		var part string
		switch text[0] {
		case '"':
			if part, text, err = quotedString(text); err == nil {
				words, quoted = append(words, part), true
			}
		case '(':
			if part, text, err = comment(text); err == nil {
				comments = append(comments, part)
			}
			if err == nil {
				continue // may stand behind the address
			}
		case '<':
			end := strings.IndexByte(text, '>')
			if end < 0 || angled {
				return m, "", errGrammar
			}
			address, text, angled = text[1:end], text[end+1:], true
			continue
		case ':', ';':
			return m, "", errGroup
		case ')', '>', '[', ']', '\\':
			return m, "", errGrammar
		default:
			end := strings.IndexAny(text, " \"(),:;<>[]\\")
			if end < 0 {
				end = len(text)
			}
			part, text = text[:end], text[end:]
			words = append(words, part)
		}
		if err != nil {
			return m, "", err
		}
		if angled {
			return m, "", errGrammar // words behind the address
		}
	}
	if !angled {
		// A bare address is one word; "a @ b" is an old form that nobody writes.
		if len(words) != 1 || quoted {
			return m, "", errGrammar
		}
		address, words = words[0], nil
	}
	canonical, err := identity.CanonicalAddress(address)
	if err != nil {
		return m, "", errGrammar
	}
	m = mailbox{address: canonical}
	for _, name := range append(comments, strings.Join(words, " ")) {
		shown, err := shownAddresses(name)
		if err != nil {
			return m, "", err
		}
		m.shown = append(m.shown, shown...)
	}
	return m, text, nil
}

func quotedString(text string) (content, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return b.String(), text[i+1:], nil
		case '\\':
			if i++; i == len(text) {
				return "", "", errGrammar
			}
		}
		b.WriteByte(text[i])
	}
	return "", "", errGrammar
}

// comment reads a comment without another one in it.
func comment(text string) (content, rest string, err error) {
	end := strings.IndexAny(text[1:], "()\\")
	if end < 0 || text[1+end] != ')' {
		return "", "", errGrammar
	}
	return text[1 : 1+end], text[end+2:], nil
}

// shownAddresses finds the addresses in a display name, behind encoded words too: many
// programs show nothing but the name.
func shownAddresses(name string) ([]string, error) {
	decoder := mime.WordDecoder{CharsetReader: asciiOf}
	decoded, err := decoder.DecodeHeader(name)
	if err != nil {
		return nil, errName
	}
	// What is encoded twice is a riddle, not a name.
	if strings.Contains(decoded, "=?") && strings.Contains(decoded, "?=") || strings.ContainsFunc(decoded, isControl) {
		return nil, errName
	}
	// NFKC makes of the wide and small "@" the one that counts.
	decoded = norm.NFKC.String(decoded)
	var shown []string
	for word := range strings.FieldsFuncSeq(decoded, func(r rune) bool { return strings.ContainsRune(" \t<>()[]\"',;:|\u00a0\u3000", r) }) {
		local, domain, at := strings.Cut(strings.Trim(word, "."), "@")
		if !at || local == "" || !strings.Contains(domain, ".") {
			continue // "@ann", "ann@home": not addresses that mail could go to
		}
		canonical, err := identity.CanonicalAddress(local + "@" + domain)
		if err != nil {
			return nil, errName
		}
		shown = append(shown, canonical)
	}
	return shown, nil
}

// asciiOf lets names in other charsets through byte by byte: in all of them but the ones
// refused here an "@" is the byte 0x40, and it is only that we look for.
func asciiOf(charset string, input io.Reader) (io.Reader, error) {
	charset = strings.ToLower(charset)
	for _, prefix := range []string{"utf-7", "utf7", "unicode", "utf-16", "utf16", "utf-32", "utf32", "ucs", "iso-10646", "ebcdic", "cp037", "ibm037", "cp500", "x-"} {
		if strings.HasPrefix(charset, prefix) {
			return nil, fmt.Errorf("charset %.20q", charset)
		}
	}
	bytes, err := io.ReadAll(io.LimitReader(input, maxHeader))
	if err != nil {
		return nil, err
	}
	for i, c := range bytes {
		if c >= 0x80 || c == 0x1b { // ESC begins a shift of ISO 2022
			bytes[i] = '_'
		}
	}
	return strings.NewReader(string(bytes)), nil
}

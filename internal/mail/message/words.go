package message

import (
	"bytes"
	"mime"
	"strings"
	"unicode/utf8"
)

// encodeWords writes text as RFC 2047 words, with blanks between them.
func encodeWords(text string) string {
	if utf8.ValidString(text) {
		q := mime.QEncoding.Encode("utf-8", text)
		if b := mime.BEncoding.Encode("utf-8", text); len(b) < len(q) {
			return b
		}
		return q
	}
	// Octets in an unknown charset (RFC 1428). The package mime does not split these,
	// and a word has at most 75 characters (RFC 2047 section 2).
	var words []string
	for piece := []byte(text); len(piece) > 0; {
		n := min(len(piece), 36)
		words = append(words, unknownWord(piece[:n]))
		piece = piece[n:]
	}
	return strings.Join(words, " ")
}

func unknownWord(piece []byte) string {
	return mime.BEncoding.Encode("unknown-8bit", string(piece))
}

// encodePhrase is encodeWords where quotes, commas, parentheses... mean something:
// the Q encoding leaves them as they are, and RFC 2047 section 5 (3) forbids that.
func encodePhrase(text string) string {
	if utf8.ValidString(text) && strings.ContainsAny(text, "\"#$%&'(),.:;<>@[]^`{|}~\\") {
		return mime.BEncoding.Encode("utf-8", text)
	}
	return encodeWords(text)
}

// foldWords puts each of several encoded words on a line of its own (RFC 2047
// section 2: such a line has at most 76 characters).
func foldWords(words string) string { return strings.ReplaceAll(words, "?= =?", "?=\r\n =?") }

// encodeField makes an ASCII field of one that is not. What is ASCII in it stays as
// it is. ErrNeedsUTF8 when an address is not ASCII.
func encodeField(f field) (field, error) {
	body := string(f.body())
	prefix := string(f.raw[:len(f.raw)-len(body)])
	var encoded string
	var err error
	switch {
	case isAddressField(f.name):
		encoded, err = encodeAddresses(body)
	case f.is("Content-Type"), f.is("Content-Disposition"):
		encoded = encodeParameters(body)
	default:
		encoded = encodeText(body)
	}
	return field{name: f.name, raw: []byte(prefix + encoded)}, err
}

// encodeText encodes the words of an unstructured field that are not ASCII. Blanks
// between two encoded words would be lost (RFC 2047 section 6.2), so neighbours are
// encoded as one.
func encodeText(body string) string {
	const blank = " \t\r\n"
	var b strings.Builder
	for i := 0; i < len(body); {
		start := i
		for i < len(body) && strings.IndexByte(blank, body[i]) >= 0 {
			i++
		}
		b.WriteString(body[start:i])
		start = i
		end := start // of the last word of this run that is not ASCII
		for i < len(body) {
			word := i
			for i < len(body) && strings.IndexByte(blank, body[i]) < 0 {
				i++
			}
			if isASCII(body[word:i]) {
				if end == start {
					end = i // an ASCII word alone
					b.WriteString(body[start:end])
					start = end
				}
				break
			}
			end = i
			for i < len(body) && strings.IndexByte(blank, body[i]) >= 0 {
				i++
			}
		}
		if end > start {
			b.WriteString(foldWords(encodeWords(strings.ReplaceAll(body[start:end], "\r\n", ""))))
		}
		i = end
	}
	return b.String()
}

// encodeAddresses encodes display names and comments and leaves the rest.
func encodeAddresses(body string) (string, error) {
	list, err := parseList(body)
	if err != nil {
		return encodeText(body), nil
	}
	for _, e := range list {
		if e.err == nil && !isASCII(e.Address) {
			return body, ErrNeedsUTF8
		}
	}
	tokens, err := scan(body)
	if err != nil {
		return encodeText(body), nil
	}
	var b strings.Builder
	done := 0
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		if isASCII(t.text) {
			continue
		}
		text, end := unquoted(t), t.end
		// Neighbours in one phrase are one text, blanks between them included.
		for t.kind != 'c' && i+1 < len(tokens) && (tokens[i+1].kind == 'a' || tokens[i+1].kind == 'q') && !isASCII(tokens[i+1].text) {
			i++
			text += " " + unquoted(tokens[i])
			end = tokens[i].end
		}
		words := foldWords(encodePhrase(text))
		if t.kind == 'c' {
			words = "(" + words + ")"
		}
		b.WriteString(body[done:t.start] + words)
		done = end
	}
	b.WriteString(body[done:])
	// In something that cannot be parsed the words may stand anywhere.
	return b.String(), nil
}

func unquoted(t token) string {
	if t.kind == 'q' || t.kind == 'c' {
		return unquote(t.text)
	}
	return t.text
}

// encodeParameters writes parameters that are not ASCII by RFC 2231.
func encodeParameters(body string) string {
	value := strings.TrimSpace(strings.ReplaceAll(body, "\r\n", ""))
	kind, parameters, err := mime.ParseMediaType(value)
	if err != nil || !utf8.ValidString(value) {
		return encodeText(body)
	}
	formatted := mime.FormatMediaType(kind, parameters)
	if formatted == "" || !isASCII(formatted) {
		return encodeText(body)
	}
	return " " + formatted + "\r\n"
}

// foldLong breaks header lines over 998 octets (RFC 5322 section 2.1.1) at blanks
// they have. A line without any stays.
func foldLong(f field) field {
	var b bytes.Buffer
	for line := range bytes.Lines(f.raw) {
		for len(line) > maxLine+2 {
			at := bytes.LastIndexAny(line[:maxLine], " \t")
			// A line of blanks alone would end the header for some readers, and the
			// first line keeps at least its name.
			if at <= 0 || len(bytes.Trim(line[:at], " \t")) == 0 || bytes.HasSuffix(line[:at], []byte(":")) {
				break
			}
			b.Write(line[:at])
			b.WriteString("\r\n")
			line = line[at:]
		}
		b.Write(line)
	}
	return field{name: f.name, raw: b.Bytes()}
}

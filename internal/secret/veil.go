package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// A Veil hides known secrets in texts that peers sent back: servers repeat tokens in
// their refusals, as they are, escaped, quoted, in base64, or cut short. The zero
// value hides nothing. What it cannot know is a piece out of the middle.
type Veil struct {
	forms map[byte][]string // by their first byte
}

const (
	shortest = 4 // less is no secret, and would be found in any word
	// telling is how much of a secret's beginning is enough to hide what follows: a
	// server that quotes half a token has still quoted it.
	telling = 12
)

// Hide adds secrets. Each is known in every form that an encoder makes of it.
func (v *Veil) Hide(secrets ...string) {
	for _, s := range secrets {
		if len(s) < shortest {
			continue
		}
		quoted := strconv.Quote(s)
		asJSON, _ := json.Marshal(s)
		lower := hex.EncodeToString([]byte(s))
		v.add(s, url.QueryEscape(s), url.PathEscape(s), quoted[1:len(quoted)-1], string(asJSON[1:len(asJSON)-1]), lower, strings.ToUpper(lower))
		// Whole groups of three bytes look the same wherever in a base64 text they
		// stand. The first form is not cut at its end: it is the secret by itself.
		v.add(base64.RawStdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)))
		for skip := 1; skip < 3; skip++ {
			if whole := []byte(s[skip : skip+(len(s)-skip)/3*3]); len(whole) >= telling {
				v.add(base64.RawStdEncoding.EncodeToString(whole), base64.RawURLEncoding.EncodeToString(whole))
			}
		}
	}
}

func (v *Veil) add(forms ...string) {
	if v.forms == nil {
		v.forms = map[byte][]string{}
	}
	for _, form := range forms {
		v.forms[form[0]] = append(v.forms[form[0]], form)
	}
}

// Text returns text with [Redacted] in each place where a secret, or its beginning,
// was repeated.
func (v Veil) Text(text string) string {
	if len(v.forms) == 0 {
		return text
	}
	var b strings.Builder
	begin := 0
	for at := 0; at < len(text); {
		length := v.match(text[at:])
		if length == 0 {
			at++
			continue
		}
		b.WriteString(text[begin:at])
		b.WriteString(Redacted)
		at += length
		begin = at
	}
	b.WriteString(text[begin:])
	return b.String()
}

// match is the length of the longest repetition that text begins with. The longest,
// since the forms of one secret may begin alike: a rest of it would stay.
func (v Veil) match(text string) int {
	longest := 0
	for _, form := range v.forms[text[0]] {
		if head := form[:min(telling, len(form))]; !strings.HasPrefix(text, head) {
			continue
		}
		n := 0
		for n < len(form) && n < len(text) && form[n] == text[n] {
			n++
		}
		longest = max(longest, n)
	}
	return longest
}

package credential

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// An app password is 32 symbols of Crockford's base 32, which has no i, l, o and u:
// six that select the row (30 bits, public) and 26 that are the secret (130 bits),
// written with dashes as
//
//	k7m2q9-4hw8t-9n3xc-0v5gb-e1r7d-zk2y6p
//
// Without its dashes it fits the 32 characters that many printers and cameras allow.
// Capitals, dashes and blanks make no difference here, and o, i and l are read as 0, 1
// and 1: none of them carries a bit. What is hashed, shown and compared is always the
// form above, so Dovecot can check the same hash by SQL when it is typed as shown.
const (
	alphabet       = "0123456789abcdefghjkmnpqrstvwxyz"
	selectorLength = 6
	symbols        = 32
	written        = symbols + 5 // with dashes
	// maxSecret is how much of a presented secret is looked at before anything else.
	maxSecret = 256
)

// NewAppPassword makes an app password, its selector, and its hash at the default
// cost. The password is to be shown once and kept nowhere.
func NewAppPassword(random io.Reader) (password secret.String, selector, hash string, err error) {
	return DefaultCost().NewAppPassword(random)
}

// NewAppPassword is the same at another cost.
func (c Cost) NewAppPassword(random io.Reader) (password secret.String, selector, hash string, err error) {
	var raw [symbols]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return secret.String{}, "", "", fmt.Errorf("read randomness: %w", err)
	}
	for i := range raw {
		raw[i] = alphabet[raw[i]%symbols] // 256 is a multiple of 32: no symbol is more likely
	}
	text := appPassword(write(raw))
	if hash, err = c.hash(random, string(text)); err != nil {
		return secret.String{}, "", "", err
	}
	return secret.New(string(text)), text.selector(), hash, nil
}

// NewAppPassword makes one at the configured cost. The hash waits in the same queue as
// those of sign-ins, so that pages cannot be used to flood it.
func (d *Door) NewAppPassword(ctx context.Context) (password secret.String, selector, hash string, err error) {
	if err := d.queue.enter(ctx); err != nil {
		return secret.String{}, "", "", err
	}
	defer d.queue.leave()
	return d.o.Cost.NewAppPassword(rand.Reader)
}

// appPassword is one in its written form.
type appPassword string

func (p appPassword) selector() string { return string(p[:selectorLength]) }

// parseAppPassword brings what was typed into the written form; ok is false when it is
// no app password, which is how nearly every guess ends.
func parseAppPassword(typed string) (p appPassword, ok bool) {
	if len(typed) > maxSecret {
		return "", false
	}
	var raw [symbols]byte
	n := 0
	for _, r := range typed {
		symbol, blank := symbolOf(r)
		if blank {
			continue
		}
		if symbol == 0 || n == symbols {
			return "", false
		}
		raw[n] = symbol
		n++
	}
	if n != symbols {
		return "", false
	}
	return appPassword(write(raw)), true
}

// symbolOf reads one character; 0 is none of ours. Telephones make typographic dashes
// and blanks of the plain ones.
func symbolOf(r rune) (symbol byte, blank bool) {
	switch {
	case r == '-' || r == ' ' || r == '\u00a0' || r == '\u00ad' || r >= '\u2010' && r <= '\u2015' || r == '\u2212' || r == '\u202f':
		return 0, true
	case r >= 'A' && r <= 'Z':
		r += 'a' - 'A'
	}
	switch r {
	case 'o':
		return '0', false
	case 'i', 'l':
		return '1', false
	}
	if r < 0x80 && strings.IndexByte(alphabet, byte(r)) >= 0 {
		return byte(r), false
	}
	return 0, false
}

// write puts the dashes in: behind the selector and each five, with six at the end.
func write(raw [symbols]byte) string {
	var out [written]byte
	n := 0
	for i, c := range raw {
		if i >= selectorLength && i < 27 && (i-selectorLength)%5 == 0 {
			out[n] = '-'
			n++
		}
		out[n] = c
		n++
	}
	return string(out[:n])
}

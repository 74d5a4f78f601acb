package tokenstore

import (
	"errors"
	"fmt"
	"strings"
)

// ErrName means that an account name cannot name a grant file.
var ErrName = errors.New("not a usable account name")

// maxEncoded leaves room in the 255 bytes of a file name for the suffix and for what
// atomicfile puts around a temporary file's name.
const maxEncoded = 200

const hexDigits = "0123456789abcdef"

// EncodeName makes a file name of an account name. It is reversible, has one form
// for each name, and no two names share a file on a system that ignores case,
// composes or decomposes accents (macOS), drops trailing dots or reserves device
// names (Windows). Ordinary lower case addresses stay as they are.
//
// Bytes other than a-z, 0-9 and "@+=_-." become %xx. So do a dot in front, which
// would hide the file or climb out of the folder, and one at the end; the empty name
// is "%".
func EncodeName(name string) string {
	if name == "" {
		return "%"
	}
	device := reserved(name)
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		edgeDot := c == '.' && (i == 0 || i == len(name)-1)
		if plain(c) && !edgeDot && !(i == 0 && device) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

// DecodeName is the way back. It takes only what EncodeName makes: two encodings of
// one name would be two grants of one account.
func DecodeName(encoded string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(encoded); i++ {
		if encoded[i] != '%' {
			b.WriteByte(encoded[i])
			continue
		}
		if encoded == "%" {
			break
		}
		if i+2 >= len(encoded) {
			return "", fmt.Errorf("file name %q: cut off: %w", encoded, ErrName)
		}
		high := strings.IndexByte(hexDigits, encoded[i+1])
		low := strings.IndexByte(hexDigits, encoded[i+2])
		if high < 0 || low < 0 {
			return "", fmt.Errorf("file name %q: bad escape: %w", encoded, ErrName)
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	name := b.String()
	if EncodeName(name) != encoded {
		return "", fmt.Errorf("file name %q: not as we write it: %w", encoded, ErrName)
	}
	return name, nil
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("@+=_-.", c) >= 0
}

// reserved tells names that Windows takes for devices, with any extension.
func reserved(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	switch stem {
	case "con", "prn", "aux", "nul":
		return true
	}
	if len(stem) != 4 || stem[3] < '0' || stem[3] > '9' {
		return false
	}
	return stem[:3] == "com" || stem[:3] == "lpt"
}

// checkName refuses what could not be stored.
func checkName(name string) (encoded string, err error) {
	encoded = EncodeName(name)
	if name == "" {
		return "", fmt.Errorf("empty account name: %w", ErrName)
	}
	if len(encoded) > maxEncoded {
		return "", fmt.Errorf("account name of %d characters is too long for a file name: %w", len(name), ErrName)
	}
	return encoded, nil
}

package login

import (
	"errors"
	"fmt"
	"strings"

	"rsc.io/qr"
)

const (
	quietZone = 4  // modules of margin that ISO/IEC 18004 wants
	maxWidth  = 80 // columns: a wrapped code cannot be read
)

// QR draws text as a QR code for a terminal, two modules to a character. It sets
// both colours, black on white, and so can be scanned on a light and on a dark
// terminal; scanners are not bound to read the inverse. Not for terminals without
// colours.
func QR(text string) (string, error) {
	if text == "" {
		return "", errors.New("draw QR code: no text")
	}
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", fmt.Errorf("draw QR code: %w", err)
	}
	if code.Size+2*quietZone > maxWidth {
		return "", errors.New("draw QR code: the text is too long for a terminal")
	}
	var out strings.Builder
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		out.WriteString("\x1b[38;5;16;48;5;231m")
		for x := -quietZone; x < code.Size+quietZone; x++ {
			out.WriteString(halfBlock(code.Black(x, y), code.Black(x, y+1)))
		}
		out.WriteString("\x1b[0m\n")
	}
	return out.String(), nil
}

// halfBlock returns the character for two modules, one above the other.
func halfBlock(upper, lower bool) string {
	switch {
	case upper && lower:
		return "█"
	case upper:
		return "▀"
	case lower:
		return "▄"
	}
	return " "
}

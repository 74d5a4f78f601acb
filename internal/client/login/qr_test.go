package login

import (
	"strings"
	"testing"

	"rsc.io/qr"
)

// dots reads the drawing back: true is dark.
func dots(t *testing.T, drawing string) [][]bool {
	t.Helper()
	var rows [][]bool
	for line := range strings.Lines(drawing) {
		text, ok := strings.CutPrefix(line, "\x1b[38;5;16;48;5;231m")
		text, tail := strings.CutSuffix(text, "\x1b[0m\n")
		if !ok || !tail {
			t.Fatalf("line without both colours: %q", line)
		}
		var upper, lower []bool
		for _, r := range text {
			upper = append(upper, r == '█' || r == '▀')
			lower = append(lower, r == '█' || r == '▄')
		}
		rows = append(rows, upper, lower)
	}
	return rows
}

func TestQR(t *testing.T) {
	for _, text := range []string{"https://login.test/device?user_code=WDJB-MJHT", "X", strings.Repeat("https://x/", 42)} {
		drawing, err := QR(text)
		if err != nil {
			t.Fatal(err)
		}
		code, err := qr.Encode(text, qr.L)
		if err != nil {
			t.Fatal(err)
		}
		rows := dots(t, drawing)
		if len(rows) < code.Size+2*quietZone || len(rows[0]) != code.Size+2*quietZone || len(rows[0]) > maxWidth {
			t.Fatalf("%d x %d for a code of %d", len(rows[0]), len(rows), code.Size)
		}
		for y, row := range rows {
			for x, dark := range row {
				if dark != code.Black(x-quietZone, y-quietZone) {
					t.Fatalf("module %d,%d is %v", x, y, dark)
				}
			}
		}
		// The corner of the finder pattern, by ISO/IEC 18004: dark, light, dark.
		if !rows[4][4] || rows[5][5] || !rows[6][6] || rows[3][4] {
			t.Error("no finder pattern in the corner")
		}
	}
}

func TestQRRefuses(t *testing.T) {
	for _, text := range []string{"", strings.Repeat("https://x/", 50), strings.Repeat("a", 10000)} {
		if drawing, err := QR(text); err == nil || drawing != "" {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
}

package cli

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Table prints rows under a header in aligned columns. Cells may come from outside:
// each goes through Line. text/tabwriter would do for the columns, but it leaves
// trailing blanks, which diff and copy-and-paste dislike.
func Table(w io.Writer, header []string, rows [][]string) error {
	all := make([][]string, 0, len(rows)+1)
	if header != nil {
		all = append(all, header)
	}
	all = append(all, rows...)
	widths := columnWidths(all)
	var b strings.Builder
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			cell = Line(cell)
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func columnWidths(rows [][]string) []int {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(Line(cell)))
		}
	}
	return widths
}

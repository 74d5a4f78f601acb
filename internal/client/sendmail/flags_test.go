package sendmail

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// shellWords splits as sh does with quotes; the tables need no more.
func shellWords(line string) []string {
	words, word, in, quote := []string{}, "", false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word += string([]byte{c})
		case c == '\'' || c == '"':
			quote, in = c, true
		case c == ' ':
			if in {
				words = append(words, word)
			}
			word, in = "", false
		default:
			word, in = word+string([]byte{c}), true
		}
	}
	if in {
		words = append(words, word)
	}
	return words
}

func table(t *testing.T, name string, columns int) [][]string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != columns {
			t.Fatalf("%s: %d columns in %q", name, len(cells), line)
		}
		rows = append(rows, cells)
	}
	return rows
}

func meaning(o Options) string {
	var words []string
	add := func(yes bool, format string, args ...any) {
		if yes {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	quoted := func(s string) string {
		if strings.Contains(s, " ") {
			return `"` + s + `"`
		}
		return s
	}
	add(o.Mode != Deliver, "mode=%s", o.Mode)
	add(o.IgnoreDots, "i")
	add(o.Verbose, "v")
	add(o.FromHeader, "t")
	add(o.System, "system")
	add(o.NoAliases, "n")
	add(o.QueueOnly, "q")
	add(o.Name != "", "name=%q", o.Name)
	add(o.Notify != "", "notify=%s", o.Notify)
	add(o.Return != "", "ret=%s", o.Return)
	add(o.EnvelopeID != "", "id=%s", o.EnvelopeID)
	add(o.Queue.ID != "", "qid=%s", o.Queue.ID)
	add(o.Queue.Recipient != "", "qto=%s", o.Queue.Recipient)
	add(o.Queue.Sender != "", "qfrom=%s", o.Queue.Sender)
	add(o.Account != "", "account=%s", o.Account)
	if o.Sender != nil {
		add(true, "from=%s", *o.Sender)
	}
	for _, r := range o.Recipients {
		add(true, "to=%s", quoted(r))
	}
	return strings.Join(words, " ")
}

func code(err error) cli.Code {
	var fault *cli.Fault
	switch {
	case err == nil:
		return cli.OK
	case errors.As(err, &fault):
		return fault.Code
	}
	return cli.Software
}

func TestCallers(t *testing.T) {
	for _, row := range table(t, "callers.txt", 3) {
		o, err := Parse(shellWords(row[1]))
		if err != nil || meaning(o) != row[2] {
			t.Errorf("%s: sendmail %s\n got %s, %v\nwant %s", row[0], row[1], meaning(o), err, row[2])
		}
	}
}

func TestFlags(t *testing.T) {
	for _, row := range table(t, "flags.txt", 2) {
		o, err := Parse(shellWords(row[0]))
		got := meaning(o)
		if err != nil {
			got = fmt.Sprint(code(err))
		}
		if got != row[1] {
			t.Errorf("sendmail %s\n got %s (%v)\nwant %s", row[0], got, err, row[1])
		}
	}
}

// Whatever argv holds, parsing ends without a panic, invents nothing, and gives either
// options or a fault of usage.
func FuzzParse(f *testing.F) {
	for _, row := range append(tableOfSeeds(f, "callers.txt", 1), tableOfSeeds(f, "flags.txt", 0)...) {
		f.Add(strings.Join(shellWords(row), "\x00"))
	}
	f.Fuzz(func(t *testing.T, joined string) {
		args := strings.Split(joined, "\x00")
		o, err := Parse(args)
		if err != nil {
			if code(err) != cli.Usage {
				t.Fatalf("%q: %v", args, err)
			}
			return
		}
		for _, recipient := range o.Recipients {
			found := false
			for _, arg := range args {
				found = found || arg == recipient
			}
			if !found {
				t.Fatalf("%q: recipient %q out of nothing", args, recipient)
			}
		}
	})
}

func tableOfSeeds(f *testing.F, name string, column int) []string {
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		f.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		if cells := strings.Split(strings.TrimSpace(line), " | "); !strings.HasPrefix(line, "#") && len(cells) > column {
			out = append(out, cells[column])
		}
	}
	return out
}

package sendmail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/message"
)

// AliasLimit is the largest alias file that is read.
const AliasLimit = 4 << 20

// aliasDepth bounds chains of aliases, aliasFan what one address may become.
const (
	aliasDepth = 20
	aliasFan   = 10_000
)

// Aliases are the entries of /etc/aliases, by lower-case local name. Only addresses
// are taken: a machine that only sends runs no programs and writes no files for a
// local name, so |command, /file and :include: are kept aside in Unusable.
type Aliases struct {
	Entries  map[string][]string
	Unusable map[string][]string // by local name: the targets we do not serve
}

// LoadAliases reads the alias file at path; one that is not there is empty.
func LoadAliases(path string) (Aliases, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Aliases{}, nil
	}
	if err != nil {
		return Aliases{}, fmt.Errorf("read aliases: %w", err)
	}
	defer file.Close()
	aliases, err := ParseAliases(file)
	if err != nil {
		return Aliases{}, fmt.Errorf("read aliases %s: %w", path, err)
	}
	return aliases, nil
}

// ParseAliases reads the format of aliases(5): NAME: TARGET, TARGET; a line that
// begins with white space goes on; # begins a comment line. A line that is wrong is
// an error with its number: a half-read file would send mail astray.
func ParseAliases(r io.Reader) (Aliases, error) {
	data, err := io.ReadAll(io.LimitReader(r, AliasLimit+1))
	if err != nil {
		return Aliases{}, err
	}
	if len(data) > AliasLimit {
		return Aliases{}, fmt.Errorf("larger than %d bytes", AliasLimit)
	}
	a := Aliases{Entries: map[string][]string{}, Unusable: map[string][]string{}}
	logical, start := "", 0
	flush := func() error {
		if logical == "" {
			return nil
		}
		err := a.add(logical)
		if err != nil {
			err = fmt.Errorf("line %d: %w", start, err)
		}
		logical = ""
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(make([]byte, 0, 4096), AliasLimit)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSuffix(lines.Text(), "\r")
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if logical == "" {
				return Aliases{}, fmt.Errorf("line %d: goes on, but nothing stands before it", n)
			}
			logical += " " + trimmed
		default:
			if err := flush(); err != nil {
				return Aliases{}, err
			}
			logical, start = trimmed, n
		}
	}
	if err := errors.Join(lines.Err(), flush()); err != nil {
		return Aliases{}, err
	}
	return a, nil
}

func (a *Aliases) add(line string) error {
	name, targets, ok := cutName(line)
	if !ok {
		return errors.New("must be NAME: ADDRESS, ADDRESS")
	}
	key := strings.ToLower(name)
	for _, target := range splitTargets(targets) {
		if unusable(target) {
			a.Unusable[key] = append(a.Unusable[key], target)
			continue
		}
		// A backslash says "no further": what leads to itself stays where it is anyway.
		addresses, err := message.ParseAddresses(strings.TrimPrefix(target, `\`))
		if err != nil {
			return fmt.Errorf("target of %q: %w", name, err)
		}
		a.Entries[key] = append(a.Entries[key], addresses...)
	}
	return nil
}

// cutName splits at the colon; the name may be quoted.
func cutName(line string) (name, targets string, ok bool) {
	if line[0] == '"' {
		end := strings.IndexByte(line[1:], '"')
		if end < 0 {
			return "", "", false
		}
		name, targets = line[1:1+end], strings.TrimSpace(line[end+2:])
		if !strings.HasPrefix(targets, ":") {
			return "", "", false
		}
		targets = targets[1:]
	} else if name, targets, ok = strings.Cut(line, ":"); !ok {
		return "", "", false
	}
	name = strings.TrimSpace(name)
	return name, strings.TrimSpace(targets), name != "" && !strings.ContainsAny(name, "\x00\t ")
}

// splitTargets splits at commas outside quotes and angle brackets.
func splitTargets(text string) []string {
	var out []string
	quoted, escaped, start := false, false, 0
	for i := 0; i < len(text); i++ {
		switch {
		case escaped:
			escaped = false
		case text[i] == '\\' && quoted:
			escaped = true
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ',' && !quoted:
			out = append(out, strings.TrimSpace(text[start:i]))
			start = i + 1
		}
	}
	out = append(out, strings.TrimSpace(text[start:]))
	return dropEmpty(out)
}

func dropEmpty(words []string) []string {
	kept := words[:0]
	for _, word := range words {
		if word != "" {
			kept = append(kept, word)
		}
	}
	return kept
}

// unusable tells targets that are no addresses.
func unusable(target string) bool {
	bare := strings.TrimPrefix(target, `"`)
	return strings.HasPrefix(bare, "|") || strings.HasPrefix(bare, "/") || strings.HasPrefix(strings.ToLower(bare), ":include:")
}

// expand replaces local names by what the aliases say, as far as they say it. A name
// that leads back to itself stays as it is (root: root, ops@example.org).
func (a Aliases) expand(address string) ([]string, error) {
	var out []string
	var walk func(address string, above []string) error
	walk = func(address string, above []string) error {
		if len(above) > aliasDepth || len(out) > aliasFan {
			return cli.Faultf(cli.Config, "look for a loop in the alias file", "the aliases of %s go too far", cli.Line(above[0]))
		}
		key := strings.ToLower(address)
		targets := a.Entries[key]
		stop := strings.Contains(address, "@") || len(targets) == 0
		for _, seen := range above {
			stop = stop || seen == key
		}
		if stop {
			if refused := a.Unusable[key]; len(targets) == 0 && len(refused) > 0 {
				return cli.Faultf(cli.NoUser, "give it an address in the alias file", "the alias %s leads to %s, which this sendmail does not do", cli.Line(address), cli.Line(refused[0]))
			}
			out = append(out, address)
			return nil
		}
		for _, target := range targets {
			if err := walk(target, append(above, key)); err != nil {
				return err
			}
		}
		return nil
	}
	err := walk(address, nil)
	return out, err
}

package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A Setting is one key to be set in a section. Without text, list and secret the key
// is removed.
type Setting struct {
	Name   string
	Text   string
	List   []string
	Secret secret.String
}

func (s Setting) remove() bool { return s.Text == "" && len(s.List) == 0 && s.Secret.IsZero() }

func (s Setting) value() string {
	switch {
	case !s.Secret.IsZero():
		return quote(s.Secret.Reveal())
	case len(s.List) > 0:
		quoted := make([]string, len(s.List))
		for i, item := range s.List {
			quoted[i] = quote(item)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return quote(s.Text)
}

// ErrByHand means that a file is written in a way that this package does not edit:
// the section is there as an inline table or as dotted keys.
var ErrByHand = errors.New("the section is not written as a table of its own")

// Set changes settings of [kind.name] in the file at path, which is created when
// missing. Every byte outside the lines of those settings stays as it was. The result
// is checked before it takes the old file's place; a fault in it, or in the file as
// it was, changes nothing.
func Set(ctx context.Context, path, kind, name string, settings []Setting) error {
	// Dotfile managers keep the file elsewhere and a link here: follow it, so that
	// the link stays a link.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("change configuration: %w", err)
	}
	lock, err := atomicfile.Acquire(ctx, filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock"))
	if err != nil {
		return fmt.Errorf("change configuration: %w", err)
	}
	defer lock.Release()
	return set(path, kind, name, settings)
}

func set(path, kind, name string, settings []Setting) error {
	mode := fs.FileMode(0o600)
	data, info, err := read(path)
	switch {
	case err == nil:
		mode = info.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("change configuration: %w", err)
	}
	edited, err := Edit(path, data, kind, name, settings)
	if err != nil {
		return err
	}
	if bytes.Equal(edited, data) {
		return nil
	}
	for _, s := range settings {
		if !s.Secret.IsZero() {
			mode &= 0o700
		}
	}
	if err := atomicfile.Write(path, edited, mode); err != nil {
		return fmt.Errorf("change configuration: %w", err)
	}
	return nil
}

// Edit is Set on bytes. It is exact or it fails: the result decodes to what the old
// file decoded to, with the settings changed, and nothing else.
func Edit(path string, data []byte, kind, name string, settings []Setting) ([]byte, error) {
	if fault := CheckName(name); fault != "" {
		return nil, fmt.Errorf("change configuration: the name of a section %s", fault)
	}
	if _, err := Parse(path, data); err != nil {
		return nil, err
	}
	edited, err := edit(data, []string{kind, name}, settings)
	if err != nil {
		return nil, fmt.Errorf("change [%s] in %s: %w", join2([]string{kind, name}), path, err)
	}
	if _, err := Parse(path, edited); err != nil {
		return nil, err
	}
	if !proves(data, edited, kind, name, settings) {
		return nil, fmt.Errorf("change [%s] in %s: %w", join2([]string{kind, name}), path, ErrByHand)
	}
	return edited, nil
}

func edit(data []byte, section []string, settings []Setting) ([]byte, error) {
	entries := layout(data)
	at := findSection(entries, section)
	if at < 0 {
		for _, e := range entries {
			if hasPrefix(e.path, section) && len(e.path) > len(section) && !e.header || hasPrefix(section, e.path) && !e.header {
				return nil, ErrByHand
			}
		}
		return appendSection(data, section, settings), nil
	}
	return editSection(data, entries, at, settings), nil
}

func findSection(entries []entry, section []string) int {
	for i, e := range entries {
		if e.header && !e.array && join(e.path) == join(section) {
			return i
		}
	}
	return -1
}

func hasPrefix(path, prefix []string) bool {
	return len(path) >= len(prefix) && join(path[:len(prefix)]) == join(prefix)
}

// appendSection writes a new section at the end of the file.
func appendSection(data []byte, section []string, settings []Setting) []byte {
	eol := lineEnd(data)
	out := append([]byte{}, data...)
	if len(out) > 0 {
		if out[len(out)-1] != '\n' {
			out = append(out, eol...)
		}
		out = append(out, eol...)
	}
	out = append(out, "["+join2(section)+"]"+eol...)
	for _, s := range settings {
		if !s.remove() {
			out = append(out, s.Name+" = "+s.value()+eol...)
		}
	}
	return out
}

// editSection replaces values in place, removes lines, and puts new keys after the
// last line of the section. Changes are collected in file order and applied once.
func editSection(data []byte, entries []entry, at int, settings []Setting) []byte {
	type change struct {
		span
		text string
	}
	section := entries[at].path
	end := lineAfter(data, entries[at].raw.end)
	where := map[string]entry{}
	var order []entry
	for _, e := range entries[at+1:] {
		if e.header {
			break
		}
		end = lineAfter(data, e.raw.end)
		if len(e.path) == len(section)+1 {
			where[e.path[len(section)]] = e
			order = append(order, e)
		}
	}
	eol := lineEnd(data)
	changes := map[int]change{}
	var added strings.Builder
	if end > 0 && data[end-1] != '\n' {
		added.WriteString(eol)
	}
	empty := added.Len()
	for _, s := range settings {
		e, there := where[s.Name]
		switch {
		case there && s.remove():
			changes[e.raw.start] = change{span{lineBefore(data, e.raw.start), lineAfter(data, e.raw.end)}, ""}
		case there:
			changes[e.raw.start] = change{e.raw, keyText(data, e) + " = " + s.value()}
		case !s.remove():
			added.WriteString(s.Name + " = " + s.value() + eol)
		}
	}
	var out []byte
	from := 0
	for _, e := range order {
		if c, ok := changes[e.raw.start]; ok {
			out = append(append(out, data[from:c.start]...), c.text...)
			from = c.end
		}
	}
	out = append(out, data[from:max(from, end)]...)
	if added.Len() > empty {
		out = append(out, added.String()...)
	}
	return append(out, data[max(from, end):]...)
}

// keyText is the key as it is written now: quoted keys stay quoted.
func keyText(data []byte, e entry) string {
	raw := string(data[e.raw.start:e.raw.end])
	key := e.path[len(e.path)-1]
	if strings.HasPrefix(raw, key) {
		return key
	}
	return quote(key)
}

func lineEnd(data []byte) string {
	if i := bytes.IndexByte(data, '\n'); i > 0 && data[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

func lineAfter(data []byte, offset int) int {
	if i := bytes.IndexByte(data[offset:], '\n'); i >= 0 {
		return offset + i + 1
	}
	return len(data)
}

func lineBefore(data []byte, offset int) int { return bytes.LastIndexByte(data[:offset], '\n') + 1 }

// proves decodes both and compares.
func proves(before, after []byte, kind, name string, settings []Setting) bool {
	var want, got map[string]any
	if toml.Unmarshal(before, &want) != nil || toml.Unmarshal(after, &got) != nil {
		return false
	}
	if want == nil {
		want = map[string]any{}
	}
	section := child(child(want, kind), name)
	if section == nil {
		return false
	}
	for _, s := range settings {
		switch {
		case s.remove():
			delete(section, s.Name)
		case len(s.List) > 0:
			items := make([]any, len(s.List))
			for i, item := range s.List {
				items[i] = item
			}
			section[s.Name] = items
		default:
			section[s.Name] = s.Text + s.Secret.Reveal()
		}
	}
	return reflect.DeepEqual(want, got)
}

func child(table map[string]any, name string) map[string]any {
	if table == nil {
		return nil
	}
	if _, ok := table[name]; !ok {
		table[name] = map[string]any{}
	}
	inner, _ := table[name].(map[string]any)
	return inner
}

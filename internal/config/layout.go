package config

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A span is a stretch of bytes of the file.
type span struct{ start, end int }

// An entry is one `key = value`, or one [table] header (then value has no length).
type entry struct {
	path   []string
	header bool
	array  bool // [[table]]
	raw    span // "key = value" without what surrounds it; the name for a header
}

// layout reads where things stand in a file that go-toml has accepted already. go-toml
// decodes without positions; only its unstable half tells them.
func layout(data []byte) []entry {
	var out []entry
	var table []string
	parser := unstable.Parser{}
	parser.Reset(data)
	for parser.NextExpression() {
		node := parser.Expression()
		keys, first := keyPath(node)
		switch node.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = keys
			out = append(out, entry{path: keys, header: true, array: node.Kind == unstable.ArrayTable,
				raw: span{int(first.Offset), int(first.Offset + first.Length)}})
		case unstable.KeyValue:
			path := append(append([]string{}, table...), keys...)
			start := int(node.Raw.Offset)
			out = append(out, entry{path: path, raw: span{start, start + int(node.Raw.Length)}})
		}
	}
	return out
}

func keyPath(node *unstable.Node) (keys []string, first unstable.Range) {
	for it := node.Key(); it.Next(); {
		if keys == nil {
			first = it.Node().Raw
		}
		keys = append(keys, string(it.Node().Data))
	}
	return keys, first
}

// lineIndex maps the path of every key and table to its line.
func lineIndex(data []byte) map[string]int {
	lines := map[string]int{}
	for _, e := range layout(data) {
		line := 1 + bytes.Count(data[:e.raw.start], []byte("\n"))
		for n := 1; n <= len(e.path); n++ {
			key := join(e.path[:n])
			if _, ok := lines[key]; !ok {
				lines[key] = line
			}
		}
	}
	return lines
}

func join(path []string) string { return strings.Join(path, "\x00") }

// join2 writes a path as TOML would.
func join2(path []string) string {
	quoted := make([]string, len(path))
	for i, key := range path {
		quoted[i] = quoteKey(key)
	}
	return strings.Join(quoted, ".")
}

// quoteKey writes a key bare when it can be, quoted otherwise.
func quoteKey(key string) string {
	bare := key != "" && !strings.ContainsFunc(key, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
	if bare {
		return key
	}
	return quote(key)
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			b.WriteString(`\u` + strings.Repeat("0", 4-len(strconv.FormatInt(int64(r), 16))) + strconv.FormatInt(int64(r), 16))
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

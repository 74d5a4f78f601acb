package doctor

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A block is a section of Dovecot's configuration: "passdb", "service doveadm".
type block struct {
	kind, label string
	settings    map[string]string
	blocks      []block
}

// get returns a setting, or what holds when doveconf -n leaves it out.
func (b block) get(name, otherwise string) string {
	if value, ok := b.settings[name]; ok {
		return value
	}
	return otherwise
}

func (b block) all(kind, label string) []block {
	var found []block
	for _, one := range b.blocks {
		if one.kind == kind && (label == "" || one.label == label) {
			found = append(found, one)
		}
	}
	return found
}

var errDoveconf = errors.New("what doveconf printed is not understood")

// maxDepth of blocks in blocks; Dovecot's own go three deep.
const maxDepth = 16

// parseDoveconf reads what doveconf -n prints, and the version in its first line.
func parseDoveconf(text []byte) (version string, root block, err error) {
	if len(text) > maxOutput {
		return "", block{}, errDoveconf
	}
	stack := []block{{settings: map[string]string{}}}
	for raw := range bytes.Lines(text) {
		line := strings.TrimSpace(string(raw))
		top := &stack[len(stack)-1]
		name, value, set := strings.Cut(line, " =")
		switch {
		case strings.HasPrefix(line, "# 2.") && version == "":
			version, _, _ = strings.Cut(line[2:], " ")
			version = strings.TrimSuffix(version, ":")
		case line == "", line[0] == '#':
		case line == "}":
			if len(stack) == 1 {
				return "", block{}, errDoveconf
			}
			done := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			parent := &stack[len(stack)-1]
			parent.blocks = append(parent.blocks, done)
		case set && !strings.ContainsAny(name, " {"):
			top.settings[name] = strings.TrimSpace(value)
		case strings.HasSuffix(line, " {"):
			if len(stack) > maxDepth {
				return "", block{}, errDoveconf
			}
			kind, label, _ := strings.Cut(strings.TrimSuffix(line, " {"), " ")
			stack = append(stack, block{kind: kind, label: label, settings: map[string]string{}})
		default:
			return "", block{}, errDoveconf
		}
	}
	if len(stack) != 1 {
		return "", block{}, errDoveconf
	}
	return version, stack[0], nil
}

// parseExt reads a file that a passdb names: "key = value", # comments, and lines that
// go on after a backslash.
func parseExt(text []byte) map[string]string {
	all := map[string]string{}
	joined := strings.ReplaceAll(string(text), "\\\n", " ")
	for line := range strings.Lines(joined) {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			all[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return all
}

// dovecotFacts are what doveconf and the files that it names say.
type dovecotFacts struct {
	*Dovecot
	ask     func(ctx context.Context, as User, program string, args ...string) (Answer, error)
	version string
	root    block
	passdbs []passdb
}

// A passdb is one block, with the file in its args.
type passdb struct {
	block
	file   string
	ext    map[string]string
	err    error // the file could not be read
	secret secret.String
	// role is who an SQL passdb is at the database; by password, or by the socket.
	role       string
	byPassword bool
}

func readDovecot(ctx context.Context, o Options) (*dovecotFacts, error) {
	args := []string{"-n"}
	if o.Dovecot.Dir != "" {
		args = []string{"-c", filepath.Join(o.Dovecot.Dir, "dovecot.conf"), "-n"}
	}
	text, err := o.Run(ctx, "doveconf", args...)
	if err != nil {
		return nil, err
	}
	f := &dovecotFacts{Dovecot: o.Dovecot, ask: o.Ask}
	if f.version, f.root, err = parseDoveconf(text); err != nil {
		return nil, err
	}
	for _, b := range f.root.all("passdb", "") {
		p := passdb{block: b}
		if driver := b.get("driver", ""); driver == "oauth2" || driver == "sql" {
			p.file = b.get("args", "")
			var data []byte
			if data, p.err = o.ReadFile(p.file); p.err == nil {
				p.ext = parseExt(data)
				p.secret = secret.New(p.ext["client_secret"])
				delete(p.ext, "client_secret")
				for _, word := range words(p.ext["connect"]) {
					if user, ok := strings.CutPrefix(word, "user="); ok {
						p.role = user
					}
					p.byPassword = p.byPassword || strings.HasPrefix(word, "password=")
				}
				delete(p.ext, "connect") // it may hold a password
			}
		}
		f.passdbs = append(f.passdbs, p)
	}
	return f, nil
}

func (f *dovecotFacts) place() *strings.Replacer {
	c, conf := "", "/etc/dovecot"
	if f.Dir != "" {
		c, conf = " -c "+quote(filepath.Join(f.Dir, "dovecot.conf")), f.Dir
	}
	return strings.NewReplacer("@c@", c, "@conf@", conf, "@folder@", f.folder(conf), "@flags@", f.flags())
}

// folder is where our files are: beside dovecot.conf, or where it includes them from.
func (f *dovecotFacts) folder(conf string) string {
	for _, p := range f.passdbs {
		if strings.HasPrefix(filepath.Base(p.file), "letterlock-") {
			return filepath.Dir(p.file)
		}
	}
	return conf
}

// flags are those that config dovecot was given, as far as they can be seen.
func (f *dovecotFacts) flags() string {
	flags := ""
	p, ours := f.sqlPassdb()
	switch {
	case f.bySQL():
		flags = " --sql-only" + roleFlags(p.role, p.byPassword, "dovecot")
	case ours:
		flags = " --sql"
	}
	for _, service := range f.root.all("service", "auth") {
		for _, listener := range service.all("unix_listener", "") {
			if filepath.Base(listener.label) == "letterlock-auth" {
				flags += " --postfix-socket " + quote(listener.label)
			}
		}
	}
	return flags
}

// serves reports whether a passdb is asked about a mechanism; without a list it is asked
// about all.
func (p passdb) serves(mechanism string) bool {
	list := words(p.get("mechanisms", ""))
	return len(list) == 0 || slices.ContainsFunc(list, func(m string) bool { return strings.EqualFold(m, mechanism) })
}

// endpoint is the address that a passdb asks.
func (p passdb) endpoint() (*url.URL, bool) {
	for _, name := range []string{"introspection_url", "grant_url"} {
		if u, err := url.Parse(p.ext[name]); err == nil && u.Host != "" {
			return u, true
		}
	}
	return nil, false
}

// ours reports whether a passdb asks letterlockd.
func (f *dovecotFacts) ours(p passdb) bool {
	u, ok := p.endpoint()
	return ok && u.Host == f.Listen
}

// asking are the passdbs that ask letterlockd.
func (f *dovecotFacts) asking() []passdb {
	var all []passdb
	for _, p := range f.passdbs {
		if f.ours(p) {
			all = append(all, p)
		}
	}
	return all
}

// guard reports whether a passdb keeps empty passwords from those behind it.
func (p passdb) guard() bool {
	return p.get("driver", "") == "static" && strings.HasPrefix(p.get("args", ""), "password=") &&
		p.serves("plain") && p.serves("login") && p.get("result_success", "return-ok") == "return-fail" && p.get("result_failure", "continue") == "continue"
}

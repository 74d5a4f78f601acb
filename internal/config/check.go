package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// A decoder walks a parsed file along the schema and collects every fault.
type decoder struct {
	data   []byte
	lines  map[string]int // computed at the first fault
	faults []Fault
}

func (d *decoder) fault(path []string, format string, args ...any) {
	if d.lines == nil {
		d.lines = lineIndex(d.data)
	}
	d.faults = append(d.faults, Fault{Line: d.line(path), Text: fmt.Sprintf(format, args...)})
}

// line finds the line of path, or of the nearest parent that stands in the file.
func (d *decoder) line(path []string) int {
	for n := len(path); n > 0; n-- {
		if line, ok := d.lines[join(path[:n])]; ok {
			return line
		}
	}
	return 0
}

func (d *decoder) sorted() []Fault {
	sort.SliceStable(d.faults, func(i, j int) bool { return d.faults[i].Line < d.faults[j].Line })
	return d.faults
}

func (d *decoder) config(tree map[string]any) *Config {
	c := &Config{}
	top := map[string]any{}
	for name, value := range tree {
		switch name {
		case "provider":
			c.Providers = sections(d, name, value, providerFields(), d.checkProvider)
		case "account":
			c.Accounts = sections(d, name, value, accountFields(), d.checkAccount)
		case "key":
			c.Keys = sections(d, name, value, keyFields(), d.checkKey)
		case "queue":
			single(d, name, value, queueFields(), &c.Queue)
		case "notify":
			single(d, name, value, notifyFields(), &c.Notify)
		default:
			top[name] = value
		}
	}
	section(d, nil, top, topFields(), c)
	d.checkReferences(c)
	return c
}

func sections[T any](d *decoder, kind string, value any, fields []field[T], check func([]string, *T)) map[string]T {
	table, ok := value.(map[string]any)
	if !ok {
		d.fault([]string{kind}, "%s must be written as [%s.NAME]", kind, kind)
		return nil
	}
	out := map[string]T{}
	for name, value := range table {
		path := []string{kind, name}
		keys, ok := value.(map[string]any)
		if !ok {
			d.fault(path, "%s is no section: write [%s.%s]", join2(path), kind, quoteKey(name))
			continue
		}
		if fault := CheckName(name); fault != "" {
			d.fault(path, "the name of a section %s", fault)
		}
		var one T
		section(d, path, keys, fields, &one)
		check(path, &one)
		out[name] = one
	}
	return out
}

// single reads a section without a NAME.
func single[T any](d *decoder, kind string, value any, fields []field[T], into *T) {
	keys, ok := value.(map[string]any)
	if !ok {
		d.fault([]string{kind}, "%s must be written as [%s]", kind, kind)
		return
	}
	section(d, []string{kind}, keys, fields, into)
}

func section[T any](d *decoder, path []string, keys map[string]any, fields []field[T], into *T) {
	for name, value := range keys {
		at := append(append([]string{}, path...), name)
		set := lookup(fields, name)
		if set == nil {
			d.fault(at, "unknown key %q%s%s", name, inSection(path), nearest(fields, name))
			continue
		}
		if fault := set(into, value); fault != "" {
			d.fault(at, "%s%s %s", name, inSection(path), fault)
		}
	}
}

func lookup[T any](fields []field[T], name string) func(*T, any) string {
	for _, f := range fields {
		if f.name == name {
			return f.set
		}
	}
	return nil
}

// nearest proposes the key that was probably meant.
func nearest[T any](fields []field[T], name string) string {
	best, distance := "", 4
	for _, f := range fields {
		if n := editDistance(f.name, strings.ToLower(name)); n < distance {
			best, distance = f.name, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

func editDistance(a, b string) int {
	if len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func inSection(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return " in [" + join2(path) + "]"
}

// CheckName says what is wrong with a section's name, or nothing.
func CheckName(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "must not be empty"
	case len(name) > 200:
		return "is longer than 200 bytes"
	}
	return printable(name)
}

func (d *decoder) checkProvider(path []string, p *Provider) {
	if !p.ClientSecret.IsZero() && p.ClientSecretFile != "" {
		d.fault(append(path, "client_secret_file"), "client_secret and client_secret_file%s exclude each other", inSection(path))
	}
	d.checkServers(path, p.Servers)
}

func (d *decoder) checkAccount(path []string, a *Account) {
	if !a.Granted() && a.Login == "" && !strings.Contains(path[1], "@") && !strings.Contains(a.Mailbox, "@") && !slices.ContainsFunc(a.Senders, isAddress) {
		d.fault(path, "nothing%s is an address to send as: set mailbox", inSection(path))
	}
	if a.Granted() && a.Login == "" && !strings.Contains(path[1], "@") {
		d.fault(path, "login is missing%s, and its name is no address", inSection(path))
	}
	d.checkServers(path, a.Servers)
	d.checkWay(path, a)
}

// checkWay compares what stands in a section with the way out that it names: a key that
// the way has no use for was written for another one.
func (d *decoder) checkWay(path []string, a *Account) {
	direct, granted := a.Way == "direct", a.Granted()
	const signIn = "a way without a sign-in"
	for _, key := range []struct {
		name  string
		there bool
		fits  bool
		what  string
	}{
		{"provider", a.Provider != "", granted, signIn}, {"right", a.Right != "", granted, signIn}, {"key", a.Key != "", granted, signIn},
		{"flow", a.Flow != "", granted, signIn}, {"token_file", a.TokenFile != "", granted, signIn}, {"imap", !a.IMAP.IsZero(), granted, signIn},
		{"pop3", !a.POP3.IsZero(), granted, signIn}, {"smtp", !a.SMTP.IsZero(), granted, signIn},
		{"hello", a.Hello != "", direct, "another way"}, {"local_domains", a.LocalDomains != nil, direct, "another way"},
		{"dkim_keys", a.DKIMKeys != "", direct, "another way"}, {"mta_sts", a.NoMTASTS, direct, "another way"}, {"private_networks", a.Private, direct, "another way"},
		{"lmtp", a.LMTP != "", direct || a.Way == "lmtp", "another way"}, {"maildir", a.Maildir != "", direct || a.Way == "maildir", "another way"},
	} {
		if key.there && !key.fits {
			d.fault(append(path, key.name), "%s%s means nothing: the account takes %s", key.name, inSection(path), key.what)
		}
	}
	switch {
	case a.Way == "lmtp" && a.LMTP == "", a.Way == "maildir" && a.Maildir == "":
		d.fault(append(path, "way"), "%s is missing%s, and way = \"%s\" needs it", a.Way, inSection(path), a.Way)
	case direct && a.LMTP != "" && a.Maildir != "":
		d.fault(append(path, "maildir"), "lmtp and maildir%s exclude each other", inSection(path))
	case direct && len(a.LocalDomains) > 0 && a.LMTP == "" && a.Maildir == "":
		d.fault(append(path, "local_domains"), "local_domains%s needs lmtp or maildir, where their mail goes", inSection(path))
	}
}

// isAddress: "@example.org" is a whole domain.
func isAddress(sender string) bool { return strings.Index(sender, "@") > 0 }

func (d *decoder) checkServers(path []string, s Servers) {
	for _, one := range []struct {
		name   string
		server Server
	}{{"imap", s.IMAP}, {"pop3", s.POP3}, {"smtp", s.SMTP}} {
		if one.server.Security == "plain" && !one.server.IsZero() && !IsLoopback(one.server.Host) {
			d.fault(append(path, one.name+"_security"), "%s_security%s: plain text is for loopback hosts only, and %s is none", one.name, inSection(path), one.server.Host)
		}
	}
}

func (d *decoder) checkKey(path []string, k *Key) {
	if k.Source == "" {
		if fault := oneOf(keySources()...)(path[1]); fault != "" {
			d.fault(path, "source is missing%s, and its name is none: %s", inSection(path), fault)
			return
		}
		k.Source = path[1]
	}
	if k.Source == "pipe" && (len(k.Encrypt) == 0 || len(k.Decrypt) == 0) {
		d.fault(path, "encrypt and decrypt are both needed%s", inSection(path))
	}
	if k.Source == "command" && len(k.Command) == 0 {
		d.fault(path, "command is needed%s", inSection(path))
	}
	outside := k.Source == "systemd" || k.Source == "command"
	if outside && k.Recipient != "" && !strings.HasPrefix(k.Recipient, "age1") {
		d.fault(append(path, "recipient"), "recipient%s must be the public half of the key, age1...", inSection(path))
	}
}

func (d *decoder) checkReferences(c *Config) {
	if c.Key != "" {
		d.checkKeyName(c, []string{"default_key"}, "default_key", c.Key)
	}
	if name := c.Queue.Account; name != "" {
		if _, ok := c.Accounts[name]; !ok {
			d.fault([]string{"queue", "account"}, "account in [queue]: there is no [account.%s]", quoteKey(name))
		}
	}
	if name := c.Queue.Reports; name != "" && !filepath.IsAbs(name) {
		if way := c.Accounts[name].Way; way != "lmtp" && way != "maildir" {
			d.fault([]string{"queue", "reports"}, "reports in [queue]: %q is neither an absolute path nor an account with way = \"lmtp\" or \"maildir\"", name)
		}
	}
	for name, account := range c.Accounts {
		if account.Key != "" {
			d.checkKeyName(c, []string{"account", name, "key"}, "key"+inSection([]string{"account", name}), account.Key)
		}
	}
}

func (d *decoder) checkKeyName(c *Config, path []string, what, name string) {
	if _, ok := c.Keys[name]; ok {
		return
	}
	switch name {
	case "file", "keyring", "gpg", "passphrase", "systemd":
		return
	case "command":
		d.fault(path, "%s = \"command\" needs a [key.command] section with command", what)
		return
	case "pipe":
		d.fault(path, "%s = \"pipe\" needs a [key.pipe] section with encrypt and decrypt", what)
		return
	}
	d.fault(path, "%s: there is no key source %q: use keyring, gpg, passphrase, systemd, file, or describe it in [key.%s]", what, name, quoteKey(name))
}

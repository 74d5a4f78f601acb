package doctor

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// postfixFacts are what postconf says.
type postfixFacts struct {
	*Postfix
	sample    string
	unsampled error // why there is no sample
	ask       func(ctx context.Context, as User, program string, args ...string) (Answer, error)
	main      map[string]string
	services  []service
}

// A service is one smtpd of master.cf.
type service struct {
	name    string // "submission/inet"
	chroot  bool
	submits bool // people submit mail there
	own     map[string]string
	main    map[string]string
	cleanup map[string]string // what its cleanup service sets for itself
}

// ofCleanup is the value that holds where the service's messages are cleaned up.
func (s service) ofCleanup(name string) string {
	if value, ok := s.cleanup[name]; ok {
		return value
	}
	return s.main[name]
}

// get is the value that holds at the service.
func (s service) get(name string) string {
	if value, ok := s.own[name]; ok {
		return value
	}
	return s.main[name]
}

func (s service) yes(name string) bool { return strings.EqualFold(s.get(name), "yes") }

// restrictions are the words of a list of restrictions.
func (s service) restrictions(name string) []string { return words(s.get(name)) }

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
}

func readPostfix(ctx context.Context, o Options) (*postfixFacts, error) {
	ask := func(args ...string) ([]byte, error) {
		if o.Postfix.Dir != "" {
			args = append([]string{"-c", o.Postfix.Dir}, args...)
		}
		return o.Run(ctx, "postconf", args...)
	}
	// Each is a process of its own, whose start is most of what it costs.
	var main, services, own []byte
	err := together(
		// -x: with what $name stands for. Only these: some of the others wait for DNS.
		func() (err error) { main, err = ask(append([]string{"-x"}, settings()...)...); return err },
		func() (err error) { services, err = ask("-M"); return err },
		func() (err error) { own, err = ask("-x", "-P"); return err },
	)
	if err != nil {
		return nil, err
	}
	f := &postfixFacts{Postfix: o.Postfix, ask: o.Ask, main: parsePostconf(main)}
	f.services = parseMaster(services, parsePostconf(own), f.main)
	return f, nil
}

// settings are those of main.cf that the rows look at.
func settings() []string {
	return []string{
		"mail_version", "queue_directory", "compatibility_level", "mynetworks", "syslog_name",
		"smtpd_sasl_auth_enable", "smtpd_sasl_type", "smtpd_sasl_path", "smtpd_sasl_security_options", "smtpd_sasl_tls_security_options",
		"smtpd_tls_auth_only", "smtpd_tls_wrappermode", "smtpd_tls_security_level", "smtpd_sender_login_maps",
		"smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions", "smtpd_relay_restrictions",
		"smtpd_recipient_restrictions", "smtpd_data_restrictions",
		"smtpd_milters", "milter_default_action", "milter_mail_macros", "receive_override_options",
		"smtpd_forbid_bare_newline", "cleanup_service_name", "message_reject_characters", "message_strip_characters",
		"line_length_limit", "smtpd_sasl_response_limit", "smtpd_upstream_proxy_protocol",
		"virtual_alias_maps", "virtual_mailbox_maps", "relay_recipient_maps", "proxy_read_maps",
	}
}

// place fills in the mends.
func (f *postfixFacts) place() *strings.Replacer {
	c := ""
	if f.Dir != "" {
		c = " -c " + quote(f.Dir)
	}
	return strings.NewReplacer("@c@", c, "@conf@", "main.cf", "@again@", "letterlockd config postfix"+f.flags())
}

// flags are those that config postfix was given, as far as they can be seen: a script
// without them would undo a part.
func (f *postfixFacts) flags() string {
	flags := ""
	if f.Dir != "" {
		flags += " --config-dir " + quote(f.Dir)
	}
	tables := f.tables()
	if f.SQL || len(tables) > 0 {
		flags += " --sql"
	}
	for _, t := range tables {
		data, err := readFile(t.path)
		if err != nil || t.kind != "pgsql" {
			continue
		}
		ext := parseExt(data)
		return flags + roleFlags(ext["user"], ext["password"] != "", "postfix")
	}
	for _, name := range []string{"virtual_mailbox_maps", "relay_recipient_maps"} {
		for _, word := range words(f.main[name]) {
			if strings.HasPrefix(word, "socketmap:") && strings.HasSuffix(word, ":mailboxes") {
				return flags + " --recipients"
			}
		}
	}
	return flags
}

// submissions are the services that people submit at.
func (f *postfixFacts) submissions() []service {
	var all []service
	for _, s := range f.services {
		if s.submits {
			all = append(all, s)
		}
	}
	return all
}

func (f *postfixFacts) version() string { return f.main["mail_version"] }

// parsePostconf reads lines of "name = value".
func parsePostconf(text []byte) map[string]string {
	all := map[string]string{}
	for line := range bytes.Lines(text) {
		name, value, ok := strings.Cut(string(line), " =")
		if ok && name != "" && !strings.ContainsAny(name[:1], " #\t") {
			all[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return all
}

// parseMaster reads the smtpd services that postconf -M lists. own is what -P lists:
// "submission/inet/smtpd_tls_security_level".
func parseMaster(text []byte, own, main map[string]string) []service {
	var all []service
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxOutput)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 || filepath.Base(fields[7]) != "smtpd" || fields[1] != "inet" && fields[1] != "pass" && fields[1] != "unix" {
			continue
		}
		s := service{name: fields[0] + "/" + fields[1], own: map[string]string{}, main: main, cleanup: map[string]string{}}
		// "-" is the built-in default: yes before compatibility level 1 (master(5)).
		s.chroot = fields[4] == "y" || fields[4] == "-" && compatibility(main) < 1
		for name, value := range own {
			if param, ok := strings.CutPrefix(name, s.name+"/"); ok {
				s.own[param] = value
			}
		}
		for name, value := range own {
			if param, ok := strings.CutPrefix(name, s.get("cleanup_service_name")+"/unix/"); ok {
				s.cleanup[param] = value
			}
		}
		s.submits = submits(fields[0], s)
		all = append(all, s)
	}
	return all
}

func compatibility(main map[string]string) int {
	major, _, _ := strings.Cut(main["compatibility_level"], ".")
	level, err := strconv.Atoi(major)
	if err != nil {
		return 0
	}
	return level
}

// submits goes by name, port, TLS from the first byte, or the name that is logged.
func submits(name string, s service) bool {
	switch name[strings.LastIndexByte(name, ':')+1:] {
	case "submission", "submissions", "smtps", "587", "465":
		return true
	}
	logged := s.own["syslog_name"]
	return strings.HasPrefix(logged, "postfix/submission") || strings.HasPrefix(logged, "postfix/smtps") || strings.EqualFold(s.own["smtpd_tls_wrappermode"], "yes")
}

// A socket is one that a service asks.
type socket struct {
	network, address string
	hidden           bool // absolute, and so outside the service's chroot
	mapName          string
}

// socket resolves how Postfix names one: "inet:HOST:PORT", "unix:PATH", and where bare is
// set, "PATH". A path is relative to the queue folder; so is an absolute one in a chroot.
func (f *postfixFacts) socket(s service, name string, bare bool) (socket, bool) {
	if place, ok := strings.CutPrefix(name, "inet:"); ok {
		host, port, err := net.SplitHostPort(place)
		if err != nil {
			return socket{}, false
		}
		return socket{network: "tcp", address: net.JoinHostPort(host, port)}, true
	}
	path := name
	for _, prefix := range []string{"unix:", "local:"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			path, bare = rest, true
		}
	}
	if !bare || path == "" {
		return socket{}, false
	}
	queue := f.main["queue_directory"]
	switch {
	case !filepath.IsAbs(path):
		return socket{network: "unix", address: filepath.Join(queue, path)}, true
	case s.chroot:
		return socket{network: "unix", address: filepath.Join(queue, path), hidden: true}, true
	}
	return socket{network: "unix", address: path}, true
}

// sasl is the socket of the authentication server.
func (f *postfixFacts) sasl(s service) (socket, bool) {
	return f.socket(s, s.get("smtpd_sasl_path"), true)
}

// maps are the socketmaps among the sender maps.
func (f *postfixFacts) maps(s service) []socket {
	var all []socket
	for _, word := range words(s.get("smtpd_sender_login_maps")) {
		place, ok := strings.CutPrefix(strings.TrimPrefix(word, "proxy:"), "socketmap:")
		cut := strings.LastIndexByte(place, ':')
		if !ok || cut < 0 {
			continue
		}
		if one, ok := f.socket(s, place[:cut], false); ok {
			one.mapName = place[cut+1:]
			all = append(all, one)
		}
	}
	return all
}

// milters are those of the service, as smtpd_milters names them, with the default action
// that holds for each.
func (f *postfixFacts) milters(s service) []milter {
	var all []milter
	for _, word := range milterWords(s.get("smtpd_milters")) {
		fields := words(strings.Trim(word, "{}"))
		if len(fields) == 0 {
			continue
		}
		one := milter{action: s.get("milter_default_action")}
		one.socket, one.ok = f.socket(s, fields[0], false)
		for _, field := range fields[1:] {
			if action, ok := strings.CutPrefix(field, "default_action="); ok {
				one.action = action
			}
		}
		one.ours = one.ok && f.isOurs(one.socket, f.Milter)
		all = append(all, one)
	}
	return all
}

type milter struct {
	socket   socket
	ok, ours bool
	action   string
}

// milterWords splits a list in which { ... } is one word.
func milterWords(list string) []string {
	var all []string
	for list != "" {
		list = strings.TrimLeft(list, ", \t")
		end := strings.IndexAny(list, ", \t")
		if strings.HasPrefix(list, "{") {
			if end = strings.IndexByte(list, '}'); end >= 0 {
				end++
			}
		}
		if end < 0 {
			end = len(list)
		}
		if end > 0 {
			all = append(all, list[:end])
		}
		list = list[end:]
	}
	return all
}

// isOurs reports whether a socket is the one that letterlockd's configuration names.
func (f *postfixFacts) isOurs(s socket, place string) bool {
	if s.network == "tcp" {
		return s.address == place
	}
	return filepath.Clean(s.address) == filepath.Clean(place)
}

// quote writes a word for a POSIX shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

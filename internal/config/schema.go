package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A field is one key of a section: its name, its place in the structure, its check,
// and what the manual says about it.
type field[T any] struct {
	name   string
	doc    string
	sample string // a TOML value; empty: left out of the sample
	set    func(*T, any) string
}

// A set function returns what is wrong with the value, or nothing. It never repeats
// the value of a secret.

func text[T any](place func(*T) *string, checks ...func(string) string) func(*T, any) string {
	return func(t *T, value any) string {
		s, ok := value.(string)
		if !ok {
			return "must be a string"
		}
		for _, check := range append(checks, printable) {
			if fault := check(s); fault != "" {
				return fault
			}
		}
		*place(t) = s
		return ""
	}
}

func list[T any](place func(*T) *[]string, checks ...func(string) string) func(*T, any) string {
	return func(t *T, value any) string {
		items, ok := value.([]any)
		if !ok {
			return "must be an array of strings"
		}
		var out []string
		for _, item := range items {
			var s string
			get := text(func(s *string) *string { return s }, checks...)
			if fault := get(&s, item); fault != "" {
				return "must be an array of strings, and an element " + fault
			}
			out = append(out, s)
		}
		*place(t) = out
		return ""
	}
}

// users is a list of who may: an empty one is nobody, and something else than none.
func users[T any](place func(*T) *[]string) func(*T, any) string {
	get := list(place, filled, userWord)
	return func(t *T, value any) string {
		fault := get(t, value)
		if p := place(t); fault == "" && *p == nil {
			*p = []string{}
		}
		return fault
	}
}

// userWord accepts what useradd(8) gives as a name, a uid, or either kind of group
// after an @.
func userWord(s string) string {
	name := strings.TrimPrefix(s, "@")
	if name == "" || strings.HasPrefix(name, "-") || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(":,@/", r) }) {
		return "must be a user name, a uid, or @ and a group"
	}
	return ""
}

func hidden[T any](place func(*T) *secret.String) func(*T, any) string {
	return func(t *T, value any) string {
		s, ok := value.(string)
		if !ok {
			return "must be a string"
		}
		if fault := printable(s); fault != "" {
			return fault
		}
		*place(t) = secret.New(s)
		return ""
	}
}

func server[T any](place func(*T) *Server) func(*T, any) string {
	return func(t *T, value any) string {
		s, ok := value.(string)
		if !ok {
			return "must be a string"
		}
		host, port, fault := ParseHostPort(s)
		if fault != "" {
			return fault
		}
		place(t).Host, place(t).Port = host, port
		return ""
	}
}

// ParseHostPort reads "host", "host:port" or "[v6]:port". fault is empty when the
// text is good.
func ParseHostPort(s string) (host string, port int, fault string) {
	host = s
	if strings.Contains(s, ":") {
		var digits string
		var err error
		host, digits, err = net.SplitHostPort(s)
		if err != nil {
			return "", 0, "must be HOST or HOST:PORT"
		}
		port, err = strconv.Atoi(digits)
		if err != nil || port < 1 || port > 65535 {
			return "", 0, "has no usable port"
		}
	}
	if host == "" || strings.ContainsFunc(host, notHost) {
		return "", 0, "must be HOST or HOST:PORT"
	}
	return host, port, ""
}

func notHost(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(".-_:%", r)
}

func printable(s string) string {
	// Cf are the invisible characters that reverse or hide text on a terminal.
	if strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
	}) {
		return "holds a control character"
	}
	return ""
}

func filled(s string) string {
	if s == "" {
		return "must not be empty"
	}
	return ""
}

func oneOf(words ...string) func(string) string {
	return func(s string) string {
		for _, word := range words {
			if s == word {
				return ""
			}
		}
		return "must be one of " + strings.Join(words, ", ")
	}
}

// place checks an endpoint: https, or http to a loopback host.
func place(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return "must be an https URL"
	case u.Scheme == "https", u.Scheme == "http" && IsLoopback(u.Hostname()):
		return ""
	}
	return "must be an https URL (plain http is for loopback hosts only)"
}

// IsLoopback reports whether host names this machine for certain.
func IsLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func topFields() []field[Config] {
	return []field[Config]{
		{"default_key", "key source of new grants: keyring, gpg, passphrase, systemd, file, or the NAME of a [key.NAME] section; without it login takes keyring or gpg when usable", `"keyring"`,
			text(func(c *Config) *string { return &c.Key }, filled)},
	}
}

func providerFields() []field[Provider] {
	type p = Provider
	fields := []field[p]{
		{"preset", "the known provider whose endpoints, scopes and servers this section builds on; default: NAME itself, when it is a known one", `"microsoft"`, text(func(v *p) *string { return &v.Preset }, filled)},
		{"client_id", "the client id that the provider gave you (letterlock register PROVIDER leads there)", `"1234.apps.example"`, text(func(v *p) *string { return &v.ClientID }, filled)},
		{"client_secret", "the secret that belongs to it, where the provider gives one; the file must then be readable by you alone", `"GOCSPX-..."`, hidden(func(v *p) *secret.String { return &v.ClientSecret })},
		{"client_secret_file", "a file that holds the secret on its first line, instead of client_secret", `"/home/you/.config/letterlock/google.secret"`, text(func(v *p) *string { return &v.ClientSecretFile }, filled)},
		{"client_key_file", "machines: the private key that proves the client, in PEM with its certificate, or the key file of a Google service account; it is read each time and never copied", `"/etc/letterlock/app.pem"`, text(func(v *p) *string { return &v.ClientKeyFile }, filled)},
		{"auth", "how the client proves itself at the token endpoint: none, client_secret_post, client_secret_basic", `"none"`, text(func(v *p) *string { return &v.Auth }, oneOf("none", "client_secret_post", "client_secret_basic"))},
		{"tenant", "Microsoft: common, consumers, organizations, or the tenant's id or domain", `"organizations"`, text(func(v *p) *string { return &v.Tenant }, filled)},
		{"issuer", "the OpenID Connect or OAuth issuer; its endpoints are asked for there", `"https://login.example.org/realms/mail"`, text(func(v *p) *string { return &v.Issuer }, place)},
		{"authorization_endpoint", "for issuers without metadata, or to override them", "", text(func(v *p) *string { return &v.Authorization }, place)},
		{"token_endpoint", "likewise", "", text(func(v *p) *string { return &v.Token }, place)},
		{"device_authorization_endpoint", "likewise", "", text(func(v *p) *string { return &v.Device }, place)},
		{"revocation_endpoint", "likewise", "", text(func(v *p) *string { return &v.Revocation }, place)},
		{"registration_endpoint", "likewise", "", text(func(v *p) *string { return &v.Registration }, place)},
		{"redirect_uri", "the redirect URI that was registered with the client id", `"http://127.0.0.1"`, text(func(v *p) *string { return &v.RedirectURI }, filled)},
		{"scopes", "scopes to ask for, where they are not known", `["urn:ietf:params:oauth:scope:mail", "offline_access"]`, list(func(v *p) *[]string { return &v.Scopes }, filled)},
		{"send_scopes", "scopes to ask for with --send-only", "", list(func(v *p) *[]string { return &v.SendScopes }, filled)},
		{"resource", "resource indicator (RFC 8707) to send", "", text(func(v *p) *string { return &v.Resource }, filled)},
		{"mechanisms", "SASL mechanisms of its mail servers, best first", `["OAUTHBEARER", "XOAUTH2"]`, list(func(v *p) *[]string { return &v.Mechanisms }, oneOf("OAUTHBEARER", "XOAUTH2"))},
		{"ca_file", "PEM file of further certificate authorities for its OAuth and mail servers", `"/etc/ssl/company.pem"`, text(func(v *p) *string { return &v.CAFile }, filled)},
	}
	return append(fields, serverFields(func(v *p) *Servers { return &v.Servers })...)
}

func accountFields() []field[Account] {
	type a = Account
	fields := []field[a]{
		{"provider", "NAME of a known provider or of a [provider.NAME] section", `"google"`, text(func(v *a) *string { return &v.Provider }, filled)},
		{"login", "the identity that signs in; default: NAME, when it is an address", `"you@example.org"`, text(func(v *a) *string { return &v.Login }, filled)},
		{"mailbox", "the mailbox to open, when it is not the login's own (a shared mailbox)", `"office@example.org"`, text(func(v *a) *string { return &v.Mailbox }, filled)},
		{"senders", "addresses that may stand in From beside the mailbox; \"@example.org\" is the whole domain", `["you@example.org"]`, list(func(v *a) *[]string { return &v.Senders }, filled)},
		{"sender", "what becomes of other addresses in From: rewrite makes them the account's and keeps the name, refuse sends nothing, keep leaves it to the server; default: rewrite", `"rewrite"`, text(func(v *a) *string { return &v.Sender }, oneOf("rewrite", "refuse", "keep"))},
		{"users", "with --system: who of this machine sends with this account, as user names, numeric uids, or \"@group\"; without it everybody may whom no other account names, with [] nobody. What sender says is then done to every message", `["www-data", "1001", "@adm"]`, users(func(v *a) *[]string { return &v.Users })},
		{"right", "full, or send-only: a right that cannot read mail", `"full"`, text(func(v *a) *string { return &v.Right }, oneOf("full", "send-only"))},
		{"key", "key source that protects this account's grant on disk", `"keyring"`, text(func(v *a) *string { return &v.Key }, filled)},
		{"flow", "how to sign in: browser, device, paste, or for machines client-credentials, assertion; login remembers the last", `"browser"`, text(func(v *a) *string { return &v.Flow }, oneOf("browser", "device", "paste", "client-credentials", "assertion"))},
		{"ca_file", "as in [provider.NAME], for this account only", "", text(func(v *a) *string { return &v.CAFile }, filled)},
		{"token_file", "the file of mutt_oauth2.py that this account has taken the place of", "", text(func(v *a) *string { return &v.TokenFile }, filled)},
	}
	fields = append(fields, serverFields(func(v *a) *Servers { return &v.Servers })...)
	return append(fields, wayFields()...)
}

// wayFields are an account's way out. The last six are for ways without a sign-in.
func wayFields() []field[Account] {
	type a = Account
	return []field[a]{
		{"way", "how its mail leaves: submission, gmail or graph, by the right that was signed in for; direct, to the recipients' own mail servers; lmtp or maildir, for mail that stays on this machine. The last three need no sign-in. Default: the narrowest way that the right has", `"direct"`, text(func(v *a) *string { return &v.Way }, oneOf("submission", "gmail", "graph", "direct", "lmtp", "maildir"))},
		{"hello", "direct: the name this machine gives to others. It should be in DNS, and its address should lead back to it; default: this machine's name", `"mail.example.org"`, text(func(v *a) *string { return &v.Hello }, hostname)},
		{"local_domains", "direct: domains whose mail stays here and goes to lmtp or maildir, as that to names without a domain does", `["example.org"]`, list(func(v *a) *[]string { return &v.LocalDomains }, hostname)},
		{"lmtp", "lmtp, direct: the LMTP server of this machine, a path or a loopback HOST:PORT", `"/run/dovecot/lmtp"`, text(func(v *a) *string { return &v.LMTP }, socket)},
		{"maildir", "maildir, direct: where a recipient's Maildir is, with {local} and {domain} for the parts of the address. What stands up to the last of them must be there already: an address without it has no mailbox. Without either, all mail goes into one", `"/home/{local}/Maildir"`, text(func(v *a) *string { return &v.Maildir }, pattern)},
		{"dkim_keys", "direct: the folder of DKIM keys; default: that of letterlock dkim. Mail from a domain that has keys is signed; with the folder named here, nothing leaves unsigned", `"/etc/letterlock/dkim"`, text(func(v *a) *string { return &v.DKIMKeys }, absolute)},
		{"mta_sts", "direct: heed the recipients' MTA-STS policies (RFC 8461); default: true", `true`, flag(func(v *a, on bool) { v.NoMTASTS = !on })},
		{"private_networks", "direct: let mail servers have addresses in private networks; default: false, because a stranger's DNS names them", `false`, flag(func(v *a, on bool) { v.Private = on })},
	}
}

func flag[T any](place func(*T, bool)) func(*T, any) string {
	return func(t *T, value any) string {
		on, ok := value.(bool)
		if !ok {
			return "must be true or false"
		}
		place(t, on)
		return ""
	}
}

func hostname(s string) string {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' }) {
			return "must be a host or domain name"
		}
	}
	return ""
}

func absolute(s string) string {
	if !filepath.IsAbs(s) {
		return "must be an absolute path"
	}
	return ""
}

// socket is an absolute path, or a port of this machine: LMTP has no TLS.
func socket(s string) string {
	if filepath.IsAbs(s) {
		return ""
	}
	host, port, fault := ParseHostPort(s)
	if fault != "" || port == 0 || !IsLoopback(host) {
		return "must be an absolute path, or HOST:PORT of this machine (LMTP has no encryption)"
	}
	return ""
}

func pattern(s string) string {
	rest := strings.NewReplacer("{local}", "", "{domain}", "").Replace(s)
	if strings.ContainsAny(rest, "{}") {
		return "may have {local} and {domain} in braces, and nothing else"
	}
	return absolute(s)
}

func serverFields[T any](in func(*T) *Servers) []field[T] {
	security := func(get func(*Servers) *Server) func(*T, any) string {
		return text(func(v *T) *string { return &get(in(v)).Security }, oneOf("tls", "starttls", "plain"))
	}
	imap := func(s *Servers) *Server { return &s.IMAP }
	pop3 := func(s *Servers) *Server { return &s.POP3 }
	smtp := func(s *Servers) *Server { return &s.SMTP }
	return []field[T]{
		{"imap", "IMAP server, HOST or HOST:PORT", `"imap.example.org:993"`, server(func(v *T) *Server { return imap(in(v)) })},
		{"imap_security", "tls, starttls, or plain (loopback only); default: by the port, else tls", `"tls"`, security(imap)},
		{"pop3", "POP3 server", `"pop.example.org:995"`, server(func(v *T) *Server { return pop3(in(v)) })},
		{"pop3_security", "as imap_security", `"tls"`, security(pop3)},
		{"smtp", "submission server", `"smtp.example.org:587"`, server(func(v *T) *Server { return smtp(in(v)) })},
		{"smtp_security", "as imap_security", `"starttls"`, security(smtp)},
	}
}

// keySources are what a [key.NAME] section can describe.
func keySources() []string {
	return []string{"file", "keyring", "gpg", "passphrase", "systemd", "command", "pipe"}
}

func keyFields() []field[Key] {
	type k = Key
	return []field[k]{
		{"source", "file, keyring, gpg, passphrase, systemd, command or pipe; default: NAME", `"gpg"`, text(func(v *k) *string { return &v.Source }, oneOf(keySources()...))},
		{"recipient", "gpg: the key to encrypt to, a fingerprint or an address; default: gpg's own default key. systemd and command: the public half (age1...), when login cannot get at the key itself", `"you@example.org"`, text(func(v *k) *string { return &v.Recipient }, filled)},
		{"path", "file: where the key is kept; default: beside the grants", "", text(func(v *k) *string { return &v.Path }, filled)},
		{"credential", "systemd: the credential's name in LoadCredential= or LoadCredentialEncrypted=; default: \"letterlock-key\"", `"letterlock-key"`, text(func(v *k) *string { return &v.Credential }, credentialName)},
		{"command", "command: prints the key on standard output, as an array (no shell)", `["pass", "show", "letterlock"]`, list(func(v *k) *[]string { return &v.Command })},
		{"encrypt", "pipe: command that encrypts standard input to standard output, as an array (no shell)", `["pass-encrypt", "letterlock"]`, list(func(v *k) *[]string { return &v.Encrypt })},
		{"decrypt", "pipe: command that decrypts it again", `["pass-decrypt", "letterlock"]`, list(func(v *k) *[]string { return &v.Decrypt })},
	}
}

// credentialName is what systemd takes for one: a file name (systemd.exec(5)).
func credentialName(name string) string {
	plain := name != "" && name != "." && name != ".." && len(name) < 256 && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '/' || r == ':' || r == '%'
	})
	if !plain {
		return "is no name of a credential: it must be a plain file name"
	}
	return ""
}

func queueFields() []field[Queue] {
	type q = Queue
	return []field[q]{
		{"account", "the account that sends what names none; without it the one account, or the sender's own, whose right can only send. A right that can read mail sends only when it is named here or with --account", `"example"`, text(func(v *q) *string { return &v.Account }, filled)},
		{"root", "who reads the mail of root, and that of other local names unless domain is set", `["ops@example.org"]`, list(func(v *q) *[]string { return &v.Root }, filled)},
		{"aliases", "the alias file; default: /etc/aliases", `"/etc/aliases"`, text(func(v *q) *string { return &v.Aliases }, filled)},
		{"domain", "appended to local names; default: what /etc/mailname says, else this machine's name", `"example.org"`, text(func(v *q) *string { return &v.Domain }, filled)},
		{"on_unknown", "what to do when a connection broke after a whole message was sent: ask waits for letterlock queue retry, resend sends it again after 30 minutes; default: ask, with --system resend", `"ask"`, text(func(v *q) *string { return &v.OnUnknown }, oneOf("ask", "resend"))},
		{"give_up", "how long to try before the sender hears that a message failed; default: \"5d\"", `"5d"`, duration(func(v *q) *time.Duration { return &v.GiveUp }, time.Hour, 30*24*time.Hour)},
		{"parallel", "how many messages are worked on at a time; default: 40", `40`, number(func(v *q) *int { return &v.Parallel }, 1, 200)},
		{"per_destination", "how many connections to one server carry them; default: 5", `5`, number(func(v *q) *int { return &v.PerDestination }, 1, 100)},
		{"reports", "where delivery reports go: the absolute path of a Maildir, or the NAME of an account with way = \"lmtp\" or \"maildir\", which puts them into the sender's own mailbox; default: the Maildir reports beside the queue. In the system's queue the user who submitted the message gets them too, where the mailbox is that his login name (or its alias) has on this machine: by that account, else the first with way = \"lmtp\" or \"maildir\", else one with local_domains", `"/home/you/Maildir"`, text(func(v *q) *string { return &v.Reports }, filled)},
		{"max_size", "the largest message, in MiB; default: 100", `100`, number(func(v *q) *int { return &v.MaxSize }, 1, 4096)},
		{"user_messages", "with --system: how many messages one user may hand over in an hour; what is more waits in the user's own queue; default: 1000", `1000`, number(func(v *q) *int { return &v.UserMessages }, 1, 1_000_000)},
		{"user_recipients", "with --system: how many recipients one message of a user may have; default: 1000", `1000`, number(func(v *q) *int { return &v.UserRecipients }, 1, 20_000)},
		{"user_entries", "with --system: how many messages of one user may wait at a time; default: 5000", `5000`, number(func(v *q) *int { return &v.UserEntries }, 1, 1_000_000)},
		{"user_size", "with --system: how large those may be together, in MiB; default: 1024", `1024`, number(func(v *q) *int { return &v.UserSize }, 1, 1_048_576)},
	}
}

func notifyFields() []field[Notify] {
	return []field[Notify]{
		{"command", "run by the agent when a person is needed, as an array (no shell); it gets the event (sign-in, failed, delayed, relayed, unknown, locked), the account and one line of text as further arguments, never a secret", `["notify-send", "--app-name=letterlock"]`, list(func(v *Notify) *[]string { return &v.Command })},
	}
}

func number[T any](place func(*T) *int, low, high int) func(*T, any) string {
	return func(t *T, value any) string {
		n, ok := value.(int64)
		if !ok || n < int64(low) || n > int64(high) {
			return fmt.Sprintf("must be a number from %d to %d", low, high)
		}
		*place(t) = int(n)
		return ""
	}
}

// duration reads Go's durations and whole days: "90m", "5d".
func duration[T any](place func(*T) *time.Duration, low, high time.Duration) func(*T, any) string {
	return func(t *T, value any) string {
		text, _ := value.(string)
		d, err := time.ParseDuration(text)
		if days, ok := strings.CutSuffix(text, "d"); ok {
			var n int
			if n, err = strconv.Atoi(days); err == nil && n < 10_000 {
				d = time.Duration(n) * 24 * time.Hour
			}
		}
		if err != nil || d < low || d > high {
			return fmt.Sprintf("must be a time like \"12h\" or \"5d\", from %s to %d days", low, high/(24*time.Hour))
		}
		*place(t) = d
		return ""
	}
}

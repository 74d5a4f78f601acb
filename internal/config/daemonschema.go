package config

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

func daemonFields() []field[Daemon] {
	return []field[Daemon]{
		{"domains", "the mail domains that are served here; no other address is ever made or bound", `["example.org"]`, list(func(c *Daemon) *[]string { return &c.Domains }, domainName)},
	}
}

func databaseFields() []field[Database] {
	type b = Database
	return []field[b]{
		{"url", "sqlite:PATH, or postgres://USER@HOST/NAME when several instances run; default: sqlite:/var/lib/letterlockd/letterlockd.db", `"sqlite:/var/lib/letterlockd/letterlockd.db"`, text(func(v *b) *string { return &v.URL }, databaseURL)},
		{"url_file", "a file that holds the URL on its first line, when there is a password in it", `"/etc/letterlock/database.url"`, text(func(v *b) *string { return &v.URLFile }, absolute)},
		{"view_file", "a SQLite file with what Dovecot and Postfix may read by SQL while letterlockd is away; its folder belongs to letterlockd and to the group that reads (install -d -o letterlockd -g postfix -m 2750 /var/lib/letterlock-views); default: none", `"/var/lib/letterlock-views/mail.db"`, text(func(v *b) *string { return &v.ViewFile }, absolute)},
	}
}

func postfixFields() []field[Postfix] {
	type p = Postfix
	return []field[p]{
		{"sasl", "socket that Postfix's smtpd_sasl_path names: a Unix socket below its queue folder, or HOST:PORT on loopback", `"/var/spool/postfix/letterlock/sasl"`, text(func(v *p) *string { return &v.SASL }, daemonSocket)},
		{"senders", "socketmap for smtpd_sender_login_maps, recipient and alias maps", `"/var/spool/postfix/letterlock/senders"`, text(func(v *p) *string { return &v.Senders }, daemonSocket)},
		{"milter", "milter that holds the From header and the limits of app passwords to their owner", `"/var/spool/postfix/letterlock/milter"`, text(func(v *p) *string { return &v.Milter }, daemonSocket)},
		{"fallback", "socket of Dovecot's authentication (config dovecot prints it) that is asked about sign-ins which are not letterlockd's: Kerberos, and passwords of PAM or LDAP; such people send as the name they sign in by; default: none", `"/run/dovecot/auth-letterlock"`, text(func(v *p) *string { return &v.Fallback }, daemonSocket)},
		{"suspended", "mail for a person who is disabled, asked for by the map mailboxes: refuse, or later, so that senders keep it and try again; default: refuse", `"refuse"`, text(func(v *p) *string { return &v.Suspended }, oneOf("refuse", "later"))},
		{"without_tls", "answer sessions that are not encrypted: for tests on loopback; default: false", `false`, boolean(func(v *p) *bool { return &v.Plaintext })},
	}
}

func dovecotFields() []field[Dovecot] {
	type d = Dovecot
	return []field[d]{
		{"listen", "loopback address of the endpoints that Dovecot asks", `"127.0.0.1:12001"`, text(func(v *d) *string { return &v.Listen }, hostPort, loopbackOnly)},
		{"secret_file", "a file with the secret that Dovecot shows there", `"/etc/letterlock/dovecot.secret"`, text(func(v *d) *string { return &v.SecretFile }, absolute)},
	}
}

func doveadmFields() []field[Doveadm] {
	type d = Doveadm
	return []field[d]{
		{"url", "doveadm's HTTP endpoint of the node: a revocation empties its cache and ends its sessions", `"http://127.0.0.1:8085/doveadm/v1"`, text(func(v *d) *string { return &v.URL }, place)},
		{"key_file", "a file with the node's doveadm_api_key", `"/etc/letterlock/doveadm.key"`, text(func(v *d) *string { return &v.KeyFile }, absolute)},
		{"ca_file", "PEM file of further certificate authorities for the node", "", text(func(v *d) *string { return &v.CAFile }, absolute)},
	}
}

func passwordFields() []field[Passwords] {
	type p = Passwords
	return []field[p]{
		{"memory", "KiB of memory of one Argon2id check; Dovecot's auth process must be allowed as much; default: 19456", `19456`, number(func(v *p) *int { return &v.Memory }, 7<<10, 1<<20)},
		{"time", "passes of one check; default: 2", `2`, number(func(v *p) *int { return &v.Time }, 1, 16)},
		{"parallel", "checks at a time; default: as many as there are cores", `2`, number(func(v *p) *int { return &v.Parallel }, 1, 64)},
		{"outage_grace", "how long known passwords and tokens go on while the database is away; default: \"15m\"", `"15m"`, duration(func(v *p) *time.Duration { return &v.OutageGrace }, time.Second, 24*time.Hour)},
	}
}

func throttleFields() []field[Throttle] {
	type t = Throttle
	return []field[t]{
		{"allow", "networks that are never throttled: the web mail's own host, a gateway that throttles by itself", `["192.0.2.10/32"]`, networks(func(v *t) *[]netip.Prefix { return &v.Allow })},
		{"deny", "files of networks that are refused, one a line", `["/etc/letterlock/deny.list"]`, list(func(v *t) *[]string { return &v.Deny }, absolute)},
	}
}

func metricsFields() []field[Metrics] {
	return []field[Metrics]{
		{"listen", "loopback address of /metrics and /healthz; default: none", `"127.0.0.1:9480"`, text(func(v *Metrics) *string { return &v.Listen }, hostPort, loopbackOnly)},
	}
}

// DescribeDaemon returns everything that may stand in letterlockd's file.
func DescribeDaemon() []Section {
	return []Section{
		{"", "Before the first section.", docs(daemonFields())},
		{"[database]", "Where everything is kept.", docs(databaseFields())},
		{"[web]", "Pages for people. There are none until public_url is named.", docs(webFields())},
		{"[portal]", "What the pages tell people.", docs(portalFields())},
		{"[signin.NAME]", "Who knows who a person is. NAME is part of the address that the provider sends the browser back to: PUBLIC_URL/signin/NAME/callback.", docs(signInFields())},
		{"[gateway.NAME]", "Web mail behind the sign-in of [web]: it gets a token for each request, and nobody types a password. letterlockd config roundcube prints its half.", docs(gatewayFields())},
		{"[oauth]", "The authorization server for mail programs: there whenever public_url is named. Its issuer is public_url.", docs(oauthFields())},
		{"[issuer.NAME]", "An issuer whose own access tokens open mailboxes, when it made them for mail and for a client on the list. People are found by their account there, as it is bound at sign-in or by letterlockd person bind.", docs(issuerFields())},
		{"[factors]", "Second factors: passkeys, authenticator apps, recovery codes. People set them up at PUBLIC_URL/security.", docs(factorFields())},
		{"[postfix]", "Sockets that Postfix asks. Each is off until it is named.", docs(postfixFields())},
		{"[dovecot]", "Endpoints that Dovecot asks.", docs(dovecotFields())},
		{"[doveadm.NAME]", "A Dovecot node that must feel revocations.", docs(doveadmFields())},
		{"[passwords]", "How app passwords are checked.", docs(passwordFields())},
		{"[throttle]", "What is slowed and refused.", docs(throttleFields())},
		{"[metrics]", "For the monitoring.", docs(metricsFields())},
		{"[scim]", "A directory that makes, changes and ends people by SCIM 2.0. Whoever has the token can shut everybody out.", docs(scimFields())},
		{"[hook]", "A program that is run once whenever a person or an address was made, changed, disabled, enabled or removed, whoever did it.", docs(hookFields())},
		{"[membership.NAME]", "How the provider of [signin.NAME] is asked again whether people still belong: who does not is suspended, and let in again when they do.", docs(membershipFields())},
	}
}

func boolean[T any](place func(*T) *bool) func(*T, any) string {
	return func(t *T, value any) string {
		b, ok := value.(bool)
		if !ok {
			return "must be true or false"
		}
		*place(t) = b
		return ""
	}
}

// networks reads networks and single addresses.
func networks[T any](place func(*T) *[]netip.Prefix) func(*T, any) string {
	return func(t *T, value any) string {
		var words []string
		get := list(func(s *[]string) *[]string { return s }, filled)
		if fault := get(&words, value); fault != "" {
			return fault
		}
		var out []netip.Prefix
		for _, word := range words {
			prefix, err := netip.ParsePrefix(word)
			if address, single := netip.ParseAddr(word); err != nil && single == nil {
				prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
			}
			if err != nil {
				return "must be networks like 192.0.2.0/24 or 2001:db8::/48"
			}
			if prefix != prefix.Masked() {
				return "has a network with bits set behind its mask: " + prefix.Masked().String() + " is probably meant"
			}
			out = append(out, prefix)
		}
		*place(t) = out
		return ""
	}
}

func domainName(s string) string {
	if s == "" || len(s) > 253 || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || !strings.Contains(s, ".") ||
		s != strings.ToLower(s) || strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.')
	}) {
		return "must be a domain in lower case (an international one as xn--…)"
	}
	return ""
}

func databaseURL(s string) string {
	if path, ok := strings.CutPrefix(s, "sqlite:"); ok {
		return absolute(path)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "must be sqlite:PATH or postgres://..."
	}
	if _, has := u.User.Password(); has {
		return "holds a password: put the URL into a file and name it in url_file"
	}
	return ""
}

func hostPort(s string) string {
	if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
		return "must be HOST:PORT"
	}
	return ""
}

// daemonSocket is a Unix socket, or a port that only this machine can reach.
func daemonSocket(s string) string {
	if filepath.IsAbs(s) {
		if len(s) > 100 {
			return "is too long for a Unix socket"
		}
		return ""
	}
	if hostPort(s) != "" || !loopbackAddress(s) {
		return "must be an absolute path, or HOST:PORT on loopback"
	}
	return ""
}

func loopbackOnly(s string) string {
	if !loopbackAddress(s) {
		return "must be on loopback: what is said there is not encrypted"
	}
	return ""
}

func loopbackAddress(s string) bool {
	host, _, err := net.SplitHostPort(s)
	return err == nil && IsLoopback(host)
}

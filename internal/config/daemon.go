package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// DaemonPath is where letterlockd looks for its configuration.
const DaemonPath = "/etc/letterlock/letterlockd.toml"

// A Daemon is the checked configuration of letterlockd. Its zero value after defaults
// is that of a missing file: SQLite, pages on loopback, and no mail server is answered yet.
type Daemon struct {
	Path string // "" when there is no file

	Domains []string // own mail domains, lower case

	Database  Database
	Web       Web
	Portal    Portal
	SignIn    map[string]SignIn
	Gateways  map[string]Gateway
	OAuth     OAuth
	Issuers   map[string]Issuer
	Factors   Factors
	Postfix   Postfix
	Dovecot   Dovecot
	Doveadm   map[string]Doveadm
	Passwords Passwords
	Throttle  Throttle
	Metrics   Metrics

	SCIM       SCIM
	Hook       Hook
	Membership map[string]Membership
}

// Database is the [database] section.
type Database struct {
	URL     string // "sqlite:PATH" or "postgres://..."; a password comes from URLFile
	URLFile string
	// ViewFile is what the mail servers read by SQL; empty: none.
	ViewFile string
}

// Shared reports whether other instances may use the same database.
func (d Database) Shared() bool { return d.URLFile != "" || !strings.HasPrefix(d.URL, "sqlite:") }

// Web is the [web] section: pages for people. Without a PublicURL there are none.
type Web struct {
	PublicURL      string
	Listen         string
	Certificate    string // PEM files; without them Listen is on loopback
	Key            string
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	MasterKeyFile  string
}

// A SignIn is one [signin.NAME] section: somebody who knows who a person is.
type SignIn struct {
	Type             string // github, oidc, passkey
	Label            string // on the button
	URL              string // of a GitHub server
	Issuer           string // OpenID Connect
	ClientID         string
	ClientSecretFile string
	Organization     int // GitHub: by number, for names are given to others
	Team             int
	Claim            string // OpenID Connect: this claim must have
	Values           []string
	Scopes           []string
	BindVerified     bool
	Provision        bool
	CAFile           string
}

// Postfix is the [postfix] section: sockets that Postfix asks.
type Postfix struct {
	SASL      string // Unix socket path, or host:port on loopback
	Senders   string // socketmap
	Milter    string
	Plaintext bool // answer sessions without TLS
	// Fallback is an authentication socket of Dovecot that knows further logins.
	Fallback  string
	Suspended string // mail for who is disabled: "refuse" or "later"
}

// Dovecot is the [dovecot] section: the HTTP endpoints that Dovecot asks.
type Dovecot struct {
	Listen     string
	SecretFile string
}

// A Doveadm is one [doveadm.NAME] section: a node whose caches and sessions feel a
// revocation.
type Doveadm struct {
	URL     string
	KeyFile string
	CAFile  string
}

// Passwords is the [passwords] section: app passwords and how they are checked.
type Passwords struct {
	Memory      int // KiB of one Argon2id check
	Time        int
	Parallel    int // checks at once; 0: by the number of cores
	OutageGrace time.Duration
}

// Throttle is the [throttle] section.
type Throttle struct {
	Allow []netip.Prefix // never throttled: one's own gateways and web mail
	Deny  []string       // list files
}

// Metrics is the [metrics] section.
type Metrics struct{ Listen string }

// LoadDaemon reads and checks the file at path. A missing file is the configuration of
// the first hour. Faults in the file are an *Error, all at once.
func LoadDaemon(path string) (*Daemon, error) {
	data, info, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return defaultDaemon().firstHour(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	d, err := ParseDaemon(path, data)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return nil, &Error{Path: path, Faults: []Fault{{Text: fmt.Sprintf("mode %04o lets others change it", info.Mode().Perm())}}}
	}
	if faults := wrongFiles(data); len(faults) > 0 {
		return nil, &Error{Path: path, Faults: faults}
	}
	return d, nil
}

// ParseDaemon decodes and checks data; path is for the faults only.
func ParseDaemon(path string, data []byte) (*Daemon, error) {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return nil, &Error{Path: path, Faults: []Fault{syntaxFault(err)}}
	}
	d := decoder{data: data}
	out := d.daemon(tree)
	if len(d.faults) > 0 {
		return nil, &Error{Path: path, Faults: d.sorted()}
	}
	out.Path = path
	return out, nil
}

// defaultDaemon is what holds where the file says nothing.
func defaultDaemon() *Daemon {
	return &Daemon{
		Database:  Database{URL: "sqlite:/var/lib/letterlockd/letterlockd.db"},
		Web:       Web{Listen: "127.0.0.1:8480", MasterKeyFile: "/var/lib/letterlockd/master.key"},
		Portal:    Portal{Fresh: 15 * time.Minute},
		SignIn:    map[string]SignIn{},
		Gateways:  map[string]Gateway{},
		OAuth:     OAuth{Access: time.Hour, Refresh: 90 * 24 * time.Hour},
		Factors:   Factors{Second: "optional"},
		Passwords: Passwords{Memory: 19 << 10, Time: 2, OutageGrace: 15 * time.Minute},
		Doveadm:   map[string]Doveadm{},

		Hook:       Hook{Timeout: 30 * time.Second},
		Membership: map[string]Membership{},
	}
}

func (d *decoder) daemon(tree map[string]any) *Daemon {
	c := defaultDaemon()
	top := map[string]any{}
	for name, value := range tree {
		switch name {
		case "database":
			single(d, name, value, databaseFields(), &c.Database)
		case "web":
			single(d, name, value, webFields(), &c.Web)
		case "portal":
			single(d, name, value, portalFields(), &c.Portal)
		case "factors":
			single(d, name, value, factorFields(), &c.Factors)
		case "signin":
			c.SignIn = sections(d, name, value, signInFields(), d.checkSignIn)
		case "gateway":
			c.Gateways = sections(d, name, value, gatewayFields(), d.checkGateway)
		case "oauth":
			single(d, name, value, oauthFields(), &c.OAuth)
		case "issuer":
			c.Issuers = sections(d, name, value, issuerFields(), d.checkIssuerSection)
		case "postfix":
			single(d, name, value, postfixFields(), &c.Postfix)
		case "dovecot":
			single(d, name, value, dovecotFields(), &c.Dovecot)
		case "doveadm":
			c.Doveadm = sections(d, name, value, doveadmFields(), d.checkDoveadm)
		case "passwords":
			single(d, name, value, passwordFields(), &c.Passwords)
		case "throttle":
			single(d, name, value, throttleFields(), &c.Throttle)
		case "metrics":
			single(d, name, value, metricsFields(), &c.Metrics)
		case "scim":
			single(d, name, value, scimFields(), &c.SCIM)
		case "hook":
			single(d, name, value, hookFields(), &c.Hook)
		case "membership":
			c.Membership = sections(d, name, value, membershipFields(), d.checkMembership)
		default:
			top[name] = value
		}
	}
	section(d, nil, top, daemonFields(), c)
	d.checkDaemon(c)
	return c
}

func (d *decoder) checkDoveadm(path []string, one *Doveadm) {
	if one.URL == "" || one.KeyFile == "" {
		d.fault(path, "url and key_file are both needed%s", inSection(path))
	}
}

func (d *decoder) checkDaemon(c *Daemon) {
	if (c.Dovecot.Listen == "") != (c.Dovecot.SecretFile == "") {
		d.fault([]string{"dovecot"}, "listen and secret_file in [dovecot] belong together: one is missing")
	}
	if c.Postfix.Fallback != "" && c.Postfix.SASL == "" {
		d.fault([]string{"postfix", "fallback"}, "fallback in [postfix] needs sasl: without it Postfix does not ask here at all")
	}
	if c.Postfix.Fallback != "" && c.Postfix.Fallback == c.Postfix.SASL {
		d.fault([]string{"postfix", "fallback"}, "fallback in [postfix] is sasl itself: name a socket of Dovecot")
	}
	d.checkWeb(c)
	d.checkProvision(c)
	d.checkGateways(c)
	if len(c.Domains) == 0 && (c.Postfix != Postfix{} || c.Dovecot.Listen != "") {
		d.fault([]string{"domains"}, "domains is missing: the mail domains that are served here")
	}
}

// DatabaseURL returns the database's URL, from its file when it is kept in one.
func (c *Daemon) DatabaseURL() (secret.String, error) {
	if c.Database.URLFile == "" {
		return secret.New(c.Database.URL), nil
	}
	return SecretFile(c.Database.URLFile)
}

// SecretFile reads the first line of a file that only its owner and group can read.
func SecretFile(path string) (secret.String, error) {
	data, info, err := read(path)
	if err != nil {
		return secret.String{}, fmt.Errorf("read secret: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return secret.String{}, fmt.Errorf("read secret: mode %04o of %s lets everybody in", info.Mode().Perm(), path)
	}
	line := firstLine(data)
	if line == "" {
		return secret.String{}, fmt.Errorf("read secret: %s is empty", path)
	}
	return secret.New(line), nil
}

func firstLine(data []byte) string {
	for i, b := range data {
		if b == '\n' || b == '\r' {
			return string(data[:i])
		}
	}
	return string(data)
}

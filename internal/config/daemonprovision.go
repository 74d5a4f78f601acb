package config

import (
	"path/filepath"
	"strings"
	"time"
)

// SCIM is the [scim] section: a directory that makes and ends people. Without a TokenFile
// there is none.
type SCIM struct {
	TokenFile string
	Listen    string // empty: below public_url of [web]
	URL       string // that the directory is given
}

// Hook is the [hook] section: a program that is run when people change.
type Hook struct {
	Command []string
	Timeout time.Duration
}

// A Membership is one [membership.NAME] section: how the provider of [signin.NAME] is asked
// again.
type Membership struct {
	AppID      string // GitHub
	AppKeyFile string
	Every      time.Duration
	Refresh    bool // OpenID Connect
	NoLogout   bool // back-channel logouts are not taken
	// InvalidGrant says what a refused refresh token means: "keep" or "suspend".
	InvalidGrant string
}

// MembershipEvery is how often providers are asked where the file does not say.
const MembershipEvery = time.Hour

// SCIMPath is where SCIM is answered below public_url.
const SCIMPath = "/scim/v2"

func scimFields() []field[SCIM] {
	type s = SCIM
	return []field[s]{
		{"token_file", "a file with the bearer token that the directory shows: at least 32 characters (openssl rand -hex 32)", `"/etc/letterlock/scim.token"`, text(func(v *s) *string { return &v.TokenFile }, absolute)},
		{"listen", "address of its own for SCIM; with the certificate of [web], else loopback only; default: none, it is answered at PUBLIC_URL/scim/v2", `"127.0.0.1:8481"`, text(func(v *s) *string { return &v.Listen }, hostPort)},
		{"url", "the URL that the directory was given, when a proxy stands in front; default: as it follows from the others", "", text(func(v *s) *string { return &v.URL }, place)},
	}
}

func hookFields() []field[Hook] {
	type h = Hook
	return []field[h]{
		{"command", "program and arguments, no shell; reads one JSON object with event, person and addresses; exit status 0 is done, anything else is tried again 5 times within an hour", `["/usr/local/sbin/mailbox-changed", "--quiet"]`, list(func(v *h) *[]string { return &v.Command }, filled)},
		{"timeout", "how long one run may take; default: \"30s\"", `"30s"`, duration(func(v *h) *time.Duration { return &v.Timeout }, time.Second, 10*time.Minute)},
	}
}

func membershipFields() []field[Membership] {
	type m = Membership
	return []field[m]{
		{"app_id", "github: the number or client id of the GitHub App that the organisation has installed, with the right to read members", `"123456"`, text(func(v *m) *string { return &v.AppID }, filled)},
		{"app_key_file", "github: a file with the app's private key (PEM)", `"/etc/letterlock/github-app.pem"`, text(func(v *m) *string { return &v.AppKeyFile }, absolute)},
		{"every", "how often the provider is asked; default: \"1h\"", `"1h"`, duration(func(v *m) *time.Duration { return &v.Every }, 5*time.Minute, 7*24*time.Hour)},
		{"refresh", "oidc: ask for offline_access at sign-in, keep the refresh token sealed, and ask with it; default: false", `false`, boolean(func(v *m) *bool { return &v.Refresh })},
		{"logout", "oidc: take back-channel logouts at PUBLIC_URL/signin/NAME/backchannel-logout; default: true", `true`, unless(func(v *m) *bool { return &v.NoLogout })},
		{"invalid_grant", "oidc: what a refused refresh token means: keep, the person is asked about again after the next sign-in; or suspend, for issuers whose refresh tokens end with the account only; default: keep", `"keep"`, text(func(v *m) *string { return &v.InvalidGrant }, oneOf("keep", "suspend"))},
	}
}

// unless reads a truth whose default is true into its opposite.
func unless[T any](place func(*T) *bool) func(*T, any) string {
	set := boolean(place)
	return func(t *T, value any) string {
		fault := set(t, value)
		*place(t) = !*place(t)
		return fault
	}
}

// checkMembership also fills in what the section does not say.
func (d *decoder) checkMembership(path []string, one *Membership) {
	if one.Every == 0 {
		one.Every = MembershipEvery
	}
	if one.InvalidGrant == "" {
		one.InvalidGrant = "keep"
	}
	if (one.AppID == "") != (one.AppKeyFile == "") {
		d.fault(path, "app_id and app_key_file%s belong together: one is missing", inSection(path))
	}
}

// checkProvision looks at what sections must know of each other.
func (d *decoder) checkProvision(c *Daemon) {
	if c.SCIM.TokenFile == "" && c.SCIM != (SCIM{}) {
		d.fault([]string{"scim"}, "token_file is missing in [scim]")
	}
	if c.SCIM.TokenFile != "" {
		d.checkSCIM(c)
	}
	if len(c.Hook.Command) > 0 && !filepath.IsAbs(c.Hook.Command[0]) {
		d.fault([]string{"hook", "command"}, "command in [hook] must begin with the absolute path of a program: no shell and no PATH look for it")
	}
	for name, one := range c.Membership {
		d.checkMembershipOf(c, name, one)
	}
}

func (d *decoder) checkSCIM(c *Daemon) {
	switch {
	case c.SCIM.Listen == "" && c.Web.PublicURL == "":
		d.fault([]string{"scim"}, "[scim] needs listen, or public_url in [web]: it is answered nowhere")
	case c.SCIM.Listen != "" && c.Web.Certificate == "" && !loopbackAddress(c.SCIM.Listen):
		d.fault([]string{"scim", "listen"}, "listen in [scim]: without certificate and key in [web] only a loopback address, with a proxy in front that speaks TLS")
	}
	if len(c.Domains) == 0 {
		d.fault([]string{"domains"}, "domains is missing: [scim] makes people in the domains that are served here, and in no other")
	}
}

func (d *decoder) checkMembershipOf(c *Daemon, name string, one Membership) {
	path := []string{"membership", name}
	provider, there := c.SignIn[name]
	if !there {
		d.fault(path, "[membership.%s] belongs to [signin.%s], which is not there", name, name)
		return
	}
	github := provider.Type == "github"
	if github && one.AppID == "" {
		d.fault(path, "app_id and app_key_file are missing in [membership.%s]: GitHub is asked by a GitHub App", name)
	}
	if github && provider.Organization == 0 {
		d.fault(path, "[membership.%s] needs organization in [signin.%s]: there is no membership to ask about", name, name)
	}
	if github && (one.Refresh || one.NoLogout || one.InvalidGrant == "suspend") {
		d.fault(path, "refresh, logout and invalid_grant in [membership.%s] are for type oidc", name)
	}
	if !github && one.AppID != "" {
		d.fault(path, "app_id and app_key_file in [membership.%s] are for type github", name)
	}
	if !github && !one.Refresh && one.NoLogout {
		d.fault(path, "[membership.%s] has neither refresh nor logout: it does nothing", name)
	}
}

// SCIMBase is the URL that directories are given.
func (c *Daemon) SCIMBase() string {
	switch {
	case c.SCIM.URL != "":
		return strings.TrimSuffix(c.SCIM.URL, "/")
	case c.SCIM.Listen == "":
		return c.Web.PublicURL + SCIMPath
	case c.Web.Certificate != "":
		return "https://" + c.SCIM.Listen + SCIMPath
	}
	return "http://" + c.SCIM.Listen + SCIMPath
}

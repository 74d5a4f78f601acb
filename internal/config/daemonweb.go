package config

import (
	"net/netip"
	"net/url"
	"strings"
)

func webFields() []field[Web] {
	type w = Web
	return []field[w]{
		{"public_url", "what people type: the origin of all pages", `"https://id.example.org"`, text(func(v *w) *string { return &v.PublicURL }, place, origin)},
		{"listen", "address of the pages; without a certificate loopback only; default: 127.0.0.1:8480", `"127.0.0.1:8480"`, text(func(v *w) *string { return &v.Listen }, hostPort)},
		{"certificate", "PEM file with the certificate and its chain; read again when it changes", `"/etc/letsencrypt/live/id.example.org/fullchain.pem"`, text(func(v *w) *string { return &v.Certificate }, absolute)},
		{"key", "PEM file with its private key", `"/etc/letsencrypt/live/id.example.org/privkey.pem"`, text(func(v *w) *string { return &v.Key }, absolute)},
		{"trusted_proxies", "networks of proxies whose X-Forwarded-For is believed; default: none", `["127.0.0.1/32"]`, networks(func(v *w) *[]netip.Prefix { return &v.TrustedProxies })},
		{"master_key_file", "file of 32 random bytes that protect forms and seeds; made at the first start, shared by all instances, and never in a backup; default: /var/lib/letterlockd/master.key", `"/var/lib/letterlockd/master.key"`, text(func(v *w) *string { return &v.MasterKeyFile }, absolute)},
	}
}

func signInFields() []field[SignIn] {
	type s = SignIn
	return []field[s]{
		{"type", "github; oidc for any OpenID Connect issuer; or passkey for people with neither, who register one by an invitation (letterlockd person invite)", `"github"`, text(func(v *s) *string { return &v.Type }, oneOf("github", "oidc", "passkey"))},
		{"label", "what stands on its button; default: NAME", `"GitHub"`, text(func(v *s) *string { return &v.Label }, filled)},
		{"url", "github: the server, when it is one of your own; default: https://github.com", `"https://github.com"`, text(func(v *s) *string { return &v.URL }, place, origin)},
		{"issuer", "oidc: the issuer, byte for byte as its metadata names it", "", text(func(v *s) *string { return &v.Issuer }, place)},
		{"client_id", "the client id that the provider gave you", `"Iv1.0123456789abcdef"`, text(func(v *s) *string { return &v.ClientID }, filled)},
		{"client_secret_file", "a file that holds the client secret on its first line", `"/etc/letterlock/github.secret"`, text(func(v *s) *string { return &v.ClientSecretFile }, absolute)},
		{"organization", "github: the number of the organisation that people must be active members of (gh api orgs/NAME --jq .id)", `9919`, number(func(v *s) *int { return &v.Organization }, 1, 1<<31-1)},
		{"team", "github: the number of a team in it, likewise (gh api orgs/NAME/teams/TEAM --jq .id)", `4711`, number(func(v *s) *int { return &v.Team }, 1, 1<<31-1)},
		{"claim", "oidc: a claim of the ID token, or of userinfo where that lacks it, that must have one of values, for example groups", "", text(func(v *s) *string { return &v.Claim }, filled)},
		{"values", "oidc: the values of that claim that let people in", "", list(func(v *s) *[]string { return &v.Values }, filled)},
		{"scopes", "oidc: scopes to ask for besides openid, profile and email", "", list(func(v *s) *[]string { return &v.Scopes }, filled)},
		{"bind_verified", "at a first sign-in, take an account for the person whose address the provider has verified (email, and email_verified true, in the ID token or in userinfo); only for domains above, only once; default: false", `false`, boolean(func(v *s) *bool { return &v.BindVerified })},
		{"provision", "make the person when there is none with that address; needs bind_verified; default: false", `false`, boolean(func(v *s) *bool { return &v.Provision })},
		{"ca_file", "PEM file of further certificate authorities for the provider", "", text(func(v *s) *string { return &v.CAFile }, absolute)},
	}
}

// origin is a URL without anything behind the host.
func origin(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Path != "" || u.RawQuery != "" || strings.HasSuffix(s, "?") || strings.HasSuffix(s, "/") {
		return "must end with the host: no path, no slash"
	}
	return ""
}

func (d *decoder) checkWeb(c *Daemon) {
	if (c.Web.Certificate == "") != (c.Web.Key == "") {
		d.fault([]string{"web"}, "certificate and key in [web] belong together: one is missing")
	}
	if c.Web.Certificate == "" && c.Web.Listen != "" && !loopbackAddress(c.Web.Listen) {
		d.fault([]string{"web", "listen"}, "listen in [web]: without certificate and key only a loopback address, with a proxy in front that speaks TLS")
	}
	if c.Web.PublicURL == "" && len(c.SignIn) > 0 {
		d.fault([]string{"signin"}, "public_url in [web] is missing: providers send browsers back there")
	}
	d.checkPasskeyHost(c)
}

func (d *decoder) checkSignIn(path []string, one *SignIn) {
	in := inSection(path)
	if len(path[1]) > 40 || strings.ContainsFunc(path[1], notPlain) {
		d.fault(path, "the name of a section stands in an address: at most 40 of a-z, 0-9 and -")
	}
	if one.Type == "passkey" {
		d.checkPasskey(path, one, in)
		return
	}
	if one.Type == "" || one.ClientID == "" {
		d.fault(path, "type and client_id are both needed%s", in)
	}
	if one.Provision && !one.BindVerified {
		d.fault(path, "provision needs bind_verified%s: a person is made for a verified address", in)
	}
	switch one.Type {
	case "github":
		d.checkGitHub(path, one, in)
	case "oidc":
		if one.Issuer == "" {
			d.fault(path, "issuer is missing%s", in)
		}
		if one.URL != "" || one.Organization != 0 || one.Team != 0 {
			d.fault(path, "url, organization and team%s are for type github", in)
		}
		if (one.Claim == "") != (len(one.Values) == 0) {
			d.fault(path, "claim and values%s belong together: one is missing", in)
		}
	}
}

func (d *decoder) checkGitHub(path []string, one *SignIn, in string) {
	if one.ClientSecretFile == "" {
		d.fault(path, "client_secret_file is missing%s: GitHub wants a secret", in)
	}
	if one.Team != 0 && one.Organization == 0 {
		d.fault(path, "team%s needs organization, which it belongs to", in)
	}
	if one.Issuer != "" || one.Claim != "" || len(one.Values) > 0 || len(one.Scopes) > 0 {
		d.fault(path, "issuer, claim, values and scopes%s are for type oidc", in)
	}
}

func notPlain(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') }

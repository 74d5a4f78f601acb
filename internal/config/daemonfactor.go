package config

import (
	"net"
	"net/netip"
	"net/url"
)

// Factors is the [factors] section: second factors, and who is asked for one.
type Factors struct {
	// Second says whom a sign-in at a provider asks: optional, required or admin.
	Second string
	// TrustedNetworks are not asked at the sign-in.
	TrustedNetworks []netip.Prefix
}

func factorFields() []field[Factors] {
	type f = Factors
	return []field[f]{
		{"second_factor", "whom a sign-in at a provider asks for a second factor: optional (who has one), required (everybody; who has none sets one up first) or admin (nobody); whatever it says, admin pages want one unless admin_at_provider, and who has one is asked for it before app passwords are made; default: optional", `"optional"`, text(func(v *f) *string { return &v.Second }, oneOf("optional", "required", "admin"))},
		{"trusted_networks", "networks that are not asked for it at the sign-in, the office for one; never skips it for admin pages, for making app passwords or for allowing programs, nor setting one up where it is required; default: none", `["192.0.2.0/24"]`, networks(func(v *f) *[]netip.Prefix { return &v.TrustedNetworks })},
	}
}

// LocalSignIn reports whether people sign in by passkeys of these pages.
func (c *Daemon) LocalSignIn() bool {
	for _, one := range c.SignIn {
		if one.Type == "passkey" {
			return true
		}
	}
	return false
}

// firstHour is what holds when there is no file at all: pages on this machine alone, and
// people who sign in by passkey. The host is a name, because there are no passkeys at an
// address.
func (c *Daemon) firstHour() *Daemon {
	c.Web.PublicURL = "http://localhost:8480"
	c.SignIn["local"] = SignIn{Type: "passkey"}
	return c
}

func (d *decoder) checkPasskey(path []string, one *SignIn, in string) {
	if one.ClientID != "" || one.ClientSecretFile != "" || one.Issuer != "" || one.URL != "" || one.Organization != 0 || one.Team != 0 ||
		one.Claim != "" || len(one.Values) > 0 || len(one.Scopes) > 0 || one.BindVerified || one.Provision || one.CAFile != "" || one.Label != "" {
		d.fault(path, "type passkey%s has no further settings: people come to it by letterlockd person invite", in)
	}
}

// checkPasskeyHost: browsers bind passkeys to the name of a host, and let pages have them
// by https, or on this machine.
func (d *decoder) checkPasskeyHost(c *Daemon) {
	if !c.LocalSignIn() || c.Web.PublicURL == "" {
		return
	}
	u, err := url.Parse(c.Web.PublicURL)
	if err == nil && net.ParseIP(u.Hostname()) == nil && (u.Scheme == "https" || u.Hostname() == "localhost") {
		return
	}
	d.fault([]string{"web", "public_url"}, "public_url in [web]: passkeys need a name instead of an address, and https unless it is localhost")
}

package provider

import (
	"fmt"
	"slices"
	"strings"
)

// All returns every provider in the book, in the order of a list for people. The
// values are fresh: a caller may change what it got.
func All() []Provider {
	return []Provider{
		google(),
		microsoft(), microsoftPersonal(), microsoftGCCHigh(), microsoftDoD(), microsoftChina(),
		fastmail(), thundermail(), yahoo(), aol(), comcast(), yandex(), mailru(), zoho(),
		icloud(), proton(), gmx(), gmxCom(), webDe(), mailCom(),
	}
}

// ByName finds a provider by Provider.Name.
func ByName(name string) (Provider, bool) {
	return find(func(p Provider) bool { return p.Name == name })
}

// ByAddress finds the provider of a mail address by its domain. Customers' own domains
// and domains that are moving (comcast.net) are not in the table: ask ByMX for those.
func ByAddress(address string) (Provider, bool) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 || len(address) > 320 {
		return Provider{}, false
	}
	domain := strings.ToLower(strings.TrimSuffix(address[at+1:], "."))
	return find(func(p Provider) bool { return slices.Contains(p.Domains, domain) })
}

// ByMX finds the provider that takes the mail of a domain by the name of its mail
// exchanger. The longest suffix wins: AOL's exchangers are Yahoo's with a longer name.
// A filter in front of the mailbox hides the provider, so a miss says nothing, and
// unsigned DNS is a hint only: the person must see what was concluded.
func ByMX(host string) (Provider, bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	best, length := Provider{}, 0
	for _, p := range All() {
		for _, suffix := range p.MX {
			if len(suffix) > length && (host == suffix || strings.HasSuffix(host, "."+suffix)) {
				best, length = p, len(suffix)
			}
		}
	}
	return best, length > 0
}

func find(match func(Provider) bool) (Provider, bool) {
	for _, p := range All() {
		if match(p) {
			return p, true
		}
	}
	return Provider{}, false
}

// ResourceFor returns the resource whose token serves a purpose under a right. For Send
// it is the narrowest: the one that asks for the fewest scopes.
func (p Provider) ResourceFor(purpose Purpose, right Right) (Resource, bool) {
	best, found := Resource{}, false
	for _, r := range p.Resources {
		scopes, granted := r.Scopes[right]
		if !granted || !slices.Contains(r.Purposes, purpose) || !r.serves(purpose, right) {
			continue
		}
		if !found || purpose == Send && len(scopes) < len(best.Scopes[right]) {
			best, found = r, true
		}
	}
	return best, found
}

// serves keeps purposes that read mail away from rights that cannot.
func (r Resource) serves(purpose Purpose, right Right) bool {
	return right != SendOnly || purpose != IMAP && purpose != POP3
}

// WhyNot says in a sentence why ResourceFor finds nothing; empty when it does.
func (p Provider) WhyNot(purpose Purpose, right Right) string {
	if _, ok := p.ResourceFor(purpose, right); ok {
		return ""
	}
	_, full := p.ResourceFor(purpose, Full)
	switch {
	case len(p.Resources) == 0:
		return p.Registration.None
	case right == SendOnly && (purpose == IMAP || purpose == POP3):
		return "a send-only right cannot read mail"
	case full && len(p.ScopesFor(SendOnly)) > 0:
		return p.Title + " has no send-only right for " + string(purpose) + ", only for another way of sending"
	case full:
		return p.Title + " has no right that can send and not read"
	case purpose == Graph:
		return "Graph is Microsoft's"
	}
	return p.Title + " offers no " + string(purpose) + " by token"
}

// ScopesFor returns what a sign-in asks for to get a right: the scopes of the first
// resource that has it. nil means that the right is not to be had.
func (p Provider) ScopesFor(right Right) []string {
	for _, r := range p.Resources {
		if scopes, ok := r.Scopes[right]; ok {
			return slices.Clone(scopes)
		}
	}
	return nil
}

// ConsentScopes returns the scopes of all resources of a right, each once. Microsoft
// takes them together in the authorization request, so that one consent page covers
// all; a token request names one resource only (Resource.Scopes).
func (p Provider) ConsentScopes(right Right) []string {
	var all []string
	for _, r := range p.Resources {
		for _, scope := range r.Scopes[right] {
			if !slices.Contains(all, scope) {
				all = append(all, scope)
			}
		}
	}
	return all
}

// Family is the name that the error book files a provider under: all of Microsoft's
// clouds are "microsoft".
func (p Provider) Family() string {
	family, _, _ := strings.Cut(p.Name, "-")
	return family
}

// ForTenant returns the provider with {tenant} filled in: a directory's id, one of its
// domains, or common, organizations, consumers. Empty means Provider.Tenant.
func (p Provider) ForTenant(tenant string) (Provider, error) {
	if p.Tenant == "" {
		if tenant != "" {
			return Provider{}, fmt.Errorf("%s has no tenants", p.Title)
		}
		return p, nil
	}
	if tenant == "" {
		tenant = p.Tenant
	}
	tenant = strings.ToLower(tenant)
	switch {
	case !validTenant(tenant):
		return Provider{}, fmt.Errorf("tenant %q is neither a directory id, nor a domain, nor common, organizations or consumers", tenant)
	case p.Tenant == consumers && tenant != consumers:
		return Provider{}, fmt.Errorf("personal Microsoft accounts have no tenant: use provider microsoft for %s", tenant)
	case tenant == consumers && !slices.Contains([]string{"microsoft", "microsoft-personal"}, p.Name):
		return Provider{}, fmt.Errorf("%s has no personal accounts", p.Title)
	}
	p.Tenant = tenant
	p.Endpoints = inTenant(p.Endpoints, tenant)
	p.TemplatedIssuer = strings.Contains(string(p.Endpoints.Issuer), tenantTemplate)
	return p, nil
}

package provider

import (
	"fmt"
	"slices"
	"strings"
)

// ForMachine returns the provider as a program without a person sees it: with the
// scopes of FlowClientCredentials or FlowAssertion. An error says in a sentence why
// there is no such way.
func (p Provider) ForMachine(flow Flow) (Provider, error) {
	family := p.Family()
	if family == "microsoft" && flow == FlowAssertion {
		flow = FlowClientCredentials // an assertion is how its clients prove themselves
	}
	if len(p.Flows) > 0 && !slices.Contains(p.Flows, flow) {
		return Provider{}, fmt.Errorf("%s has no sign-in by %s for mail", p.Title, flow)
	}
	p.Flows = []Flow{flow}
	if family == "microsoft" {
		switch strings.ToLower(p.Tenant) {
		case "common", "organizations", consumers:
			return Provider{}, fmt.Errorf("an app signs in to one directory, not to %s", p.Tenant)
		}
		p.Resources = p.appResources()
		return p, nil
	}
	var resources []Resource
	for _, r := range p.Resources {
		scopes := map[Right][]string{}
		for right, all := range r.Scopes {
			// Who signed in is for people; a refresh token is for those who cannot sign in again.
			scopes[right] = slices.DeleteFunc(slices.Clone(all), identityScope)
		}
		r.Scopes = scopes
		resources = append(resources, r)
	}
	p.Resources = resources
	return p, nil
}

// appResources are Microsoft's for an app without a user: everything that the app was
// given in the directory (IMAP.AccessAsApp, POP.AccessAsApp, SMTP.SendAsApp), by the one
// scope that there is. What it may do cannot be narrowed by asking for less, so there
// is no send-only right: an app with SMTP.SendAsApp alone is one.
func (p Provider) appResources() []Resource {
	resources := []Resource{{
		Name: "outlook", Purposes: []Purpose{IMAP, POP3, SMTP, Send},
		Scopes: map[Right][]string{Full: {"https://" + p.IMAP.Host + "/.default"}},
	}}
	for _, r := range p.Resources {
		if r.Name != "graph" || len(r.Scopes[Full]) == 0 {
			continue
		}
		first := r.Scopes[Full][0]
		r.Scopes = map[Right][]string{Full: {first[:strings.LastIndexByte(first, '/')+1] + ".default"}}
		resources = append(resources, r)
	}
	return resources
}

func identityScope(scope string) bool {
	return slices.Contains([]string{"openid", "email", "profile", "offline_access"}, scope)
}

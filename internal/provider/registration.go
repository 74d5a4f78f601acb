package provider

import "strings"

// Fill returns the guide with {redirect}, {scopes}, {tenant} and {client_id} filled in.
// What is not known yet stays in the form <client id>, so that a text for an
// administrator is never half a URL that looks whole.
func (r Registration) Fill(redirect string, scopes []string, tenant, clientID string) Registration {
	or := func(value, gap string) string {
		if value == "" {
			return gap
		}
		return value
	}
	fill := strings.NewReplacer(
		"{redirect}", or(redirect, "<redirect URI>"),
		"{scopes}", or(strings.Join(scopes, " "), "<scopes>"),
		"{tenant}", or(tenant, "organizations"),
		"{client_id}", or(clientID, "<client id>"),
	)
	steps := make([]string, len(r.Steps))
	for i, step := range r.Steps {
		steps[i] = fill.Replace(step)
	}
	r.Steps = steps
	r.Admin = fill.Replace(r.Admin)
	return r
}

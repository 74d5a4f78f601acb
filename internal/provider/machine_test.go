package provider

import (
	"slices"
	"strings"
	"testing"
)

// TestForMachine: what a program without a person gets, by provider and flow.
func TestForMachine(t *testing.T) {
	generic := Provider{Name: "example.org", Title: "example.org", Resources: []Resource{{Name: "mail", Purposes: []Purpose{IMAP}, Scopes: map[Right][]string{Full: {"mail", "openid", "offline_access"}}}}}
	named := func(name, tenant string) Provider {
		p, _ := ByName(name)
		if tenant != "" {
			p.Tenant = tenant
		}
		return p
	}
	for _, c := range []struct {
		provider Provider
		flow     Flow
		flows    Flow
		scopes   []string // of all resources, Full
		refused  string
	}{
		{named("google", ""), FlowAssertion, FlowAssertion, []string{"https://mail.google.com/"}, ""},
		{named("google", ""), FlowClientCredentials, "", nil, "no sign-in by client-credentials"},
		{named("microsoft", "corp.example"), FlowClientCredentials, FlowClientCredentials, []string{"https://outlook.office365.com/.default", "https://graph.microsoft.com/.default"}, ""},
		{named("microsoft", "corp.example"), FlowAssertion, FlowClientCredentials, []string{"https://outlook.office365.com/.default", "https://graph.microsoft.com/.default"}, ""},
		{named("microsoft-gcchigh", "corp.example"), FlowClientCredentials, FlowClientCredentials, []string{"https://outlook.office365.us/.default", "https://graph.microsoft.us/.default"}, ""},
		{named("microsoft-china", "corp.example"), FlowClientCredentials, FlowClientCredentials, []string{"https://partner.outlook.cn/.default", "https://microsoftgraph.chinacloudapi.cn/.default"}, ""},
		{named("microsoft", ""), FlowClientCredentials, "", nil, "one directory"},
		{named("microsoft", "Organizations"), FlowClientCredentials, "", nil, "one directory"},
		{named("microsoft-personal", ""), FlowClientCredentials, "", nil, "one directory"},
		{named("fastmail", ""), FlowAssertion, "", nil, "no sign-in by assertion"},
		{generic, FlowClientCredentials, FlowClientCredentials, []string{"mail"}, ""},
	} {
		p, err := c.provider.ForMachine(c.flow)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s %s: %v, want %q", c.provider.Name, c.flow, err, c.refused)
			}
			continue
		}
		var scopes []string
		for _, r := range p.Resources {
			scopes = append(scopes, r.Scopes[Full]...)
		}
		if err != nil || !slices.Equal(p.Flows, []Flow{c.flows}) || c.provider.Name != "google" && !slices.Equal(scopes, c.scopes) || c.provider.Name == "google" && scopes[0] != c.scopes[0] {
			t.Errorf("%s %s: %v %v, %v", c.provider.Name, c.flow, p.Flows, scopes, err)
		}
	}
	if len(generic.Resources[0].Scopes[Full]) != 3 {
		t.Error("the provider's own scopes were changed")
	}
}

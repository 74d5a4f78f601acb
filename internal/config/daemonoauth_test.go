package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOAuthSection(t *testing.T) {
	c, err := ParseDaemon("f", []byte("[oauth]\nregistration = true\nno_device_codes = true\naccess_lifetime = \"10m\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (OAuth{Registration: true, NoDevice: true, Access: 10 * time.Minute, Refresh: 90 * 24 * time.Hour}); c.OAuth != want {
		t.Errorf("got %+v", c.OAuth)
	}
	// Nobody is let in by default who was not entered.
	if c, err = ParseDaemon("f", nil); err != nil || c.OAuth.Registration || c.OAuth.Open || len(c.Issuers) != 0 {
		t.Errorf("defaults %+v, %v", c.OAuth, err)
	}
}

func TestIssuerSection(t *testing.T) {
	const good = "[issuer.op]\nurl = \"https://op.test/realms/x\"\naudiences = [\"mail\"]\nclients = [\"webmail\"]\n"
	c, err := ParseDaemon("f", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if one := c.Issuers["op"]; one.URL != "https://op.test/realms/x" || !slices.Equal(one.Scopes, []string{"imap", "smtp"}) {
		t.Errorf("got %+v", one)
	}
	const asked = "introspection = \"https://op.test/i\"\nclient_id = \"x\"\nclient_secret_file = \"/etc/op\"\n"
	if c, err = ParseDaemon("f", []byte(good+asked+"token_prefix = \"ory_at_\"\n")); err != nil || c.Issuers["op"].TokenPrefix != "ory_at_" {
		t.Errorf("with a prefix: %v", err)
	}
	for what, text := range map[string]string{
		"no audiences":       strings.Replace(good, "audiences", "#", 1),
		"no clients":         strings.Replace(good, "clients", "#", 1),
		"an empty list":      strings.Replace(good, `["mail"]`, "[]", 1),
		"no url":             strings.Replace(good, "url", "#", 1),
		"plain http":         strings.Replace(good, "https://op.test", "http://op.test", 1),
		"an unknown scope":   good + "scopes = [\"everything\"]\n",
		"half introspection": good + "introspection = \"https://op.test/i\"\n",
		"without its secret": good + "introspection = \"https://op.test/i\"\nclient_id = \"x\"\n",
		"a setting unknown":  good + "audience = \"mail\"\n",
		"a beginning alone":  good + "token_prefix = \"ory_at_\"\n",
		"an empty beginning": good + asked + "token_prefix = \"\"\n",
	} {
		var fault *Error
		if _, err := ParseDaemon("f", []byte(text)); !errors.As(err, &fault) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

package senders

import (
	"errors"
	"strings"
	"testing"
)

// TestForgeries is the list of what a From field may hold. "ok" passes for ann, who owns
// ann@example.org and everything at ann.example.
func TestForgeries(t *testing.T) {
	b := NewBook(settle(), "+", clock)
	ann, err := b.Login(t.Context(), "ann@example.org")
	if err != nil {
		t.Fatal(err)
	}
	const foreign = "send as"
	for value, want := range map[string]string{
		"ann@example.org":                                      "ok",
		" <ann@example.org>":                                   "ok",
		"Ann <ann@example.org>":                                "ok",
		"Ann Example <ANN+list@Example.Org>":                   "ok",
		`"Ann, the \"one\"" <ann@example.org>`:                 "ok",
		"Ann\n\t(work) <ann@example.org>":                      "ok",
		"ann@example.org (Ann)":                                "ok",
		"=?utf-8?q?=C3=84nn?= <ann@example.org>":               "ok",
		"=?iso-2022-jp?b?GyRCOzNFRBsoQg==?= <ann@example.org>": "ok",
		"Änn <ann@example.org>":                                "ok",
		"ann@example.org, x@ann.example":                       "ok",
		`"ann@example.org" <ann@example.org>`:                  "ok",
		"@annie <ann@example.org>":                             "ok",
		"any@ann.example":                                      "ok",
		"any@ANN.example":                                      "ok",

		"bob@example.org":                                              foreign,
		"Ann <bob@example.org>":                                        foreign,
		"ann@example.org, bob@example.org":                             foreign,
		"bob@example.org, ann@example.org":                             foreign,
		"nobody@elsewhere.example":                                     foreign,
		"special@ann.example":                                          foreign,
		"ann+bob@example.org":                                          foreign,
		`"bob@example.org" <ann@example.org>`:                          foreign,
		"bob@example.org <ann@example.org>":                            foreign,
		"ann@example.org (bob@example.org)":                            foreign,
		"(bob@example.org) ann@example.org":                            foreign,
		"=?utf-8?q?bob=40example.org?= <ann@example.org>":              foreign,
		"=?utf-8?b?Ym9iQGV4YW1wbGUub3Jn?= <ann@example.org>":           foreign,
		"=?utf-8?q?bob=40?= =?utf-8?q?example.org?= <ann@example.org>": foreign,
		`"=?utf-8?q?bob=40example.org?=" <ann@example.org>`:            foreign,
		"Boss <bob@example.org> <ann@example.org>":                     "plain list",
		"=?utf-8?q?=3Cbob=40example.org=3E?= <ann@example.org>":        foreign,
		"bob＠example.org <ann@example.org>":                            foreign,
		"bob﹫example.org <ann@example.org>":                            foreign,
		"=?utf-8?q?bob=40example.org=00?= <ann@example.org>":           "hides",
		"=?utf-8?q?a=0Abob?= <ann@example.org>":                        "hides",
		"=?utf-8?q?=3D=3Futf-8=3Fq=3Fbob=3F=3D?= <ann@example.org>":    "hides",
		"=?utf-7?q?bob+AEA-example.org?= <ann@example.org>":            "hides",
		"=?utf-16?b?AGIAbwBi?= <ann@example.org>":                      "hides",
		"\u202egro.elpmaxe@bob\u202c <ann@example.org>":                "control",
		"=?utf-8?q?=E2=80=AEgro?= <ann@example.org>":                   "hides",
		"=?utf-8?q?bob?=@ann.example":                                  "plain list",
		"<=?utf-8?q?bob=40example.org?=>":                              "plain list",
		"=?utf-8?q?bob=40example.org?=":                                "plain list",

		"Friends: ann@example.org;":                  "groups",
		"Friends: ann@example.org, bob@example.org;": "groups",
		"undisclosed-recipients:;":                   "groups",
		"ann@example.org;":                           "groups",
		"ann@example.org; bob@example.org":           "groups",

		"":                                     "plain list",
		" ":                                    "plain list",
		",":                                    "plain list",
		"ann@example.org,":                     "plain list",
		",ann@example.org":                     "plain list",
		"<>":                                   "plain list",
		"Ann <>":                               "plain list",
		"ann":                                  "plain list",
		"Ann <ann@example.org":                 "plain list",
		"Ann ann@example.org>":                 "plain list",
		"<ann@example.org> bob@example.org":    "plain list",
		"<ann@example.org> <bob@example.org>":  "plain list",
		"<ann@example.org><bob@example.org>":   "plain list",
		"<@bob.example:ann@example.org>":       "plain list",
		"<bob@example.org\\>ann@example.org>":  "plain list",
		"<bob@example.org <ann@example.org>>":  "plain list",
		"ann @ example.org":                    "plain list",
		"ann@example.org bob@example.org":      "plain list",
		"ann@example.org\\":                    "plain list",
		`"ann@example.org`:                     "plain list",
		`"ann"@example.org`:                    "plain list",
		"(ann@example.org":                     "plain list",
		"(a (nested) comment) ann@example.org": "plain list",
		`(back\)slash) ann@example.org`:        "plain list",
		"ann@[192.0.2.1]":                      "plain list",
		"<\"bob@example.org\"@ann.example>":    "plain list",
		"ann@example.org\x00bob@example.org":   "control",
		"ann@example.org\r\nBcc: x":            "control",
		"ann@example.org\nbob@example.org":     "control",
		"ann@example.org\x7f":                  "control",
		"\xff <ann@example.org>":               "control",
		strings.Repeat("ann@example.org, ", 60) + "ann@example.org": "long",
		strings.Repeat(" ", maxHeader) + "ann@example.org":          "long",
	} {
		got, err := b.checkFields(t.Context(), ann, map[string][]string{from: {value}}, false)
		switch {
		case err != nil:
			t.Errorf("%q: %v", value, err)
		case want == "ok" && got != "", want != "ok" && !strings.Contains(got, want):
			t.Errorf("%.100q: %q, want %q", value, got, want)
		}
		if strings.ContainsAny(got, "%\r\n") || strings.Contains(got, "bob") {
			t.Errorf("%.100q: the reply %q tells too much", value, got)
		}
	}
}

func TestFields(t *testing.T) {
	s := settle()
	b := NewBook(s, "+", clock)
	ann, _ := b.Login(t.Context(), "ann@example.org")
	scanner, _ := b.Login(t.Context(), "ann+scanner@example.org")
	const own, other = "ann@example.org", "bob@example.org"
	for _, c := range []struct {
		name   string
		who    Who
		fields map[string][]string
		want   string
	}{
		{"one From", ann, map[string][]string{from: {own}}, ""},
		{"no From", ann, map[string][]string{sender: {own}}, "it has no From field"},
		{"two From", ann, map[string][]string{from: {own, own}}, "it has more than one From field"},
		{"own Sender", ann, map[string][]string{from: {own}, sender: {own}}, ""},
		{"another's Sender", ann, map[string][]string{from: {own}, sender: {other}}, "Sender: the address is not one that you may send as"},
		{"another's From, own Sender", ann, map[string][]string{from: {other}, sender: {own}}, "From: the address is not one that you may send as"},
		{"two Sender", ann, map[string][]string{from: {own}, sender: {own, own}}, "it has more than one Sender field"},
		{"two in Sender", ann, map[string][]string{from: {own}, sender: {own + "," + own}}, "Sender: only one address is allowed there"},
		{"own Resent-From", ann, map[string][]string{from: {own}, resentFrom: {own, own}}, ""},
		{"another's Resent-From", ann, map[string][]string{from: {own}, resentFrom: {own, other}}, "Resent-From: the address is not one that you may send as"},
		{"another's Resent-Sender", ann, map[string][]string{from: {own}, resentSender: {other}}, "Resent-Sender: the address is not one that you may send as"},
		{"the scanner as ann", scanner, map[string][]string{from: {own}}, ""},
		{"the scanner as what ann may", scanner, map[string][]string{from: {"x@ann.example"}}, "From: the address is not one that you may send as"},
		{"the scanner showing what ann may", scanner, map[string][]string{from: {`"x@ann.example" <ann@example.org>`}}, "From: the name shows an address that you may not send as"},
	} {
		got, err := b.checkFields(t.Context(), c.who, c.fields, false)
		if err != nil || got != c.want {
			t.Errorf("%s: %q (%v), want %q", c.name, got, err, c.want)
		}
	}
	if got, _ := b.checkFields(t.Context(), ann, map[string][]string{from: {own}}, true); got == "" {
		t.Error("cut fields passed")
	}
	s.away = true
	if _, err := b.checkFields(t.Context(), ann, map[string][]string{from: {own}}, false); !errors.Is(err, errAway) {
		t.Errorf("away: %v", err)
	}
}

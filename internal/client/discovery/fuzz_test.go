package discovery

import (
	"encoding/base64"
	"strings"
	"testing"
)

// wellFormed is what must hold of every server that a document brought.
func wellFormed(t *testing.T, p *paper) {
	t.Helper()
	for service, s := range p.servers {
		if checkHost(s.Host) != nil || s.Port < 1 || s.Port > 65535 || s.Security != "tls" && s.Security != "starttls" {
			t.Errorf("%s: %+v", service, s)
		}
		if strings.ContainsAny(s.User, " \r\n\x00") {
			t.Errorf("user %q", s.User)
		}
	}
}

func FuzzAutoconfig(f *testing.F) {
	f.Add([]byte(xmlDoc("example.org", xmlOAuth("https://login.example.org"), xmlServer("imap", "mail.%EMAILDOMAIN%", 993, "SSL"), xmlServer("smtp", "mail.example.org", 587, "STARTTLS"))))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><clientConfig>&b;</clientConfig>`))
	f.Add([]byte(`<clientConfig xmlns:x="y"><x:oAuth2><issuer><![CDATA[a]]></issuer></x:oAuth2></clientConfig>`))
	f.Add([]byte("<a><b></a></b>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, _, err := parseAutoconfig(body, "ann@example.org")
		if (err == nil) != (p != nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err == nil {
			wellFormed(t, p)
		}
	})
}

func FuzzPACC(f *testing.F) {
	f.Add([]byte(paccDoc("https://login.example.org")))
	f.Add([]byte(`{"protocols":{"imap":{"host":"a.example.org","host":"b.example.org"}}}`))
	f.Add([]byte(`{"protocols":[]}`))
	f.Add([]byte(`[[[[[[[[[[[[[[[[[[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := parsePACC(body)
		if (err == nil) != (p != nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err == nil {
			wellFormed(t, p)
		}
	})
}

func FuzzDigests(f *testing.F) {
	f.Add(digestOf("x"))
	f.Add("v=UAAC1;a=sha256;d=AAAA")
	f.Add("v=UAAC1; v=UAAC1; a=sha256; d=" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	f.Fuzz(func(t *testing.T, text string) {
		for _, digest := range paccDigests([]string{text}) {
			if len(digest) != 32 || !strings.Contains(text, "UAAC1") {
				t.Errorf("%q gave %d bytes", text, len(digest))
			}
		}
	})
}

func FuzzResource(f *testing.F) {
	f.Add([]byte(`{"resource":"https://mail.example.org","authorization_servers":["https://login.example.org"],"scopes_supported":["imap"]}`))
	f.Add([]byte(`{"resource":7}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		servers, _, err := parseResource(body, "mail.example.org")
		if (err == nil) != (len(servers) > 0) || len(servers) > maxIssuers {
			t.Errorf("%q, %v", servers, err)
		}
	})
}

func FuzzIssuerOf(f *testing.F) {
	f.Add("https://login.example.org/realms/mail/.well-known/openid-configuration")
	f.Add("https://login.example.org/.well-known/oauth-authorization-server/realms/mail")
	f.Add("http://127.0.0.1/.well-known/openid-configuration")
	f.Fuzz(func(t *testing.T, text string) {
		issuer, err := issuerOf(text)
		if err != nil {
			return
		}
		if u, err := checkURL(issuer); err != nil || u.RawQuery != "" {
			t.Errorf("%q gave %q: %v", text, issuer, err)
		}
	})
}

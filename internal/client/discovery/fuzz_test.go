package discovery

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"slices"
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

// FuzzXML: whatever our reader takes, Go's takes too, and they see the same tree.
func FuzzXML(f *testing.F) {
	f.Add([]byte(xmlDoc("example.org", xmlOAuth("https://login.example.org"))))
	f.Add([]byte(`<a b='1' c="&lt;&#65;&#x42;">x<!-- - --><![CDATA[<y>]]>&amp;<d/></a>`))
	f.Add([]byte("\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?>\r\n<a:b xmlns:a='c'>\r\nd\r</a:b>\n"))
	f.Add([]byte(`<a/><b/>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ours, err := parseXML(body)
		if err != nil {
			return
		}
		decoder := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))))
		decoder.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
		theirs, err := treeOf(decoder)
		if err != nil {
			t.Fatalf("%q: Go's reader says %v", body, err)
		}
		// A line end is one character to XML (section 2.11); ours keeps what there is.
		clean := func(e *element) string {
			return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(show(e))
		}
		if clean(ours) != clean(theirs) {
			t.Errorf("%q:\nours   %s\ntheirs %s", body, clean(ours), clean(theirs))
		}
	})
}

func treeOf(decoder *xml.Decoder) (*element, error) {
	holder := &element{}
	open := []*element{holder}
	for {
		token, err := decoder.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		top := open[len(open)-1]
		switch token := token.(type) {
		case xml.StartElement:
			child := &element{name: token.Name.Local, attributes: map[string]string{}}
			for _, a := range token.Attr {
				child.attributes[a.Name.Local] = a.Value
			}
			top.children = append(top.children, child)
			open = append(open, child)
		case xml.EndElement:
			top.text = strings.TrimSpace(top.text)
			open = open[:len(open)-1]
		case xml.CharData:
			top.text += string(token)
		}
	}
	return holder.children[0], nil
}

func show(e *element) string {
	names := slices.Sorted(maps.Keys(e.attributes))
	text := "(" + e.name
	for _, name := range names {
		text += " " + name + "=" + e.attributes[name]
	}
	text += " " + e.text
	for _, c := range e.children {
		text += show(c)
	}
	return text + ")"
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

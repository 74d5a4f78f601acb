package portal

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The document has the shape of the draft's schema, and its bytes are the ones that the
// record in DNS is made of.
func TestPACC(t *testing.T) {
	const path = "/.well-known/user-agent-configuration.json"
	all := Servers{
		Name: "Example Project", IMAP: Server{"imap.example.org", 993, false}, POP3: Server{"pop.example.org", 995, false},
		SMTP: Server{"smtp.example.org", 465, false}, Sieve: Server{"imap.example.org", 4190, true}, Issuer: "https://id.example.org",
	}
	b := newBench(t, func(o *Options) { o.Servers = all })
	w := b.do("", httptest.NewRequest(http.MethodGet, path, nil))
	const want = `{"protocols":{"imap":{"host":"imap.example.org"},"pop3":{"host":"pop.example.org"},"smtp":{"host":"smtp.example.org"},"managesieve":{"host":"imap.example.org"}},` +
		`"authentication":{"oauth-public":{"issuer":"https://id.example.org"},"password":true},"info":{"provider":{"name":"Example Project"}}}`
	if w.Code != http.StatusOK || w.Body.String() != want || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v\n%s", w.Code, w.Header(), w.Body)
	}
	// echo '{}' | openssl dgst -sha256 -binary | base64
	if got := PACCRecord([]byte("{}\n")); got != "v=UAAC1; a=sha256; d=yj0WO6sFU4GCciYUBWjzvvfqrBh869doeOC2Pp5EI1Y=" {
		t.Errorf("the record is %s", got)
	}

	for _, c := range []struct {
		what   string
		change func(*Servers)
		want   string
	}{
		{"STARTTLS", func(s *Servers) { s.SMTP = Server{"smtp.example.org", 587, true} }, "submission is on port 587, and the document can only mean port 465"},
		{"another port", func(s *Servers) { s.IMAP.Port = 1993 }, "imap is on port 1993"},
		{"sieve elsewhere", func(s *Servers) { s.Sieve.Port = 2000 }, "sieve is on port 2000"},
		{"nothing", func(s *Servers) { *s = Servers{} }, "no mail servers"},
	} {
		b := newBench(t, func(o *Options) { o.Servers = all; c.change(&o.Servers) })
		w := b.do("", httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s", c.what, w.Code, w.Body)
		}
	}

	few := Servers{IMAP: Server{"imap.example.org", 993, false}}
	document, err := few.PACC([]string{"example.net"})
	if want := `{"protocols":{"imap":{"host":"imap.example.org"}},"authentication":{"password":true},"info":{"provider":{"name":"example.net"}}}`; err != nil || string(document) != want {
		t.Errorf("%v %s", err, document)
	}
}

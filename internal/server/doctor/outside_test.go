package doctor

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/lab/zone"
)

func bad(found []Finding) []string {
	var short []string
	for _, f := range found {
		if f.Level != OK {
			short = append(short, string(f.Level)+" "+f.ID+" "+f.Where+": "+f.What)
		}
	}
	return short
}

func TestDNSRows(t *testing.T) {
	const digest = "v=UAAC1; a=sha256; d=yj0WO6sFU4GCciYUBWjzvvfqrBh869doeOC2Pp5EI1Y="
	good := zone.Zone{
		"mail.example.org A": {"192.0.2.1"}, "mail.example.org AAAA": {"2001:db8::1"}, "autoconfig.example.org CNAME": {"mail.example.org"}, "other.example.org A": {"192.0.2.2"},
		"_ua-auto-config.example.org TXT": {digest}, "_imaps._tcp.example.org SRV": {"0 1 993 imap.example.org"}, "_pop3._tcp.example.org SRV": {"0 0 0 ."},
	}
	for _, c := range []struct {
		what, key string
		value     []string
		want      string
	}{
		{"all there", "x.example.org A", []string{"192.0.2.3"}, ""},
		{"an address in place of the alias", "autoconfig.example.org", []string{"A 192.0.2.1"}, ""},
		{"the digest of before beside it", "_ua-auto-config.example.org TXT", []string{"v=UAAC1; a=sha256; d=AAAA", digest}, ""},
		{"written without blanks", "_ua-auto-config.example.org TXT", []string{strings.ReplaceAll(digest, " ", "")}, ""},
		{"a second server, later", "_imaps._tcp.example.org SRV", []string{"10 1 993 spare.example.org", "0 1 993 IMAP.example.org"}, ""},
		{"a second server, first", "_imaps._tcp.example.org SRV", []string{"0 1 993 spare.example.org", "5 1 993 imap.example.org"}, "warning dns-servers _imaps._tcp.example.org: it names spare.example.org, port 993, and imap.example.org only as a backup (priority 5 after 0)"},
		{"one of several equals, not the heaviest", "_imaps._tcp.example.org SRV", []string{"0 90 993 aaa.example.org", "0 1 993 imap.example.org", "0 10 993 zzz.example.org"}, ""},
		{"an equal, by lot almost never", "_imaps._tcp.example.org SRV", []string{"7 100 993 aaa.example.org", "7 0 993 imap.example.org", "9 1 993 spare.example.org"}, ""},
		{"a backup of several", "_imaps._tcp.example.org SRV", []string{"20 1 993 imap.example.org", "1 1 993 b.example.org", "1 9 1993 a.example.org", "10 5 993 imap.example.org"}, "warning dns-servers _imaps._tcp.example.org: it names a.example.org, port 1993, and imap.example.org only as a backup (priority 10 after 1)"},
		{"elsewhere only", "_imaps._tcp.example.org SRV", []string{"0 1 993 a.example.org", "1 1 993 b.example.org"}, "wrong dns-servers _imaps._tcp.example.org: it names a.example.org, port 993"},
		{"another port of ours", "_imaps._tcp.example.org SRV", []string{"0 1 143 imap.example.org", "5 1 994 imap.example.org"}, "wrong dns-servers _imaps._tcp.example.org: it names imap.example.org, port 143"},
		{"no such service", "_imaps._tcp.example.org SRV", []string{"0 0 0 ."}, "wrong dns-servers _imaps._tcp.example.org: it says that there is no such service"},
		{"a no that is none beside ours", "_imaps._tcp.example.org SRV", []string{"0 0 0 .", "0 1 993 imap.example.org"}, ""},
		{"a service that should not be", "_pop3._tcp.example.org SRV", []string{"0 1 110 pop.example.org"}, "wrong dns-servers _pop3._tcp.example.org: it names pop.example.org, port 110"},
		{"a no that is none beside another", "_pop3._tcp.example.org SRV", []string{"0 0 0 .", "5 1 110 pop.example.org"}, "wrong dns-servers _pop3._tcp.example.org: it names pop.example.org, port 110"},
		{"other texts", "_ua-auto-config.example.org TXT", []string{"hello"}, "warning dns-digest _ua-auto-config.example.org: it is not in DNS"},
		{"elsewhere", "autoconfig.example.org CNAME", []string{"other.example.org"}, "wrong dns-settings autoconfig.example.org: it leads to 192.0.2.2, and mail.example.org is 192.0.2.1"},
		{"an outage", "_pop3._tcp.example.org SRV", []string{"FAIL"}, "skipped dns-servers _pop3._tcp.example.org: unknown: _pop3._tcp.example.org: no answer from DNS: the server says ServerFailure"},
		{"a server that refuses", "_ua-auto-config.example.org TXT", []string{"REFUSED"}, "skipped dns-digest"},
		{"one kind of address", "mail.example.org", []string{"A 192.0.2.1"}, ""},
	} {
		z := zone.Zone{}
		for key, value := range good {
			if !strings.HasPrefix(key, c.key+" ") {
				z[key] = value
			}
		}
		if strings.Contains(c.key, " ") {
			z[c.key] = c.value
		} else {
			kind, value, _ := strings.Cut(c.value[0], " ")
			z[c.key+" "+kind] = []string{value}
		}
		d := &DNS{Host: "mail.example.org", Resolver: &dnsask.Client{Servers: []string{z.Serve(t)}, Timeout: 30 * time.Second}, Records: []Record{
			{Name: "autoconfig.example.org", Type: "CNAME", Value: "mail.example.org.", Line: "L1"}, {Name: "_ua-auto-config.example.org", Type: "TXT", Value: digest, Line: "L2"},
			{Name: "_imaps._tcp.example.org", Type: "SRV", Value: "0 1 993 imap.example.org.", Line: "L3"}, {Name: "_pop3._tcp.example.org", Type: "SRV", Value: "0 0 0 .", Absent: true, Line: "L4"},
		}}
		found := lookAt(t.Context(), d, dnsTraps())
		got := bad(found)
		if c.want == "" && len(got) != 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
			t.Errorf("%s: %q", c.what, got)
		}
		for _, f := range found {
			if (f.Level == Wrong || f.Level == Warning) && !strings.HasPrefix(f.Mend, "enter: L") {
				t.Errorf("%s: %+v", c.what, f)
			}
		}
	}
	// The host of public_url is nowhere: whoever enters the alias has gained nothing.
	z := zone.Zone{"autoconfig.example.org A": {"192.0.2.1"}}
	d := &DNS{Host: "mail.example.org", Resolver: &dnsask.Client{Servers: []string{z.Serve(t)}, Timeout: 30 * time.Second}, Records: []Record{{Name: "autoconfig.example.org", Type: "CNAME", Line: "L1"}}}
	if found := lookAt(t.Context(), d, dnsTraps()); found[0].Level != Wrong || found[0].Mend != "enter an address for mail.example.org" {
		t.Errorf("%+v", found[0])
	}
}

func TestWebMailRows(t *testing.T) {
	pages := "https://pages.example.org"
	signIn := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, pages+"/gateway/mail?state=x", http.StatusSeeOther)
	}
	form := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<input type="password">`)
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	refuse := func(challenges ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Www-Authenticate"] = challenges
			w.WriteHeader(401)
		}
	}
	for _, c := range []struct {
		what             string
		public, upstream http.HandlerFunc
		want             []string
	}{
		{"as it should be", signIn, form, nil},
		{"not for this machine's network", status(403), form, nil},
		{"a gateway that says 401", status(401), form, nil},
		{"401 with a way in that takes no password", refuse("Bearer realm=\"mail\""), form, nil},
		{"401 for which browsers ask for a password", refuse("Bearer", "bASIC realm=\"mail\""), form, []string{"wrong webmail-form [gateway.mail]: URL/ answers 401, and browsers ask for a password (Basic)"}},
		{"401 in a list", refuse("Negotiate, Digest realm=\"mail\", nonce=\"x, Basic\""), form, []string{"wrong webmail-form [gateway.mail]: URL/ answers 401, and browsers ask for a password (Digest)"}},
		{"401 that only speaks of it", refuse("Bearer realm=\"no, Basic here\""), form, nil},
		{"401 that shows a form", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401); form(w, r) }, form, []string{"wrong webmail-form [gateway.mail]: URL/ shows a field for a password"}},
		{"401, and a login form by its address", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("_task") == "login" {
				form(w, r)
				return
			}
			w.WriteHeader(401)
		}, form, []string{"wrong webmail-form [gateway.mail]: URL/?_task=login shows a field for a password"}},
		{"too many requests", status(429), form, []string{"skipped webmail-form [gateway.mail]: unknown: URL/ answers 429", "skipped webmail-forged [gateway.mail]: unknown: URL/ answers 429"}},
		{"too many requests from the second on", func() http.HandlerFunc {
			var asked atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" && asked.Add(1) > 1 {
					w.WriteHeader(429)
					return
				}
				signIn(w, r)
			}
		}(), form, []string{"skipped webmail-form [gateway.mail]: unknown: URL/?_task=login answers 429"}},
		{"the web mail itself", form, form, []string{"wrong webmail-form [gateway.mail]: URL/ shows a field for a password"}},
		{"a login form by its address only", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("_task") == "login" {
				form(w, r)
				return
			}
			signIn(w, r)
		}, form, []string{"wrong webmail-form [gateway.mail]: URL/?_task=login shows a field for a password"}},
		{"another site", status(200), form, []string{"wrong webmail-form [gateway.mail]: URL/ answers 200 and leads to no sign-in: the gateway is not what stands there"}},
		{"a redirect elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		}, form,
			[]string{"wrong webmail-form [gateway.mail]: URL/ answers 302 and leads to no sign-in: the gateway is not what stands there"}},
		{"an error", status(502), form, []string{"wrong webmail-form [gateway.mail]: URL/ answers 502"}},
		{"by a forged header", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				signIn(w, r)
			}
		}, form, []string{"wrong webmail-forged [gateway.mail]: with headers that claim to be somebody URL answers 200, and without them leads to the sign-in"}},
		{"by a forged header, where others hear 401", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.WriteHeader(401)
			}
		}, form, []string{"wrong webmail-forged [gateway.mail]: with headers that claim to be somebody URL answers 200, and without them 401"}},
		{"by a forged header, where others are too many", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.WriteHeader(429)
			}
		}, form, []string{"skipped webmail-form [gateway.mail]: unknown: URL/ answers 429", "skipped webmail-forged [gateway.mail]: unknown: URL/ answers 429"}},
		{"a broken web mail", signIn, status(500), []string{"wrong webmail-upstream [gateway.mail]: the web mail answers 500"}},
	} {
		public, upstream := httptest.NewServer(c.public), httptest.NewServer(c.upstream)
		w := &WebMail{Name: "mail", Public: public.URL, Pages: pages, Upstream: upstream.URL, Resolver: &dnsask.Client{}, Own: func() ([]net.Addr, error) { return nil, nil }}
		got := bad(lookAt(t.Context(), w, webMailTraps()))
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], public.URL, "URL")
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.what, got)
		}
		public.Close()
		upstream.Close()
	}
	// A web server that asks the gateway has the web mail itself: there is nothing to call.
	public := httptest.NewServer(http.HandlerFunc(signIn))
	defer public.Close()
	w := &WebMail{Name: "mail", Public: public.URL, Pages: pages, Resolver: &dnsask.Client{}}
	if got := bad(lookAt(t.Context(), w, webMailTraps())); got != nil {
		t.Errorf("without upstream: %q", got)
	}
}

// A name in front of which somebody else stands has other addresses than the pages; what
// counts is that the settings come from there.
func TestServedElsewhere(t *testing.T) {
	const text = "<issuer>https://mail.example.org</issuer>"
	for _, c := range []struct {
		answer string
		want   []string
	}{
		{text, nil},
		{"parked", []string{"wrong dns-settings autoconfig.example.org: it leads to 127.0.0.1, and mail.example.org is 192.0.2.1", "wrong dns-documents URL: it is another document than the configuration makes"}},
	} {
		z := zone.Zone{"mail.example.org A": {"192.0.2.1"}, "autoconfig.example.org A": {"127.0.0.1"}}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, c.answer) }))
		_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
		at := "http://autoconfig.example.org:" + port + "/mail/config-v1.1.xml"
		d := &DNS{Host: "mail.example.org", Resolver: &dnsask.Client{Servers: []string{z.Serve(t)}, Timeout: 30 * time.Second},
			Records:   []Record{{Name: "autoconfig.example.org", Type: "CNAME", Line: "L1"}},
			Documents: []Document{{URL: at, Part: text}}}
		got := bad(lookAt(t.Context(), d, dnsTraps()))
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], at, "URL")
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.answer, got)
		}
		server.Close()
	}
}

// The settings of many domains are asked for side by side: each server here answers only
// when all have been asked.
func TestDocumentsSideBySide(t *testing.T) {
	const many = 5
	var asked atomic.Int32
	all := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == many {
			close(all)
		}
		select {
		case <-all:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "settings")
	}))
	defer server.Close()
	d := &DNS{Resolver: &dnsask.Client{}}
	for i := range many {
		d.Documents = append(d.Documents, Document{URL: server.URL + "/" + strconv.Itoa(i), Part: "settings"})
	}
	if seen := fetchAll(t.Context(), d); len(seen) > 0 {
		t.Errorf("%+v", seen)
	}
}

// Who can reach the web mail without the gateway, as far as it is seen from this machine.
func TestPassedBy(t *testing.T) {
	upstream := httptest.NewServer(http.NotFoundHandler())
	defer upstream.Close()
	u, _ := url.Parse(upstream.URL)
	own := func(text string) func() ([]net.Addr, error) {
		return func() ([]net.Addr, error) {
			ip, network, err := net.ParseCIDR(text)
			network.IP = ip
			return []net.Addr{network}, err
		}
	}
	for _, c := range []struct {
		upstream, socket string
		own              func() ([]net.Addr, error)
		want             Level
	}{
		{upstream.URL, "", own("127.0.0.1/8"), ""},
		{"", "", own("127.0.0.1/8"), ""},
		{"http://webmail", "/run/webmail.sock", own("127.0.0.1/8"), ""},
		{"https://192.0.2.1:" + u.Port(), "", own("127.0.0.1/8"), Warning},
		{upstream.URL, "", func() ([]net.Addr, error) { return nil, errors.New("no interfaces") }, Skipped},
	} {
		w := &WebMail{Name: "mail", Upstream: c.upstream, Socket: c.socket, Own: c.own, Resolver: &dnsask.Client{}}
		found := passedBy(t.Context(), w)
		level := Level("")
		if len(found) > 0 {
			level = Warning
			if found[0].level != "" {
				level = found[0].level
			}
		}
		if level != c.want {
			t.Errorf("%s: %+v", c.upstream, found)
		}
	}
}

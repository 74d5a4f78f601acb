//go:build lab && linux

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/island"
	"github.com/letterlock-mail/letterlock/internal/mail/domain"
)

// An outside is the mail world of one test: an island, servers that are each good or
// bad in their own way, and the program under test.
type outside struct {
	t        *testing.T
	island   *island.Island
	ca       *lab.CA
	policies *island.Policies
	dovecot  *lab.Dovecot
	servers  map[string]*receiver
	binary   string
	home     string
	sent     int
}

// A receiver is a Postfix that puts all it takes into one Maildir.
type receiver struct {
	*lab.Postfix
	folder string
}

const (
	homeAddress  = "8.20.0.1" // ours
	goodAddress  = "8.20.1.1"
	otherAddress = "8.20.1.2" // its certificate is for another name
	aloneAddress = "8.20.1.3" // of an authority that nobody knows
	staleAddress = "8.20.1.4" // expired
	plainAddress = "8.20.1.5" // no TLS
	policyHost   = "8.20.1.9"
	deadAddress  = "8.20.1.10" // nothing listens
	sixAddress   = "2600::25"
	deadSix      = "2600::26"
)

// domains by the server that is their mail exchanger.
func (o *outside) names() map[string][]string {
	return map[string][]string{
		goodAddress:  {"good.test", "sts.test", "pref.test", "six.test", "deadsix.test", "a-only.test", "grey.test", "update.test", "unlisted.test", "nopolicy.test", "inside.test", "second.test", "redirect.test"},
		otherAddress: {"wrong.test", "sts-wrong.test", "testing.test"},
		aloneAddress: {"alone.test", "sts-alone.test"},
		staleAddress: {"stale.test", "sts-stale.test"},
		plainAddress: {"plain.test", "sts-plain.test"},
	}
}

func newOutside(t *testing.T) *outside {
	o := &outside{t: t, ca: lab.RunCA(t), servers: map[string]*receiver{}}
	// Where it is built names are looked up nowhere, so the island does as well.
	o.binary = filepath.Join(t.TempDir(), "letterlock")
	if out, err := exec.Command("go", "build", "-o", o.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	o.island = island.Settle(t, homeAddress)
	o.island.Address(t, goodAddress, otherAddress, aloneAddress, staleAddress, plainAddress, policyHost, deadAddress, sixAddress, deadSix)
	o.zone()
	o.startReceivers()
	o.home = t.TempDir()
	return o
}

// zone publishes one exchanger for each domain, mx.DOMAIN; what is special comes on top.
func (o *outside) zone() {
	d := o.island.DNS
	d.Set("mx.out.example. 1 A "+homeAddress, "1.0.20.8.in-addr.arpa. 1 PTR mx.out.example.", "out.example. 1 MX 10 mx.out.example.",
		"mx.out.example. 1 AAAA "+sixAddress, "5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.2.ip6.arpa. 1 PTR mx.out.example.")
	for address, names := range o.names() {
		for _, name := range names {
			if name == "a-only.test" {
				d.Set(name + ". 1 A " + address)
				continue
			}
			d.Set("mx."+name+". 1 A "+address, name+". 1 MX 10 mx."+name+".")
		}
	}
	d.Set("pref.test. 1 MX 5 dead.pref.test.", "dead.pref.test. 1 A "+deadAddress,
		"mx.six.test. 1 AAAA "+sixAddress, "mx.deadsix.test. 1 AAAA "+deadSix,
		"null.test. 1 MX 0 .", "null.test. 1 A "+goodAddress, "private.test. 1 MX 1 in.private.test.", "in.private.test. 1 A 10.1.2.3", "in.private.test. 1 AAAA ::1")
	d.Break("broken.test")
}

func (o *outside) startReceivers() {
	names := o.names()
	mx := func(address string) []string {
		var out []string
		for _, name := range names[address] {
			out = append(out, "mx."+name)
		}
		return out
	}
	cert := func(c *lab.Cert, err error) *lab.Cert {
		if err != nil {
			o.t.Fatal(err)
		}
		return c
	}
	dkim := lab.RunOpenDKIM(o.t, "mx.good.test", "127.0.0.53")
	o.receive(goodAddress, cert(o.ca.IssueOnly(mx(goodAddress)...)), "["+sixAddress+"]:25",
		"smtpd_milters = "+dkim.Milter+"\nsmtpd_recipient_restrictions = reject_unknown_client_hostname, reject_unauth_destination, check_recipient_access inline:{ {nobody@good.test = 550 5.1.1 no such user here} {full@good.test = 452 4.2.2 mailbox full} }, check_policy_service "+o.greylist()+"\n")
	o.receive(otherAddress, cert(o.ca.IssueOnly("mx.elsewhere.test")), "", "")
	o.receive(aloneAddress, cert(lab.RunCA(o.t).IssueOnly(mx(aloneAddress)...)), "", "")
	o.receive(staleAddress, cert(o.ca.IssueExpired(mx(staleAddress)...)), "", "")
	o.receive(plainAddress, nil, "", "smtpd_tls_security_level = none\n")
}

func (o *outside) receive(address string, cert *lab.Cert, more, main string) {
	folder, err := os.MkdirTemp("", "island-mail-")
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { os.RemoveAll(folder) })
	const nobody = 65534
	if err := os.Chown(folder, nobody, nobody); err != nil {
		o.t.Fatal(err)
	}
	listen := []string{address + ":25"}
	if more != "" {
		listen = append(listen, more)
	}
	server := lab.RunPostfix(o.t, lab.PostfixOptions{CA: o.ca, Cert: cert, Listen: listen, Main: fmt.Sprintf(`disable_dns_lookups = no
smtpd_peername_lookup = yes
smtpd_tls_received_header = yes
virtual_mailbox_domains = %s
virtual_mailbox_base = %s
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:%d
virtual_gid_maps = static:%d
virtual_minimum_uid = 1
`, strings.Join(o.names()[address], " "), folder, nobody, nobody) + main})
	o.servers[address] = &receiver{server, folder}
}

// configure writes the account and what stands behind it.
func (o *outside) configure(more string) {
	o.t.Helper()
	path := filepath.Join(o.home, ".config/letterlock/config.toml")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		o.t.Fatal(err)
	}
	text := fmt.Sprintf("[account.out]\nway = \"direct\"\nmailbox = \"you@out.example\"\nhello = \"mx.out.example\"\nca_file = %q\n%s\n[queue]\nroot = [\"you@out.example\"]\ndomain = \"out.example\"\n", o.ca.File, more)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o *outside) run(stdin string, args ...string) string {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.binary, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = []string{"HOME=" + o.home, "PATH=/usr/bin:/bin"}, o.home, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// send sends a message of its own before our eyes, and returns what was said and what
// its subject is.
func (o *outside) send(to ...string) (said, subject string) {
	o.t.Helper()
	return o.sendAs("you@out.example", to...)
}

func (o *outside) sendAs(from string, to ...string) (said, subject string) {
	o.t.Helper()
	o.sent++
	subject = fmt.Sprintf("island %d", o.sent)
	text := "From: You <" + from + ">\nTo: " + strings.Join(to, ", ") + "\nSubject: " + subject + "\n\n.\nGr\u00fc\u00dfe\n"
	return o.run(text, append([]string{"sendmail", "-v", "-i", "-f", from}, to...)...), subject
}

// arrived waits for the message of that subject at a server. Postfix has it by then: it
// said so before it put it into the folder.
func (o *outside) arrived(address, subject string) string {
	o.t.Helper()
	for deadline := time.Now().Add(longest); ; {
		for _, text := range o.stored(address) {
			if strings.Contains(text, "\nSubject: "+subject+"\n") {
				return text
			}
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("%q never arrived at %s", subject, address)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func (o *outside) stored(address string) []string {
	files, err := filepath.Glob(filepath.Join(o.servers[address].folder, "all/new/*"))
	if err != nil {
		o.t.Fatal(err)
	}
	return readAll(o.t, files)
}

func readAll(t *testing.T, files []string) []string {
	t.Helper()
	var out []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// nowhere: no server was given the message. None that said yes could hide it: the
// queue's word is compared with each server's log of what it took.
func (o *outside) nowhere(subject, to string) {
	o.t.Helper()
	for address, server := range o.servers {
		if slices.ContainsFunc(o.stored(address), func(text string) bool { return strings.Contains(text, "\nSubject: "+subject+"\n") }) ||
			slices.ContainsFunc(server.Log(), func(line string) bool {
				return strings.Contains(line, "to=<"+to+">") && strings.Contains(line, "status=sent")
			}) {
			o.t.Errorf("%q to %s was delivered to %s", subject, to, address)
		}
	}
}

func (o *outside) sts(name, id, mode string, mx ...string) {
	host := "mta-sts." + name
	o.island.DNS.Remove("_mta-sts." + name)
	o.island.DNS.Set(fmt.Sprintf("_mta-sts.%s. 1 TXT \"v=STSv1; id=%s;\"", name, id))
	o.island.DNS.Remove(host)
	o.island.DNS.Set(host + ". 1 A " + policyHost)
	o.policies.Set(host, "version: STSv1\r\nmode: "+mode+"\r\nmx: "+strings.Join(mx, "\r\nmx: ")+"\r\nmax_age: 86400\r\n")
}

func TestDirectOnAnIsland(t *testing.T) {
	if !island.Enter(t) {
		return
	}
	o := newOutside(t)
	o.configure("")
	t.Run("names", o.testNames)
	t.Run("answers", o.testAnswers)
	t.Run("dkim", o.testDKIM)
	t.Run("detached", o.testDetached)
	t.Run("sts", o.testSTS)
	t.Run("local", o.testLocal)
}

// testNames: which server mail goes to, and with what TLS.
func (o *outside) testNames(t *testing.T) {
	for _, test := range []struct{ to, said, at, received string }{
		{"a@good.test", `sent  a@good\.test  mx\.good\.test: 2\.`, goodAddress, `from mx\.out\.example \(mx\.out\.example \[8\.20\.0\.1\]\)\n[^:]*using TLSv1\.3`},
		{"a@plain.test", `sent`, plainAddress, `by mail\.try\.test \(Postfix\) with ESMTP id`},
		{"a@wrong.test", `sent`, otherAddress, `using TLSv1\.3`},
		{"a@alone.test", `sent`, aloneAddress, `using TLSv1\.3`},
		{"a@stale.test", `sent`, staleAddress, `using TLSv1\.3`},
		{"a@pref.test", `sent  a@pref\.test  mx\.pref\.test`, goodAddress, "TLS"},
		{"a@a-only.test", `sent  a@a-only\.test  a-only\.test`, goodAddress, "TLS"},
		{"a@[" + plainAddress + "]", `refused|sent`, "", ""},
		{"a@six.test", `sent`, goodAddress, `\[IPv6:2600::25\]`},
		{"a@deadsix.test", `sent`, goodAddress, `\[8\.20\.0\.1\]`},
		{"a@null.test", `refused  a@null\.test .*5\.1\.10 .*null MX`, "", ""},
		{"a@nothing.test", `refused .*5\.1\.2`, "", ""},
		{"a@broken.test", `later .*4\.4\.3`, "", ""},
		{"a@private.test", `refused .*5\.4\.4 .*private`, "", ""},
	} {
		said, subject := o.send(test.to)
		if !regexp.MustCompile(test.said).MatchString(said) {
			t.Errorf("%s: %s", test.to, said)
			continue
		}
		if test.at == "" {
			o.nowhere(subject, test.to)
			continue
		}
		if text := o.arrived(test.at, subject); !regexp.MustCompile(test.received).MatchString(text) || !strings.Contains(text, "\n.\nGr") {
			t.Errorf("%s: arrived as\n%s", test.to, text)
		}
	}
	reports := o.reports()
	if !strings.Contains(reports, "Status: 5.1.10") || !strings.Contains(reports, "Final-Recipient: rfc822; a@null.test") {
		t.Errorf("reports:\n%s", reports)
	}
}

func (o *outside) reports() string {
	files, err := filepath.Glob(filepath.Join(o.home, ".local/state/letterlock/reports/new/*"))
	if err != nil {
		o.t.Fatal(err)
	}
	return strings.Join(readAll(o.t, files), "\n")
}

// testAnswers: what real servers say no and not yet with.
func (o *outside) testAnswers(t *testing.T) {
	said, subject := o.send("a@good.test", "nobody@good.test", "full@good.test", "b@second.test")
	for _, want := range []string{`sent  a@good\.test`, `refused  nobody@good\.test .*5\.1\.1 .*no such user here`, `later  full@good\.test .*4\.2\.2`, `sent  b@second\.test`} {
		if !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("no %s in\n%s", want, said)
		}
	}
	o.arrived(goodAddress, subject)
	if reports := o.reports(); !strings.Contains(reports, "550 5.1.1") || !strings.Contains(reports, "Remote-MTA: dns; mx.good.test") || strings.Contains(reports, "rfc822; full@good.test") {
		t.Errorf("reports:\n%s", reports)
	}
	said, subject = o.send("a@grey.test")
	if !regexp.MustCompile(`later  a@grey\.test .*4\.7\.1 .*[Gg]reylisted`).MatchString(said) {
		t.Errorf("greylisting: %s", said)
	}
	o.nowhere(subject, "a@grey.test")
	o.run("", "queue", "retry", "--all")
	o.arrived(goodAddress, subject)
}

// testDKIM: OpenDKIM finds the key in DNS and says that both signatures hold.
func (o *outside) testDKIM(t *testing.T) {
	folder := filepath.Join(o.home, ".local/state/letterlock/dkim")
	for _, algorithm := range []domain.Algorithm{domain.Ed25519, domain.RSA2048} {
		if _, err := domain.Create(t.Context(), folder, "out.example", "s-"+string(algorithm), algorithm, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	o.publish(folder, "out.example")
	_, subject := o.send("a@good.test")
	text := o.arrived(goodAddress, subject)
	if n := strings.Count(text, "DKIM-Signature:"); n != 2 {
		t.Fatalf("%d signatures:\n%s", n, text)
	}
	unfolded := regexp.MustCompile(`\n[ \t]+`).ReplaceAllString(text, " ")
	if n := strings.Count(unfolded, "dkim=pass"); n != 2 || !strings.Contains(unfolded, "header.d=out.example") {
		t.Errorf("%d of 2 pass:\n%s", n, text)
	}
	// Keys of another domain sign what is written as that one; in DNS there are others,
	// and the same machinery says no.
	o.configure("senders = [\"@wrong.example\"]\n")
	for _, folder := range []string{folder, t.TempDir()} {
		if _, err := domain.Create(t.Context(), folder, "wrong.example", "s", domain.RSA2048, rand.Reader); err != nil {
			t.Fatal(err)
		}
		o.island.DNS.Remove("s._domainkey.wrong.example")
		o.publish(folder, "wrong.example")
	}
	_, subject = o.sendAs("me@wrong.example", "a@second.test")
	if text := o.arrived(goodAddress, subject); !strings.Contains(text, "dkim=fail") || !strings.Contains(text, "d=wrong.example") {
		t.Errorf("a signature that no key fits:\n%s", text)
	}
	o.configure("")
}

// publish puts the public halves of the keys into DNS.
func (o *outside) publish(folder, name string) {
	o.t.Helper()
	keys, err := domain.List(folder, name)
	if err != nil || len(keys) == 0 {
		o.t.Fatalf("%d keys, %v", len(keys), err)
	}
	for _, key := range keys {
		o.island.DNS.SetTXT(key.Name(), key.Record())
	}
}

// testDetached is cron's way: nobody watches, and a process of its own sends.
func (o *outside) testDetached(t *testing.T) {
	o.run("From: root\nSubject: detached\n\nx\n", "sendmail", "-FCronDaemon", "-i", "-oem", "a@good.test")
	o.arrived(goodAddress, "detached")
	// Who sends before our eyes next must not find that process at it.
	if err := idle(o.home); err != nil {
		t.Fatal(err)
	}
}

// testSTS: MTA-STS, from DNS and a web server, at mail servers of every kind.
func (o *outside) testSTS(t *testing.T) {
	var hosts []string
	for _, names := range o.names() {
		for _, name := range names {
			if name != "nopolicy.test" {
				hosts = append(hosts, "mta-sts."+name)
			}
		}
	}
	cert, err := o.ca.IssueOnly(hosts...)
	if err != nil {
		t.Fatal(err)
	}
	o.policies = island.ServePolicies(t, policyHost, &tls.Config{Certificates: []tls.Certificate{cert.TLS}, MinVersion: tls.VersionTLS12})
	for _, name := range []string{"sts.test", "sts-wrong.test", "sts-alone.test", "sts-stale.test", "sts-plain.test", "update.test", "nopolicy.test", "inside.test", "redirect.test"} {
		o.sts(name, "1", "enforce", "*."+name)
	}
	o.sts("testing.test", "1", "testing", "mx.nowhere.test")
	o.sts("unlisted.test", "1", "enforce", "mx.nowhere.test")
	// A policy host in a private network is not asked, even if something answers there.
	o.island.DNS.Remove("mta-sts.inside.test")
	o.island.DNS.Set("mta-sts.inside.test. 1 A 127.0.0.1")
	inside := island.ServePolicies(t, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{cert.TLS}, MinVersion: tls.VersionTLS12})
	inside.Set("mta-sts.inside.test", "version: STSv1\nmode: enforce\nmx: mx.nowhere.test\nmax_age: 86400\n")
	o.policies.Set("mta-sts.redirect.test", "redirect")

	enforced := func(t *testing.T) {
		for to, want := range map[string]string{
			"a@sts-wrong.test": `4\.7\.5 TLS with mx\.sts-wrong\.test: .*mx\.elsewhere\.test, not mx\.sts-wrong\.test`,
			"a@sts-alone.test": `4\.7\.5 .*unknown authority`,
			"a@sts-stale.test": `4\.7\.5 .*expired`,
			"a@sts-plain.test": `4\.7\.4 .*STARTTLS`,
			"a@unlisted.test":  `4\.7\.0 .*policy names none`,
		} {
			said, subject := o.send(to)
			if !regexp.MustCompile(`later  ` + regexp.QuoteMeta(to) + ` .*` + want).MatchString(said) {
				t.Errorf("%s: %s", to, said)
			}
			o.nowhere(subject, to)
			if listed := o.run("", "queue", "list", "--json"); !strings.Contains(listed, to) {
				t.Errorf("%s is not queued: %s", to, listed)
			}
		}
		_, subject := o.send("a@sts.test")
		o.arrived(goodAddress, subject)
	}
	t.Run("enforce", enforced)
	for to, at := range map[string]string{"a@testing.test": otherAddress, "a@nopolicy.test": goodAddress, "a@inside.test": goodAddress, "a@redirect.test": goodAddress} {
		said, subject := o.send(to)
		if !strings.Contains(said, "sent") {
			t.Errorf("%s: %s", to, said)
			continue
		}
		o.arrived(at, subject)
	}
	if inside.Fetched("mta-sts.inside.test") > 0 {
		t.Error("a policy was asked for in a private network")
	}
	t.Run("update", func(t *testing.T) {
		_, subject := o.send("a@update.test")
		o.arrived(goodAddress, subject)
		before := o.policies.Fetched("mta-sts.update.test")
		o.policies.Set("mta-sts.update.test", "version: STSv1\nmode: enforce\nmx: mx.nowhere.test\nmax_age: 86400\n")
		_, subject = o.send("b@update.test")
		o.arrived(goodAddress, subject)
		if o.policies.Fetched("mta-sts.update.test") != before {
			t.Error("fetched again although its id is the same")
		}
		o.sts("update.test", "2", "enforce", "mx.nowhere.test")
		if said, _ := o.send("c@update.test"); !strings.Contains(said, "later") || o.policies.Fetched("mta-sts.update.test") != before+1 {
			t.Errorf("the new policy is not heeded: %s", said)
		}
	})
	// Whoever takes record and web server away does not end the policy.
	o.policies.Stop()
	for _, name := range []string{"sts.test", "sts-wrong.test", "sts-alone.test", "sts-stale.test", "sts-plain.test", "unlisted.test"} {
		o.island.DNS.Remove("_mta-sts." + name)
	}
	t.Run("from the cache", enforced)
	// The switch is one.
	o.configure("mta_sts = false\n")
	_, subject := o.send("b@sts-wrong.test")
	o.arrived(otherAddress, subject)
	o.configure("")
}

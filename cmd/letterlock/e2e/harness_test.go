//go:build lab

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// A site is a provider, a mail server that asks it about tokens, and the place where
// that server relays to.
type site struct {
	ca      *lab.CA
	op      *lab.OP
	dovecot *lab.Dovecot
	sink    *lab.Sink
}

// newSite starts all four for one test; about 2 s.
// change is applied to what Dovecot is started with.
func newSite(t testing.TB, o lab.OPOptions, change ...func(*lab.DovecotOptions)) *site {
	t.Helper()
	s := &site{ca: lab.RunCA(t)}
	o.CA = s.ca
	if o.RedirectURIs == nil {
		// As letterlock register tells people, and what op.Token uses.
		o.RedirectURIs = []string{"http://127.0.0.1", "http://127.0.0.1/"}
	}
	s.op = lab.RunOP(t, o)
	s.sink = lab.RunSink(t, lab.SinkOptions{})
	mail := lab.DovecotOptions{
		CA: s.ca, Introspection: s.op.IntrospectionURL(), Relay: s.sink.Addr(), OpenIDConfiguration: s.op.Issuer + "/.well-known/openid-configuration",
	}
	for _, f := range change {
		f(&mail)
	}
	s.dovecot = lab.RunDovecot(t, mail)
	return s
}

// person is somebody with a mailbox of their own, for OPOptions.People.
func person(name string, number int) lab.Person {
	return lab.Person{Name: name, Email: name + "@try.test", Password: name + "-at-the-page", Subject: fmt.Sprint(2000 + number)}
}

// loginArgs are the arguments of login for one account at the site, with implicit TLS
// at all three servers.
func (s *site) loginArgs(who lab.Person, more ...string) []string {
	return append([]string{
		"login", who.Email, "--issuer", s.op.Issuer, "--client-id", lab.PublicClient, "--ca-file", s.ca.File, "--key", "file",
		"--imap", hostPort(s.dovecot.IMAPS), "--imap-security", "tls",
		"--pop3", hostPort(s.dovecot.POP3S), "--pop3-security", "tls",
		"--smtp", hostPort(s.dovecot.Subs), "--smtp-security", "tls",
	}, more...)
}

// startTLS turns the servers of loginArgs into those that begin in the clear. A flag
// given twice counts the last time.
func (s *site) startTLS() []string {
	return []string{
		"--imap", hostPort(s.dovecot.IMAP), "--imap-security", "starttls",
		"--pop3", hostPort(s.dovecot.POP3), "--pop3-security", "starttls",
		"--smtp", hostPort(s.dovecot.Submission), "--smtp-security", "starttls",
	}
}

// hostPort names the server: programs differ in what they think of certificates for
// an IP address.
func hostPort(port int) string { return fmt.Sprintf("localhost:%d", port) }

// signIn signs a person in without a browser, by pasting into a pipe: for tests whose
// subject is not the sign-in. It returns what letterlock said.
func (h *home) signIn(s *site, who lab.Person, more ...string) string {
	h.t.Helper()
	ctx := within(h.t)
	cmd := h.command(ctx, "letterlock", s.loginArgs(who, append([]string{"--flow", "paste"}, more...)...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	said := bufio.NewReader(stderr)
	begin, address := addressIn(said, s.op.AuthURL())
	if address == "" {
		h.t.Fatalf("letterlock showed no address: %v: %s", cmd.Wait(), begin)
	}
	back, err := s.op.SignIn(ctx, address, who)
	if err != nil {
		h.t.Fatal(err)
	}
	_, writing := io.WriteString(stdin, back.String()+"\n")
	rest, reading := io.ReadAll(said)
	if err := errors.Join(writing, stdin.Close(), reading, cmd.Wait()); err != nil {
		h.t.Fatalf("sign in: %v\n%s%s", err, begin, rest)
	}
	return begin + string(rest)
}

// addressIn reads lines until one is an address that begins so.
func addressIn(r *bufio.Reader, prefix string) (read, address string) {
	for {
		line, err := r.ReadString('\n')
		read += line
		if line = strings.TrimSpace(line); strings.HasPrefix(line, prefix) {
			return read, line
		}
		if err != nil {
			return read, ""
		}
	}
}

// found looks for secrets in everything below a folder, and returns the files that
// hold one.
func found(t testing.TB, dir string, secrets ...string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, secret := range secrets {
			if secret == "" {
				t.Fatal("an empty secret would be found everywhere")
			}
			if bytes.Contains(data, []byte(secret)) || bytes.Contains(data, []byte(url.QueryEscape(secret))) {
				all = append(all, path)
				break
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/trymail"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A mailEnd is one server to log in to.
type mailEnd struct {
	protocol upstream.Protocol
	server   provider.MailServer
}

// mailServers are what the mail of the story goes through.
type mailServers interface {
	ends() []mailEnd
	flags() []string // of `letterlock login`
	name() string    // what answered
	// inbox are the messages that have come for an address so far.
	inbox(address string) ([][]byte, error)
	webmail() *webmail // nil without
	stop()
}

// startServers starts real servers where they are installed, and the built-in ones
// elsewhere, and letterlockd beside them. Only "not installed" makes it fall back: real
// servers that fail to start are a failure of the story.
func startServers(ctx context.Context, which string, ca *lab.CA, d *daemon) (mailServers, error) {
	switch which {
	case "builtin":
		return startBuiltin(ctx, ca, d)
	case "dovecot":
		return startReal(ctx, ca, d)
	case "auto":
		servers, err := startReal(ctx, ca, d)
		var missing *lab.Missing
		if errors.As(err, &missing) {
			return startBuiltin(ctx, ca, d)
		}
		return servers, err
	}
	return nil, fmt.Errorf("mail servers %q: it is auto, builtin or dovecot", which)
}

// pair is an IMAP and a submission server.
type pair struct {
	imap, smtp provider.MailServer
	title      string
	letters    func(address string) ([][]byte, error)
	web        *webmail // nil: there is none
	stops      []func()
}

func (p *pair) ends() []mailEnd { return []mailEnd{{upstream.IMAP, p.imap}, {upstream.SMTP, p.smtp}} }

func (p *pair) flags() []string {
	text := func(s provider.MailServer) string { return s.Host + ":" + strconv.Itoa(s.Port) }
	return []string{
		"--imap", text(p.imap), "--imap-security", string(p.imap.Security),
		"--smtp", text(p.smtp), "--smtp-security", string(p.smtp.Security),
	}
}

func (p *pair) name() string { return p.title }

func (p *pair) inbox(address string) ([][]byte, error) { return p.letters(address) }

func (p *pair) webmail() *webmail { return p.web }

func (p *pair) stop() {
	for i := len(p.stops) - 1; i >= 0; i-- {
		p.stops[i]()
	}
}

// startBuiltin starts servers of our own that ask letterlockd as the real ones do.
func startBuiltin(ctx context.Context, ca *lab.CA, d *daemon) (mailServers, error) {
	builtin, err := runBuiltin(ca, d)
	if err != nil {
		return nil, err
	}
	// Orders go to the port that only the servers know.
	d.doveadm = builtin.Doveadm.Port
	if err := errors.Join(d.configure(), d.start(ctx)); err != nil {
		builtin.Stop()
		return nil, err
	}
	return &pair{
		imap: implicit(builtin.IMAP.Port), smtp: implicit(builtin.SMTP.Port), title: builtin.Name(), stops: []func(){builtin.Stop},
		letters: func(address string) ([][]byte, error) { return builtin.Delivered(address), nil },
	}, nil
}

func implicit(port int) provider.MailServer {
	return provider.MailServer{Host: "127.0.0.1", Port: port, Security: provider.ImplicitTLS}
}

func runBuiltin(ca *lab.CA, d *daemon) (*trymail.Servers, error) {
	conf, err := ca.Server("localhost", "127.0.0.1", "mail.try.test") // Roundcube knows the last
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return trymail.Start(trymail.Options{
		TLS: conf, Introspection: d.endpoint("introspect"), Password: d.endpoint("password"), ClientID: "dovecot", Secret: d.secret,
		Senders: filepath.Join(d.socket, "senders"), DoveadmKey: d.doveadmKey,
		HTTP: &http.Client{Timeout: time.Minute}, OpenIDConfiguration: d.discovery(), Log: slog.New(slog.DiscardHandler),
	})
}

// startReal starts Dovecot and Postfix by the configuration that letterlockd prints.
// Postfix needs root; without, the built-in server takes what is sent.
func startReal(ctx context.Context, ca *lab.CA, d *daemon) (mailServers, error) {
	printed := d.in("dovecot")
	if err := os.MkdirAll(filepath.Join(printed, "conf.d"), 0o755); err != nil {
		return nil, fmt.Errorf("make folder for Dovecot: %w", err)
	}
	if !lab.Installed("dovecot") {
		return nil, &lab.Missing{Program: "dovecot", Package: "dovecot-imapd"}
	}
	if _, err := d.run(ctx, "config", "dovecot", "--write", "--config-dir", printed); err != nil {
		return nil, err
	}
	dovecot, err := lab.StartDovecot(ctx, lab.DovecotOptions{
		CA: ca, Introspection: "-", Mechanisms: "plain login",
		Extra: fmt.Sprintf("!include %[1]s/conf.d/05-letterlock.conf\n!include %[1]s/conf.d/95-letterlock.conf\n", printed),
	})
	if err != nil {
		return nil, err
	}
	d.webmail = lab.RoundcubeInstalled()
	p := &pair{imap: implicit(dovecot.IMAPS), title: "Dovecot " + majorMinor(dovecot.Version), letters: dovecot.Inbox, stops: []func(){dovecot.Stop}}
	if os.Geteuid() == 0 && lab.Installed("postfix") {
		err = p.addPostfix(ctx, ca, d, dovecot)
	} else {
		err = p.addBuiltin(ctx, ca, d)
	}
	if err == nil && d.webmail {
		err = p.addRoundcube(ctx, ca, d, dovecot)
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// addPostfix has Postfix ask letterlockd, by the script that is printed for it.
func (p *pair) addPostfix(ctx context.Context, ca *lab.CA, d *daemon, dovecot *lab.Dovecot) error {
	postfix, err := lab.StartPostfix(ctx, lab.PostfixOptions{CA: ca, Dovecot: dovecot, Mailboxes: []string{address}})
	if err != nil {
		return err
	}
	p.stops = append(p.stops, postfix.Stop)
	if d.socket, err = socketFolder(postfix.Dir); err != nil {
		return err
	}
	if err := errors.Join(d.configure(), d.start(ctx)); err != nil {
		return err
	}
	script, err := d.run(ctx, "config", "postfix", "--config-dir", postfix.Dir)
	if err != nil {
		return err
	}
	sh := exec.CommandContext(ctx, "sh")
	sh.Env, sh.Stdin = append(os.Environ(), "MAIL_CONFIG="+postfix.Dir, "LC_ALL=C"), strings.NewReader(script)
	if out, err := sh.CombinedOutput(); err != nil {
		return fmt.Errorf("the script for Postfix: %w", explain(err, string(out)))
	}
	p.smtp, p.title = implicit(postfix.Subs), p.title+", Postfix "+majorMinor(postfix.Version)
	return nil
}

// socketFolder is what a package or a unit would make: below Postfix's queue, its group
// that of Postfix, who may connect to what is made in it.
func socketFolder(postfix string) (string, error) {
	owner, err := user.Lookup("postfix")
	if err != nil {
		return "", err
	}
	gid, err := strconv.Atoi(owner.Gid)
	if err != nil {
		return "", err
	}
	path := filepath.Join(postfix, "queue", "letterlock")
	return path, errors.Join(os.Mkdir(path, 0o750), os.Chown(path, 0, gid), os.Chmod(path, os.ModeSetgid|0o750))
}

func (p *pair) addBuiltin(ctx context.Context, ca *lab.CA, d *daemon) error {
	if err := errors.Join(d.configure(), d.start(ctx)); err != nil {
		return err
	}
	builtin, err := runBuiltin(ca, d)
	if err != nil {
		return err
	}
	p.smtp, p.title = implicit(builtin.SMTP.Port), p.title+", built-in SMTP"
	p.letters = func(address string) ([][]byte, error) { return builtin.Delivered(address), nil }
	p.stops = append(p.stops, builtin.Stop)
	return nil
}

// majorMinor shortens 2.3.19.1 to 2.3.
func majorMinor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

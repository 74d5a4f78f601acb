package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// sender is the account that can do nothing but send.
const sender = "cron"

// cronMail is line 4: a machine's right sends what cron hands to sendmail, and does not
// open the mailbox. The person has signed in already; this second consent is clicked
// for them.
func (s *story) cronMail(ctx context.Context) error {
	s.lines.begin("4 Cron mail", "sendmail: ", false)
	if err := s.signInSender(ctx); err != nil {
		return err
	}
	subject, text := "Cron <root@box> backup", "backup "+rand.Text()+": done, 1 GiB of Grüße\n.\nafter the dot\n"
	if err := s.program.sendmail(ctx, "From: root (Cron Daemon)\nTo: root\nSubject: "+subject+
		"\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n"+text); err != nil {
		return err
	}
	if err := s.arrives(ctx, subject, text); err != nil {
		return err
	}
	if err := s.program.drained(ctx); err != nil {
		return err
	}
	out, err := s.program.run(ctx, "token", sender)
	if err != nil {
		return fmt.Errorf("letterlock token: %w", err)
	}
	token, err := oneToken(out)
	if err != nil {
		return fmt.Errorf("letterlock token: %w", err)
	}
	for _, mechanism := range []string{sasl.XOAuth2, sasl.OAuthBearer} {
		if err := refusesReading(ctx, s.servers, s.ca, mechanism, token); err != nil {
			return err
		}
	}
	if err := onlyEncrypted(s.program.home, token); err != nil {
		return err
	}
	return s.lines.end("delivered; the same right reading mail: REFUSED")
}

// signInSender makes the account, and mail for root its own.
func (s *story) signInSender(ctx context.Context) error {
	login := s.program.login(ctx, append([]string{
		"login", address, "--account", sender, "--send-only", "--issuer", s.daemon.url, "--flow", "browser", "--no-browser",
		"--key", "file", "--ca-file", s.ca.File,
	}, s.servers.flags()...))
	defer login.stop()
	url, err := login.url(ctx, s.daemon.url)
	if err != nil {
		return fmt.Errorf("letterlock login --send-only: %w", err)
	}
	clicked := make(chan error, 1)
	go func() { clicked <- click(ctx, url) }()
	if err := login.wait(ctx, clicked); err != nil {
		return fmt.Errorf("letterlock login --send-only: %w", err)
	}
	return s.program.rootIs(address)
}

// rootIs writes where mail for root goes. The alias file of this computer is its own
// affair.
func (p *program) rootIs(address string) error {
	file, err := os.OpenFile(filepath.Join(p.home, "config", "letterlock", "config.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	_, err = fmt.Fprintf(file, "\n[queue]\nroot = [%q]\naliases = %q\n", address, filepath.Join(p.home, "aliases"))
	return errors.Join(err, file.Close())
}

// sendmail calls the program by that name, as cron does.
func (p *program) sendmail(ctx context.Context, message string) error {
	path := filepath.Join(p.home, "sendmail")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if err := link(p.path, path); err != nil {
		return fmt.Errorf("name letterlock sendmail: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	named := *p
	named.path = path
	cmd := named.command(ctx, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root")
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(message), &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sendmail: %w", explain(err, said.String()))
	}
	return nil
}

// link is a symbolic link, or a copy where those are not for everybody.
func link(to, path string) error {
	if os.Symlink(to, path) == nil {
		return nil
	}
	from, err := os.Open(to)
	if err != nil {
		return err
	}
	defer from.Close()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close())
}

// arrives waits for the message, which has to be as it was given to sendmail.
func (s *story) arrives(ctx context.Context, subject, text string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		letters, err := s.servers.inbox(address)
		if err != nil {
			return fmt.Errorf("look into the mailbox: %w", err)
		}
		for _, data := range letters {
			letter := strings.ReplaceAll(string(data), "\r\n", "\n")
			if strings.HasSuffix(letter, "\n\n"+text) && strings.Contains(letter, "\nSubject: "+subject+"\n") && strings.Contains(letter, "From: "+address+" (Cron Daemon)\n") {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			waiting, _ := s.program.run(context.WithoutCancel(ctx), "queue", "list")
			return fmt.Errorf("the mail does not arrive: %w; the queue: %s", ctx.Err(), strings.TrimSpace(waiting))
		}
	}
}

// drained waits until the queue is empty and nobody is at it any more: sending outlives
// sendmail, and must not outlive the folder that it works in.
func (p *program) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := p.run(ctx, "mailq")
		switch {
		case err != nil:
			return fmt.Errorf("mailq: %w", err)
		case strings.Contains(left, "Mail queue is empty"):
			return p.left(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("something is left in the queue: %s: %w", strings.TrimSpace(left), ctx.Err())
		}
	}
}

// left waits for the process that sendmail left behind to let go of the queue.
func (p *program) left(ctx context.Context) error {
	lock, err := atomicfile.Acquire(ctx, filepath.Join(p.home, "state", "letterlock", "queue", "drain.lock"))
	if err != nil {
		return fmt.Errorf("the queue is empty, but somebody works on it: %w", err)
	}
	return lock.Release()
}

// refusesReading proves that no reading server takes the token, and that it is the
// token that it refuses.
func refusesReading(ctx context.Context, servers mailServers, ca *lab.CA, mechanism, token string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tried := 0
	for _, end := range servers.ends() {
		if end.protocol == upstream.SMTP {
			continue
		}
		conn, err := upstream.Dial(ctx, end.protocol, end.server, upstream.Options{TLS: ca.Client()})
		if err != nil {
			return err
		}
		err = conn.Authenticate(ctx, upstream.Login{User: address, Mechanisms: []string{mechanism}, Token: secret.New(token)})
		_ = conn.Close()
		var refused *upstream.AuthError
		switch {
		case err == nil:
			return fmt.Errorf("%s by %s let the right to send read mail", end.protocol, mechanism)
		case !errors.As(err, &refused) || refused.Temporary:
			return fmt.Errorf("%s by %s did not refuse, it failed: %w", end.protocol, mechanism, err)
		}
		tried++
	}
	if tried == 0 {
		return errors.New("there is no server that reads mail")
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"net"
	"net/smtp"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// appPassword is line 5: a password for one device is made in the portal. It sends as its
// owner, and as nobody else.
func (s *story) appPassword(ctx context.Context) error {
	s.lines.begin("5 App password", "made in the portal: ", false)
	var err error
	if s.surfer, err = portalSurfer(ctx, s.daemon.url+"/passwords/new"); err != nil {
		return err
	}
	password, err := s.makePassword(ctx)
	if err != nil {
		return err
	}
	server := s.submission()
	if err := submit(ctx, server, s.ca, password, address, 0); err != nil {
		return fmt.Errorf("the app password: %w", err)
	}
	if err := submit(ctx, server, s.ca, password, "other@try.test", 553); err != nil {
		return fmt.Errorf("sending as another: %w", err)
	}
	if err := submit(ctx, server, s.ca, wrong(password), address, 535); err != nil {
		return fmt.Errorf("a wrong app password: %w", err)
	}
	if s.hashes, err = onlyHashed(s.daemon.folder, password); err != nil {
		return err
	}
	return s.lines.end("SMTP 235; sending as other@: REFUSED 553")
}

// portalSurfer opens a page of the portal in a browser of its own, and signs in through the
// stand-in of GitHub.
func portalSurfer(ctx context.Context, page string) (*surfer, error) {
	s, err := newSurfer()
	if err != nil {
		return nil, err
	}
	if err := s.open(ctx, page); err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	form, ok := formTo(s.page, "/decide")
	if !ok {
		return nil, errors.New("portal: it asks nobody to sign in")
	}
	if err := s.send(ctx, "/decide", form); err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	return s, nil
}

// makePassword fills in the form as somebody with a new phone would.
func (s *story) makePassword(ctx context.Context) (string, error) {
	form, ok := formTo(s.surfer.page, "/passwords/new")
	if !ok {
		return "", errors.New("portal: there is no form for an app password")
	}
	form["protocol"] = []string{"imap", "smtp"}
	form.Set("label", "Phone")
	form.Set("expires", "0")
	if err := s.surfer.send(ctx, "/passwords/new", form); err != nil {
		return "", fmt.Errorf("portal: %w", err)
	}
	found := regexp.MustCompile(`id="password"[^>]*>([^<]+)<`).FindStringSubmatch(s.surfer.page)
	if found == nil {
		return "", errors.New("portal: it shows no app password")
	}
	return html.UnescapeString(found[1]), nil
}

// wrong changes one sign of the secret, which stands behind the first hyphen.
func wrong(password string) string {
	selector, rest, _ := strings.Cut(password, "-")
	sign := "a"
	if strings.HasPrefix(rest, sign) {
		sign = "b"
	}
	return selector + "-" + sign + rest[min(1, len(rest)):]
}

func (s *story) submission() provider.MailServer {
	for _, end := range s.servers.ends() {
		if end.protocol == upstream.SMTP {
			return end.server
		}
	}
	return provider.MailServer{}
}

// submit signs in with a password and names sender and recipient. The server has to
// refuse with that code, or to take it all when that is 0.
func submit(ctx context.Context, server provider.MailServer, ca *lab.CA, password, sender string, refusal int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conf := ca.Client()
	conf.ServerName = server.Host
	dialer := tls.Dialer{Config: conf}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(server.Host, strconv.Itoa(server.Port)))
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	client, err := smtp.NewClient(conn, server.Host)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer client.Close()
	err = client.Auth(smtp.PlainAuth("", address, password, server.Host))
	if err == nil {
		err = client.Mail(sender)
	}
	if err == nil {
		err = client.Rcpt(address)
	}
	var reply *textproto.Error
	switch {
	case err == nil && refusal == 0:
		return nil
	case err == nil:
		return fmt.Errorf("the server takes it, and should refuse with %d", refusal)
	case errors.As(err, &reply) && reply.Code == refusal:
		return nil
	}
	return err
}

// onlyHashed looks through all that letterlockd keeps: the password is nowhere, and its
// Argon2id hash is there.
func onlyHashed(folder, password string) (hashes int, err error) {
	secret := url.QueryEscape(password)
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(data, []byte(password)) || bytes.Contains(data, []byte(secret)) {
			return fmt.Errorf("the app password lies open in %s", filepath.Base(path))
		}
		if bytes.Contains(data, []byte("$argon2id$v=19$")) {
			hashes = 1
		}
		return nil
	})
	if err == nil && hashes == 0 {
		err = errors.New("no hash of the app password was found: nothing was kept")
	}
	return hashes, err
}

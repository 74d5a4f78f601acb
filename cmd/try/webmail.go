package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// webmailTitle is what the portal calls the gateway's right.
const webmailTitle = "Web mail"

// A webmail is a real Roundcube behind letterlockd's gateway.
type webmail struct {
	roundcube *lab.Roundcube
	put       func(message []byte) error // lays it into the person's mailbox
}

// gateBehind has the gateway listen on the port behind that of the first page, unless that
// is any port, or somebody else listens there.
func (d *daemon) gateBehind(first int) {
	if first == 0 {
		return
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+1))
	if err == nil && listener.Close() == nil {
		d.gate = first + 1
	}
}

// addRoundcube starts Roundcube and nginx by what letterlockd prints for them.
func (p *pair) addRoundcube(ctx context.Context, ca *lab.CA, d *daemon, dovecot *lab.Dovecot) error {
	conf, err := d.run(ctx, "config", "roundcube")
	if err != nil {
		return err
	}
	site, err := d.run(ctx, "config", "nginx", "--fpm", "@fpm@")
	if err != nil {
		return err
	}
	roundcube, err := lab.StartRoundcube(ctx, lab.RoundcubeOptions{
		CA: ca, Dovecot: dovecot, SMTP: p.smtp.Port, Port: d.roundcube, Site: site,
		Config: "?>" + conf, // what is printed is a file of its own, and begins with <?php
	})
	if err != nil {
		return err
	}
	p.stops = append(p.stops, roundcube.Stop)
	p.web = &webmail{roundcube: roundcube, put: func(message []byte) error { return dovecot.Put(address, message) }}
	return nil
}

// webMail is line 6: who is signed in to the portal opens the web mail, and is in. Without
// Roundcube there is no such line.
func (s *story) webMail(ctx context.Context) error {
	w := s.servers.webmail()
	if w == nil {
		return nil
	}
	gate := s.daemon.gateway()
	s.lines.begin("6 Web mail", gate+"  ", false)
	subject := "Welcome to web mail " + rand.Text()
	if err := w.put([]byte("From: " + address + "\nTo: " + address + "\nSubject: " + subject + "\n\nNobody typed a password.\n")); err != nil {
		return fmt.Errorf("lay a message into the mailbox: %w", err)
	}
	if err := s.surfer.reads(ctx, gate, subject); err != nil {
		said := w.roundcube.Log()
		return fmt.Errorf("web mail: %w; Roundcube: %s", err, strings.Join(said[max(0, len(said)-3):], "; "))
	}
	if err := s.surfer.noDoors(ctx, gate); err != nil {
		return fmt.Errorf("web mail: %w", err)
	}
	if err := strangerSignsIn(ctx, gate); err != nil {
		return fmt.Errorf("web mail: %w", err)
	}
	files, err := w.roundcube.Files()
	if err != nil {
		return fmt.Errorf("look through what Roundcube keeps: %w", err)
	}
	if err := noToken(files); err != nil {
		return err
	}
	return s.lines.end("inbox open, no password form")
}

// reads opens the inbox, and asks for its list as Roundcube's own script does.
func (s *surfer) reads(ctx context.Context, gate, subject string) error {
	if err := s.open(ctx, gate+"/?_task=mail&_mbox=INBOX"); err != nil {
		return err
	}
	if at := "http://" + s.at.Host; at != gate {
		return fmt.Errorf("who is signed in to the portal is sent to %s", at)
	}
	token, err := inboxOpen(s.page)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, gate+"/?_task=mail&_action=list&_mbox=INBOX&_remote=1", nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Requested-With", "XMLHttpRequest")
	req.Header.Set("X-Roundcube-Request", token)
	if err := s.do(req); err != nil {
		return err
	}
	if !strings.Contains(s.page, `"action":"list"`) || !strings.Contains(s.page, subject) {
		return errors.New("the list of the inbox lacks the message that lies there")
	}
	return nil
}

// inboxOpen reads a page of Roundcube: it is that of the inbox, and has no place for a
// password.
func inboxOpen(page string) (token string, err error) {
	if passwordForm(page) {
		return "", errors.New("there is a form for a password")
	}
	if !strings.Contains(page, `"task":"mail"`) || !strings.Contains(page, `id="messagelist"`) {
		return "", errors.New("the page is not that of the inbox")
	}
	found := regexp.MustCompile(`"request_token":"([A-Za-z0-9]+)"`).FindStringSubmatch(page)
	if found == nil {
		return "", errors.New("the page has no request token")
	}
	return found[1], nil
}

// passwordForm knows any field for a password, and Roundcube's by its name.
func passwordForm(page string) bool {
	return regexp.MustCompile(`(?i)type\s*=\s*["']?password|name\s*=\s*["']?_pass\b|["']login-?form["']`).MatchString(page)
}

// noDoors tries the ways to Roundcube's own login, signed in: none leads there.
func (s *surfer) noDoors(ctx context.Context, gate string) error {
	login := url.Values{"_user": {address}, "_pass": {"guessed"}}
	form := url.Values{"_task": {"login"}, "_action": {"login"}, "_user": {address}, "_pass": {"guessed"}}
	for _, door := range []struct {
		method, path string
		form         url.Values
		status       int
	}{
		{http.MethodGet, "/?_task=login", nil, http.StatusSeeOther}, // to the start page, which is the inbox
		{http.MethodPost, "/?_task=login&_action=login", login, http.StatusNotFound},
		{http.MethodPost, "/", form, http.StatusForbidden},
	} {
		req, err := http.NewRequestWithContext(ctx, door.method, gate+door.path, strings.NewReader(door.form.Encode()))
		if err != nil {
			return err
		}
		if door.form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", gate)
			req.Header.Set("Sec-Fetch-Site", "same-origin")
		}
		status, page, err := s.first(req)
		switch {
		case err != nil:
			return err
		case status != door.status:
			return fmt.Errorf("%s %s answered %d, want %d", door.method, door.path, status, door.status)
		case passwordForm(page):
			return fmt.Errorf("%s %s shows a form for a password", door.method, door.path)
		}
	}
	if err := s.open(ctx, gate+"/?_task=login"); err != nil {
		return err
	}
	_, err := inboxOpen(s.page)
	return err
}

// first is the first answer, wherever that leads on.
func (s *surfer) first(req *http.Request) (status int, page string, err error) {
	client := *s.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("open page: %w", withoutQuery(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, "", fmt.Errorf("read page: %w", err)
	}
	return resp.StatusCode, string(body), nil
}

// strangerSignsIn opens the web mail, and Roundcube's login, in a browser that nobody has
// signed in with: both lead to where GitHub stands.
func strangerSignsIn(ctx context.Context, gate string) error {
	for _, path := range []string{"/", "/?_task=login"} {
		s, err := newSurfer()
		if err != nil {
			return err
		}
		if err := s.open(ctx, gate+path); err != nil {
			return err
		}
		if _, ok := formTo(s.page, "/decide"); !ok || passwordForm(s.page) {
			return fmt.Errorf("%s: a stranger is not asked to sign in, but sees %s", path, s.at.Path)
		}
	}
	return nil
}

// noToken looks through what Roundcube keeps: the token of minutes lies open nowhere.
func noToken(files map[string][]byte) error {
	if len(files) == 0 {
		return errors.New("nothing of what Roundcube keeps was found")
	}
	for path, data := range files {
		if bytes.Contains(data, []byte("llat_")) {
			return fmt.Errorf("web mail's token lies open in %s", filepath.Base(path))
		}
	}
	return nil
}

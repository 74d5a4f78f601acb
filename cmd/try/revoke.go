package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// revoke is line 7: a session is open, the person takes the program's right away in the
// portal, the session ends, and the same token opens no other.
func (s *story) revoke(ctx context.Context) error {
	s.lines.begin("7 Revoke", "click Revoke at "+s.daemon.url+"  ", !s.Once)
	token, _, err := s.goodToken(ctx, "token", address)
	if err != nil {
		return err
	}
	for {
		session, err := s.openIdle(ctx, token)
		if err != nil {
			return err
		}
		if s.Once {
			if err = s.surfer.open(ctx, s.daemon.url+"/"); err == nil {
				err = s.surfer.revoke(ctx, "Read")
			}
		} else {
			_ = s.Open(ctx, s.daemon.url)
		}
		var ended time.Time
		if err == nil {
			ended, err = session.wait(ctx, !s.Once)
		}
		_ = session.conn.Close()
		if err != nil {
			return err
		}
		again, err := s.openIdle(ctx, token)
		var refused *upstream.AuthError
		switch {
		case errors.As(err, &refused) && !refused.Temporary:
			after, err := s.revokedAt(ctx)
			if err != nil {
				return err
			}
			return s.lines.end(fmt.Sprintf("IMAP session ended after %.2f s, next login REFUSED", ended.Sub(after).Seconds()))
		case err != nil:
			return fmt.Errorf("the next login did not fail as it should: %w", err)
		case s.Once:
			return errors.Join(errors.New("the revoked token logs in"), again.conn.Close())
		}
		// The person has taken another right away. All sessions end with any of them, and
		// who still has a right comes back.
		_ = again.conn.Close()
	}
}

// An idle is an IMAP session that waits for news (RFC 2177).
type idle struct {
	conn *upstream.Conn
	in   *bufio.Reader
}

func (s *story) imap() provider.MailServer {
	for _, end := range s.servers.ends() {
		if end.protocol == upstream.IMAP {
			return end.server
		}
	}
	return provider.MailServer{}
}

func (s *story) openIdle(ctx context.Context, token string) (*idle, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := upstream.Dial(ctx, upstream.IMAP, s.imap(), upstream.Options{TLS: s.ca.Client()})
	if err != nil {
		return nil, err
	}
	if err := conn.Authenticate(ctx, upstream.Login{User: address, Mechanisms: []string{sasl.XOAuth2}, Token: secret.New(token)}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	i := &idle{conn: conn, in: bufio.NewReader(conn)}
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	for _, step := range [][2]string{{"i1 SELECT INBOX", "i1 OK"}, {"i2 IDLE", "+"}} {
		if err := i.say(step[0], step[1]); err != nil {
			return nil, errors.Join(fmt.Errorf("IMAP %s: %w", step[0][3:], err), conn.Close())
		}
	}
	return i, nil
}

func (i *idle) say(line, want string) error {
	if _, err := fmt.Fprintf(i.conn, "%s\r\n", line); err != nil {
		return err
	}
	for {
		reply, err := i.in.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(reply, want):
			return nil
		case !strings.HasPrefix(reply, "* "):
			return fmt.Errorf("the server answers %q", strings.TrimSpace(reply))
		}
	}
}

// wait returns when the server has ended the session. A person may take an hour to click.
func (i *idle) wait(ctx context.Context, person bool) (time.Time, error) {
	limit := patience
	if person {
		limit = time.Hour
	}
	_ = i.conn.SetDeadline(time.Now().Add(limit))
	stop := context.AfterFunc(ctx, func() { _ = i.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		_, err := i.in.ReadString('\n')
		var late interface{ Timeout() bool }
		switch {
		case ctx.Err() != nil:
			return time.Time{}, ctx.Err()
		case errors.As(err, &late) && late.Timeout():
			return time.Time{}, errors.New("the session goes on after the revocation")
		case err != nil:
			return time.Now(), nil
		}
	}
}

// revoke takes away the right of the program whose card says what it may do. That of the
// web mail says the same, and is not meant.
func (s *surfer) revoke(ctx context.Context, may string) error {
	for _, card := range strings.Split(s.page, `<li class="card`) {
		if form, ok := formTo(card, "/grants/revoke"); ok && strings.Contains(card, may) && !strings.Contains(card, "the program "+webmailTitle+`"`) {
			return s.send(ctx, "/grants/revoke", form)
		}
	}
	return fmt.Errorf("portal: it shows no program that may %q and could be revoked", may)
}

// revokedAt is when the last right was taken away, as the audit trail has it.
func (s *story) revokedAt(ctx context.Context) (time.Time, error) {
	out, err := s.daemon.run(ctx, "audit", "list", "--kind", "grant.revoked", "--json")
	if err != nil {
		return time.Time{}, err
	}
	var events []struct {
		At time.Time `json:"at"`
	}
	if err := json.Unmarshal([]byte(out), &events); err != nil || len(events) == 0 {
		return time.Time{}, errors.New("the audit trail has no revocation")
	}
	return events[0].At, nil
}

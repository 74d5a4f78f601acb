package database

import (
	"context"
	"slices"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const sessionColumns = `s.id, s.person, s.admin, s.proved, s.how, s.agent, s.origin, s.created, s.seen, s.expires, s.upstream, s.factor`

func sessionInto(s *identity.Session) []any {
	return []any{digest{&s.ID}, &s.Person, &s.Admin, stamp{&s.Proved}, &s.How, &s.Agent, addr{&s.From},
		stamp{&s.Created}, stamp{&s.Seen}, stamp{&s.Expires}, &s.Upstream, &s.Factor}
}

// AddSession keeps a browser that signed in. A disabled person gets ErrRevoked.
func (db *DB) AddSession(ctx context.Context, s identity.Session) error {
	return db.write(ctx, "add session", func(tx *tx) error {
		if err := tx.livingPerson(s.Person, true); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO session (id, person, admin, proved, how, agent, origin, created, seen, expires, upstream, factor)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			s.ID[:], string(s.Person), s.Admin, micros(s.Proved), s.How, s.Agent, addrText(s.From),
			micros(s.Created), micros(s.Seen), micros(s.Expires), s.Upstream, string(s.Factor))
		return err
	})
}

// Session finds a session that has not expired, and whose it is.
func (db *DB) Session(ctx context.Context, id identity.SessionID, now time.Time) (identity.Session, identity.Person, error) {
	var s identity.Session
	var p identity.Person
	err := db.one(ctx, "find session", `SELECT `+sessionColumns+`, `+personColumns+`
		FROM session s JOIN person p ON p.id = s.person WHERE s.id = $1 AND s.expires > $2`,
		[]any{id[:], micros(now)}, append(sessionInto(&s), personInto(&p)...)...)
	return s, p, err
}

// TouchSession notes when the browser was last seen; a power cut may forget it.
func (db *DB) TouchSession(ctx context.Context, id identity.SessionID, at time.Time) error {
	return db.softly(ctx, "touch session", func(tx *tx) error {
		return tx.must(`UPDATE session SET seen = CASE WHEN seen < $2 THEN $2 ELSE seen END WHERE id = $1`, id[:], micros(at))
	})
}

// EndSession signs a browser out. One that is not there has been signed out already.
func (db *DB) EndSession(ctx context.Context, id identity.SessionID) error {
	return db.endSessions(ctx, `DELETE FROM session WHERE id = $1`, id[:])
}

// EndSessions signs a person out everywhere.
func (db *DB) EndSessions(ctx context.Context, person identity.PersonID) error {
	return db.endSessions(ctx, `DELETE FROM session WHERE person = $1`, string(person))
}

// EndUpstream ends what came of one session at an identity provider (OpenID Connect
// Back-Channel Logout 1.0 section 2.7), and says whose it was: a logout need not name them.
func (db *DB) EndUpstream(ctx context.Context, issuerAndSid string) ([]identity.PersonID, error) {
	var whose []identity.PersonID
	err := db.write(ctx, "end sessions", func(tx *tx) error {
		whose = nil
		err := tx.all(`DELETE FROM session WHERE upstream = $1 AND upstream <> '' RETURNING person`, []any{issuerAndSid}, func(scan func(...any) error) error {
			var one identity.PersonID
			if err := scan(&one); err != nil {
				return err
			}
			if !slices.Contains(whose, one) {
				whose = append(whose, one)
			}
			return nil
		})
		tx.ended = tx.ended || len(whose) > 0
		return err
	})
	if err != nil {
		return nil, err
	}
	return whose, nil
}

func (db *DB) endSessions(ctx context.Context, text string, arg any) error {
	return db.write(ctx, "end sessions", func(tx *tx) error {
		n, err := tx.exec(text, arg)
		tx.ended = tx.ended || n > 0
		return err
	})
}

// Sessions lists a person's sessions, the newest first, expired ones until they are swept.
func (db *DB) Sessions(ctx context.Context, person identity.PersonID) ([]identity.Session, error) {
	var sessions []identity.Session
	err := db.list(ctx, "list sessions", `SELECT `+sessionColumns+` FROM session s WHERE s.person = $1 ORDER BY s.created DESC, s.id`,
		[]any{string(person)}, func() { sessions = nil }, func(scan func(...any) error) error {
			var s identity.Session
			err := scan(sessionInto(&s)...)
			sessions = append(sessions, s)
			return err
		})
	return sessions, err
}

package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const mailSessionColumns = `m.id, m.gateway, m.person, m.began, m.consent, m.created, m.seen, m.expires`

func mailSessionInto(m *identity.MailSession) []any {
	return []any{digest{&m.ID}, &m.Gateway, &m.Person, stamp{&m.Began}, &m.Grant, stamp{&m.Created}, stamp{&m.Seen}, stamp{&m.Expires}}
}

// standing is what a mail session stands on: the sign-in, by whatever id its session has
// now, and the consent.
const standing = `JOIN session s ON s.person = m.person AND s.created = m.began JOIN consent g ON g.id = m.consent AND g.revoked = 0`

// OpenMailSession keeps a browser at a gateway. The consent is the person's consent for that
// gateway that is in force; without one, grant is kept as a new one. ErrNotFound while the
// sign-in it is to stand on is over, ErrRevoked for a disabled person.
func (db *DB) OpenMailSession(ctx context.Context, m identity.MailSession, grant identity.Grant) (identity.MailSession, error) {
	err := db.write(ctx, "open mail session", func(tx *tx) error {
		if err := tx.livingPerson(m.Person, true); err != nil {
			return err
		}
		there, err := tx.there(`SELECT 1 FROM session WHERE person = $1 AND created = $2 AND expires > $3 LIMIT 1`,
			string(m.Person), micros(m.Began), micros(m.Created))
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("the sign-in: %w", identity.ErrNotFound)
		}
		var id string
		switch err := tx.one(`SELECT id FROM consent WHERE person = $1 AND client = $2 AND revoked = 0 ORDER BY created LIMIT 1`,
			[]any{string(m.Person), string(grant.Client)}, &id); {
		case err == nil:
			m.Grant = identity.GrantID(id)
		case errors.Is(err, sql.ErrNoRows):
			m.Grant = grant.ID
			if err := tx.addGrant(grant); err != nil {
				return err
			}
		default:
			return err
		}
		_, err = tx.exec(`INSERT INTO mail_session (id, gateway, person, began, consent, created, seen, expires) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			m.ID[:], m.Gateway, string(m.Person), micros(m.Began), string(m.Grant), micros(m.Created), micros(m.Seen), micros(m.Expires))
		return err
	})
	return m, err
}

// MailSession finds a browser at a gateway that may go on, and whose it is: neither it nor
// its sign-in has ended, and its consent is in force.
func (db *DB) MailSession(ctx context.Context, id identity.Digest, now time.Time) (identity.MailSession, identity.Person, error) {
	var m identity.MailSession
	var p identity.Person
	err := db.one(ctx, "find mail session", `SELECT `+mailSessionColumns+`, `+personColumns+`
		FROM mail_session m `+standing+` JOIN person p ON p.id = m.person
		WHERE m.id = $1 AND m.expires > $2 AND s.expires > $2 LIMIT 1`,
		[]any{id[:], micros(now)}, append(mailSessionInto(&m), personInto(&p)...)...)
	return m, p, err
}

// TouchMailSession notes when the browser was last seen at the gateway. That is a use of
// its sign-in too: who reads mail all day is not idle.
func (db *DB) TouchMailSession(ctx context.Context, id identity.Digest, at time.Time) error {
	return db.softly(ctx, "touch mail session", func(tx *tx) error {
		if err := tx.must(`UPDATE mail_session SET seen = CASE WHEN seen < $2 THEN $2 ELSE seen END WHERE id = $1`, id[:], micros(at)); err != nil {
			return err
		}
		_, err := tx.exec(`UPDATE session SET seen = $2 WHERE seen < $2 AND EXISTS
			(SELECT 1 FROM mail_session m WHERE m.id = $1 AND m.person = session.person AND m.began = session.created)`, id[:], micros(at))
		return err
	})
}

// IssueMail keeps an access token for a mail session that may go on; ErrNotFound for others.
func (db *DB) IssueMail(ctx context.Context, session identity.Digest, access identity.AccessToken) error {
	return db.write(ctx, "issue mail token", func(tx *tx) error {
		there, err := tx.there(`SELECT 1 FROM mail_session m `+standing+` WHERE m.id = $1 AND m.consent = $2 AND m.expires > $3 LIMIT 1`,
			session[:], string(access.Grant), micros(access.Issued))
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("mail session: %w", identity.ErrNotFound)
		}
		if err := tx.addAccess(access); err != nil {
			return err
		}
		_, err = tx.exec(`INSERT INTO mail_token (digest, mail_session, expires) VALUES ($1, $2, $3)`, access.Digest[:], session[:], micros(access.Expires))
		return err
	})
}

// EndMailSession signs a browser out of the gateway: its tokens end, and with signIn also
// the sign-in that it stood on. The consent stays for the person's other browsers. One that
// is not there has been ended already.
func (db *DB) EndMailSession(ctx context.Context, id identity.Digest, at time.Time, signIn bool) error {
	return db.write(ctx, "end mail session", func(tx *tx) error {
		tx.ended = true
		if signIn {
			if _, err := tx.exec(`DELETE FROM session WHERE EXISTS
				(SELECT 1 FROM mail_session m WHERE m.id = $1 AND m.person = session.person AND m.began = session.created)`, id[:]); err != nil {
				return err
			}
		}
		if _, err := tx.exec(`UPDATE access_token SET revoked = $2 WHERE revoked = 0 AND digest IN (SELECT digest FROM mail_token WHERE mail_session = $1)`,
			id[:], micros(at)); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM mail_token WHERE mail_session = $1`, id[:]); err != nil {
			return err
		}
		_, err := tx.exec(`DELETE FROM mail_session WHERE id = $1`, id[:])
		return err
	})
}

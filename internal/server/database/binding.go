package database

import (
	"context"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const bindingColumns = `issuer, subject, person, shown, bound, checked`

func bindingInto(b *identity.Binding) []any {
	return []any{&b.Issuer, &b.Subject, &b.Person, &b.Shown, stamp{&b.Bound}, stamp{&b.Checked}}
}

// Bind ties an account at a provider to a person; ErrExists when it is tied to anybody,
// for that is never changed by a sign-in.
func (db *DB) Bind(ctx context.Context, b identity.Binding) error {
	if b.Issuer == "" || b.Subject == "" {
		return fmt.Errorf("binding without issuer or subject: %w", identity.ErrInvalid)
	}
	return db.write(ctx, "bind", func(tx *tx) error {
		if err := tx.livingPerson(b.Person, false); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO binding (`+bindingColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
			b.Issuer, b.Subject, string(b.Person), b.Shown, micros(b.Bound), micros(b.Checked))
		return err
	})
}

// livingPerson gives ErrNotFound for nobody, and for a disabled person ErrRevoked when
// only an enabled one will do.
func (t *tx) livingPerson(id identity.PersonID, enabled bool) error {
	var disabled int64
	err := t.one(`SELECT disabled FROM person WHERE id = $1`, []any{string(id)}, &disabled)
	if err == nil && enabled && disabled != 0 {
		return fmt.Errorf("person: %w", identity.ErrRevoked)
	}
	return err
}

// Binding finds the binding of an account.
func (db *DB) Binding(ctx context.Context, issuer, subject string) (identity.Binding, error) {
	var b identity.Binding
	err := db.one(ctx, "find binding", `SELECT `+bindingColumns+` FROM binding WHERE issuer = $1 AND subject = $2`,
		[]any{issuer, subject}, bindingInto(&b)...)
	return b, err
}

// Bindings lists the accounts of a person.
func (db *DB) Bindings(ctx context.Context, person identity.PersonID) ([]identity.Binding, error) {
	var bindings []identity.Binding
	err := db.list(ctx, "list bindings", `SELECT `+bindingColumns+` FROM binding WHERE person = $1 ORDER BY issuer, subject`,
		[]any{string(person)}, func() { bindings = nil }, func(scan func(...any) error) error {
			var b identity.Binding
			err := scan(bindingInto(&b)...)
			bindings = append(bindings, b)
			return err
		})
	return bindings, err
}

// Unbind removes a binding: the account signs nobody in any more.
func (db *DB) Unbind(ctx context.Context, issuer, subject string) error {
	return db.write(ctx, "unbind", func(tx *tx) error {
		tx.ended = true
		for _, text := range []string{`DELETE FROM upstream_grant WHERE issuer = $1 AND subject = $2`, `DELETE FROM leaver WHERE issuer = $1 AND subject = $2`} {
			if _, err := tx.exec(text, issuer, subject); err != nil {
				return err
			}
		}
		return tx.must(`DELETE FROM binding WHERE issuer = $1 AND subject = $2`, issuer, subject)
	})
}

// Confirm notes that the provider still vouches for the account; time does not go back.
func (db *DB) Confirm(ctx context.Context, issuer, subject string, at time.Time) error {
	return db.write(ctx, "confirm binding", func(tx *tx) error {
		return tx.must(`UPDATE binding SET checked = CASE WHEN checked < $3 THEN $3 ELSE checked END
			WHERE issuer = $1 AND subject = $2`, issuer, subject, micros(at))
	})
}

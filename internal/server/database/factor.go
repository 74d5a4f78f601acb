package database

import (
	"context"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const passkeyColumns = `k.id, k.person, k.name, k.public_key, k.counter, k.synced, k.saved, k.transports, k.created, k.last_use, k.last_from`

func passkeyInto(k *identity.Passkey) []any {
	return []any{&k.ID, &k.Person, &k.Name, &k.PublicKey, &k.Count, &k.Synced, &k.Saved, list[string]{&k.Transports, bySpace},
		stamp{&k.Created}, stamp{&k.LastUse}, addr{&k.LastFrom}}
}

// AddPasskey keeps a new passkey. ErrExists: it is somebody's already. A disabled person
// gets none.
func (db *DB) AddPasskey(ctx context.Context, k identity.Passkey) error {
	transports, err := joined(k.Transports, bySpace)
	if err == nil && (len(k.ID) == 0 || len(k.PublicKey) == 0) {
		err = fmt.Errorf("passkey without id or key: %w", identity.ErrInvalid)
	}
	if err != nil {
		return fmt.Errorf("add passkey: %w", err)
	}
	return db.write(ctx, "add passkey", func(tx *tx) error {
		if err := tx.livingPerson(k.Person, true); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO passkey (id, person, name, public_key, counter, synced, saved, transports, created, last_use, last_from)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			k.ID, string(k.Person), k.Name, k.PublicKey, int64(k.Count), k.Synced, k.Saved, transports,
			micros(k.Created), micros(k.LastUse), addrText(k.LastFrom))
		return err
	})
}

// Passkey finds a passkey by the id that its device gave it, and whose it is.
func (db *DB) Passkey(ctx context.Context, id []byte) (identity.Passkey, identity.Person, error) {
	var k identity.Passkey
	var p identity.Person
	err := db.one(ctx, "find passkey", `SELECT `+passkeyColumns+`, `+personColumns+`
		FROM passkey k JOIN person p ON p.id = k.person WHERE k.id = $1`,
		[]any{bytesOf(id)}, append(passkeyInto(&k), personInto(&p)...)...)
	return k, p, err
}

// UsePasskey notes a good answer. ErrDecided: the device's counter has not gone on since the
// last one, so that there are two devices with one key, or one answer twice (WebAuthn level 3
// section 6.1.1); devices without a counter always say zero. A disabled person's is ErrRevoked.
func (db *DB) UsePasskey(ctx context.Context, use identity.PasskeyUse) error {
	return db.write(ctx, "use passkey", func(tx *tx) error {
		var person string
		if err := tx.one(`SELECT person FROM passkey WHERE id = $1`, []any{bytesOf(use.ID)}, &person); err != nil {
			return err
		}
		if err := tx.livingPerson(identity.PersonID(person), true); err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE passkey SET counter = $2, saved = $3, last_use = $4, last_from = $5
			WHERE id = $1 AND (counter < $2 OR (counter = 0 AND $2 = 0))`,
			bytesOf(use.ID), int64(use.Count), use.Saved, micros(use.At), addrText(use.From))
		return decided(n, err, "counter of a passkey")
	})
}

// decided is for updates that are made once: no row was left to change.
func decided(n int64, err error, what string) error {
	if err == nil && n == 0 {
		return fmt.Errorf("%s: %w", what, identity.ErrDecided)
	}
	return err
}

// RemovePasskey takes a passkey away from its person.
func (db *DB) RemovePasskey(ctx context.Context, person identity.PersonID, id []byte) error {
	return db.write(ctx, "remove passkey", func(tx *tx) error {
		if err := tx.must(`DELETE FROM passkey WHERE id = $2 AND person = $1`, string(person), bytesOf(id)); err != nil {
			return err
		}
		return tx.unprove(person)
	})
}

// unprove: what a browser proved with a factor that is gone counts no more.
func (t *tx) unprove(person identity.PersonID) error {
	t.ended = true
	_, err := t.exec(`UPDATE session SET admin = $2, factor = '' WHERE person = $1`, string(person), false)
	return err
}

// PutTOTP keeps a person's authenticator app in place of the one before.
func (db *DB) PutTOTP(ctx context.Context, o identity.TOTP) error {
	if len(o.Sealed) == 0 {
		return fmt.Errorf("put totp: no seed: %w", identity.ErrInvalid)
	}
	return db.write(ctx, "put totp", func(tx *tx) error {
		if err := tx.livingPerson(o.Person, true); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO totp (person, sealed, step, created, last_use) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (person) DO UPDATE SET sealed = $2, step = $3, created = $4, last_use = $5`,
			string(o.Person), o.Sealed, o.Step, micros(o.Created), micros(o.LastUse))
		return err
	})
}

// UseTOTP spends a time step and all before it. ErrDecided: it was spent.
func (db *DB) UseTOTP(ctx context.Context, person identity.PersonID, step int64, at time.Time) error {
	return db.write(ctx, "use totp", func(tx *tx) error {
		if err := tx.livingPerson(person, true); err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE totp SET step = $2, last_use = $3 WHERE person = $1 AND step < $2`, string(person), step, micros(at))
		return decided(n, err, "time step")
	})
}

// RemoveTOTP takes a person's authenticator app away.
func (db *DB) RemoveTOTP(ctx context.Context, person identity.PersonID) error {
	return db.write(ctx, "remove totp", func(tx *tx) error {
		if err := tx.must(`DELETE FROM totp WHERE person = $1`, string(person)); err != nil {
			return err
		}
		return tx.unprove(person)
	})
}

// PutRecovery keeps a new set of recovery codes; those before are worth nothing. An empty
// set leaves none.
func (db *DB) PutRecovery(ctx context.Context, person identity.PersonID, codes []identity.Digest, at time.Time) error {
	return db.write(ctx, "put recovery codes", func(tx *tx) error {
		if err := tx.livingPerson(person, true); err != nil {
			return err
		}
		tx.ended = true
		if _, err := tx.exec(`DELETE FROM recovery_code WHERE person = $1`, string(person)); err != nil {
			return err
		}
		for _, code := range codes {
			if _, err := tx.exec(`INSERT INTO recovery_code (person, digest, created, used) VALUES ($1, $2, $3, 0)`,
				string(person), code[:], micros(at)); err != nil {
				return err
			}
		}
		return nil
	})
}

// UseRecovery spends a recovery code. ErrNotFound: it is none of the person's, or spent.
func (db *DB) UseRecovery(ctx context.Context, person identity.PersonID, code identity.Digest, at time.Time) error {
	return db.write(ctx, "use recovery code", func(tx *tx) error {
		if err := tx.livingPerson(person, true); err != nil {
			return err
		}
		return tx.must(`UPDATE recovery_code SET used = $3 WHERE person = $1 AND digest = $2 AND used = 0`,
			string(person), code[:], micros(at))
	})
}

// RemoveFactors takes all that a person has away, a disabled one's too.
func (db *DB) RemoveFactors(ctx context.Context, person identity.PersonID) error {
	return db.write(ctx, "remove factors", func(tx *tx) error {
		for _, text := range []string{`DELETE FROM passkey WHERE person = $1`, `DELETE FROM totp WHERE person = $1`, `DELETE FROM recovery_code WHERE person = $1`} {
			if _, err := tx.exec(text, string(person)); err != nil {
				return err
			}
		}
		return tx.unprove(person)
	})
}

// Factors are all that a person has, the oldest passkey first. Nobody has none.
func (db *DB) Factors(ctx context.Context, person identity.PersonID) (identity.Factors, error) {
	var f identity.Factors
	err := db.snapshot(ctx, "list factors", func(tx *tx) error {
		f = identity.Factors{}
		args := []any{string(person)}
		err := tx.all(`SELECT `+passkeyColumns+` FROM passkey k WHERE k.person = $1 ORDER BY k.created, k.id`, args, func(scan func(...any) error) error {
			var k identity.Passkey
			err := scan(passkeyInto(&k)...)
			f.Passkeys = append(f.Passkeys, k)
			return err
		})
		if err != nil {
			return err
		}
		err = tx.all(`SELECT person, sealed, step, created, last_use FROM totp WHERE person = $1`, args, func(scan func(...any) error) error {
			f.TOTP = &identity.TOTP{}
			return scan(&f.TOTP.Person, &f.TOTP.Sealed, &f.TOTP.Step, stamp{&f.TOTP.Created}, stamp{&f.TOTP.LastUse})
		})
		if err != nil {
			return err
		}
		return tx.all(`SELECT created, used FROM recovery_code WHERE person = $1`, args, func(scan func(...any) error) error {
			var used time.Time
			err := scan(stamp{&f.RecoveryMade}, stamp{&used})
			if used.IsZero() {
				f.Recovery++
			}
			return err
		})
	})
	return f, err
}

// Admins are the administrators who are not disabled, at most a hundred.
func (db *DB) Admins(ctx context.Context) ([]identity.Person, error) {
	var people []identity.Person
	err := db.list(ctx, "list administrators", `SELECT `+personColumns+` FROM person p WHERE p.admin AND p.disabled = 0 ORDER BY p.address LIMIT 100`,
		nil, func() { people = nil }, func(scan func(...any) error) error {
			var p identity.Person
			err := scan(personInto(&p)...)
			people = append(people, p)
			return err
		})
	return people, err
}

// ReadOnce returns what TakeOnce would, and leaves it there.
func (db *DB) ReadOnce(ctx context.Context, digest identity.Digest, kind string, now time.Time) ([]byte, error) {
	var data []byte
	err := db.one(ctx, "read once", `SELECT data FROM once WHERE digest = $1 AND kind = $2 AND expires > $3`,
		[]any{digest[:], kind, micros(now)}, &data)
	return data, err
}

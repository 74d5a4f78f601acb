//go:build lab && long

package database

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Seven thousand people, with an app password each, are a hundred thousand rows: a revocation reaches the file without
// a look at everybody.
func TestViewFileOfMany(t *testing.T) {
	const many = 7_000 // of whom the views show 105,000 rows
	place, file := filepath.Join(t.TempDir(), "db"), filepath.Join(t.TempDir(), "mail.db")
	db := openViews(t, place, "")
	err := db.attempt(t.Context(), db.writes, db.engine.options, true, func(tx *tx) error {
		for n := range many {
			name := fmt.Sprintf("p%06d", n)
			if _, err := tx.exec(`INSERT INTO person (id, address, name, admin, created, disabled, reason) VALUES ($1, $2, '', $3, 1, 0, '')`, name, name+"@example.org", false); err != nil {
				return err
			}
			if _, err := tx.exec(`INSERT INTO address (address, targets) VALUES ($1, '')`, name+"@example.org"); err != nil {
				return err
			}
			if _, err := tx.exec(`INSERT INTO address_owner (address, person, may_login, may_send) VALUES ($1, $2, $3, $3)`, name+"@example.org", name, true); err != nil {
				return err
			}
			if _, err := tx.exec(`INSERT INTO credential (id, person, selector, hash, name, login, label, protocols, networks, senders, recipients,
				per_hour, limited, created, expires, revoked, reason, last_use, last_from, last_protocol)
				VALUES ($1, $1, $1, $2, 'phone', $3, '', '', '', '', '', 0, $4, 1, 0, 0, '', 0, '', '')`, name, "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$"+name,
				identity.LoginName(name+"@example.org", "phone"), false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	files := openViews(t, place, file)
	made := time.Since(begin)
	if err := files.AddPerson(t.Context(), identity.Person{ID: "first", Address: "first@example.org"}); err != nil { // the first change has a mark
		t.Fatal(err)
	}
	files.views.distrust, files.views.shown = true, 0
	begin = time.Now()
	if err := files.SyncViews(t.Context()); err != nil {
		t.Fatal(err)
	}
	compared := time.Since(begin)
	// Who looks at everybody takes away what the views do not show.
	if _, err := files.views.pool.ExecContext(t.Context(), `INSERT INTO postfix_recipient VALUES ('planted@example.org', 'x')`); err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for n := range 51 {
		begin := time.Now()
		if err := files.RevokeCredential(t.Context(), identity.CredentialID(fmt.Sprintf("p%06d", n*100)), time.Now(), "lost"); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	begin = time.Now()
	command := openViews(t, place, file)
	opened := time.Since(begin)
	t.Logf("%d people: file made in %v, compared whole in %v; a revocation %v (median; worst %v), a command's opening %v", many, made, compared, took[25], took[50], opened)
	var planted int
	if err := command.views.pool.QueryRowContext(t.Context(), `SELECT count(*) FROM postfix_recipient WHERE address = 'planted@example.org'`).Scan(&planted); err != nil || planted != 1 {
		t.Errorf("a change had everybody looked at: %v", err)
	}
	files.views.distrust, files.views.shown = true, 0
	if err := files.SyncViews(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want, have := shownRows(t, command.reads), shownRows(t, command.views.pool); !slices.Equal(want, have) {
		t.Errorf("%d rows in the file, want %d", len(have), len(want))
	}
}

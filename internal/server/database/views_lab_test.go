//go:build lab

package database_test

import (
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/server/database"
)

// mailRoles makes the two roles and gives them their views.
func mailRoles(t *testing.T, p *lab.Postgres, db *database.DB) {
	t.Helper()
	if _, err := p.SQL(within(t), "postgres", `CREATE ROLE "dove-cot" LOGIN; CREATE ROLE postfix LOGIN`); err != nil {
		t.Fatal(err)
	}
	roles := database.Roles{Dovecot: "dove-cot", Postfix: "postfix"}
	must(t, db.GrantViews(t.Context(), roles))
	must(t, db.GrantViews(t.Context(), roles)) // again does no harm
}

func TestPostgresViews(t *testing.T) {
	p := lab.RunPostgres(t, lab.PostgresOptions{})
	place := newPlace(t, p)
	db := open(t, place, patient())
	mailHouse(t, db)
	mailRoles(t, p, db)
	name := place[strings.LastIndex(place, "/")+1 : strings.Index(place, "?")]
	as := func(role string) ask {
		return func(query string) string {
			t.Helper()
			out, err := p.SQLAs(within(t), role, name, query)
			if err != nil {
				t.Errorf("%s as %s: %v", query, role, err)
			}
			return out
		}
	}
	views(t, as("dove-cot"), as("postfix"))

	// Least rights: neither writes, neither reads a table, and Postfix reads no hash.
	tables := []string{"person", "credential", "session", "refresh_token", "once", "event", "mail_login", "mail_sender", "generation"}
	for _, role := range []string{"dove-cot", "postfix"} {
		for _, table := range tables {
			if out, err := p.SQLAs(within(t), role, name, `SELECT * FROM `+table); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s reads %s: %q, %v", role, table, out, err)
			}
		}
		for _, text := range []string{`DELETE FROM credential`, `UPDATE dovecot_userdb SET username = 'x'`, `INSERT INTO dovecot_userdb VALUES ('a', 'b')`, `CREATE TABLE x (y int)`} {
			if _, err := p.SQLAs(within(t), role, name, text); err == nil {
				t.Errorf("%s may %s", role, text)
			}
		}
	}
	if _, err := p.SQLAs(within(t), "postfix", name, `SELECT password FROM dovecot_passdb`); err == nil {
		t.Error("postfix reads hashes")
	}
	// A function that tells what it sees must not see the rows that the view hides.
	out, err := p.SQLAs(within(t), "dove-cot", name, `CREATE FUNCTION pg_temp.tell(text) RETURNS bool COST 0.0001 LANGUAGE plpgsql AS
		$$BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END$$; SELECT count(*) FROM dovecot_passdb WHERE pg_temp.tell(password)`)
	if err != nil || !strings.Contains(out, "saw") || strings.Contains(out, "argon2id$10") || strings.Contains(out, "argon2id$09") {
		t.Errorf("a function of the role's own: %v\n%s", err, out)
	}
}

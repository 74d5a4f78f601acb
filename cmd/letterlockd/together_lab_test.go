//go:build lab

package main

import (
	"context"
	"database/sql"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

func sabotagePostgres(t *testing.T, url string) *saboteur {
	t.Helper()
	pool, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	s := &saboteur{t, pool, `CREATE TRIGGER no_audit BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION no_audit()`, `DROP TRIGGER no_audit ON event`,
		`SELECT tablename FROM pg_tables WHERE schemaname = 'public'`}
	s.do(`CREATE FUNCTION no_audit() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no audit'; END $$ LANGUAGE plpgsql`)
	return s
}

func TestChangeAndTrailAreOneOnPostgres(t *testing.T) {
	server := lab.RunPostgres(t, lab.PostgresOptions{})
	for name, check := range wholes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), testPatience)
			defer cancel()
			if err := server.NewDatabase(ctx, name); err != nil {
				t.Fatal(err)
			}
			url := server.URL("postgres", name)
			check(t, url, func() *saboteur { return sabotagePostgres(t, url) })
		})
	}
}

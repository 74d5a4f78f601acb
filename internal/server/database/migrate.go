package database

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable is where goose notes what has run.
const versionTable = "letterlock_schema"

// migrateBound is how long the migrations of all instances that start at once may take.
const migrateBound = 5 * time.Minute

// migrate brings the schema up to date. Any number of instances may do it at once without
// an advisory lock: each step begins by claiming its number in a table with a primary key,
// in the transaction that does the work, so that exactly one commits it. The others meet a
// conflict, look again, and find it done.
func (db *DB) migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, migrateBound)
	defer cancel()
	steps, err := db.steps()
	if err != nil {
		return err
	}
	latest := steps[len(steps)-1].Version
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := db.migrateOnce(ctx, steps, latest)
		if err == nil || !conflict(err) && again(err) != contended {
			return explain("migrate", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return explain("migrate", err)
		}
	}
}

func (db *DB) migrateOnce(ctx context.Context, steps []*goose.Migration, latest int64) error {
	pool := db.writes
	if db.o.ReadOnly {
		pool = db.reads
	}
	var version sql.NullInt64
	err := pool.QueryRowContext(ctx, `SELECT max(version_id) FROM `+versionTable).Scan(&version)
	switch {
	case err == nil && version.Int64 == latest:
		return nil
	case err == nil && version.Int64 > latest:
		return fmt.Errorf("schema %d, this letterlockd knows %d: %w", version.Int64, latest, ErrNewer)
	case err != nil && !missingTable(err):
		return err
	case db.o.ReadOnly:
		return &Unavailable{Op: "check the schema", Trouble: Broken, Err: fmt.Errorf("schema is %d, not %d, and the database is opened for reading only", version.Int64, latest)}
	}
	// Racing instances meet in the catalogue here; the one that loses comes again.
	if _, err := pool.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS letterlock_schema_claim (version BIGINT PRIMARY KEY)`); err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.Dialect(db.engine.name), pool, nil, goose.WithGoMigrations(steps...),
		goose.WithDisableGlobalRegistry(true), goose.WithTableName(versionTable), goose.WithSlog(db.o.Log))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// steps reads the embedded files; each is run whole, by one transaction.
func (db *DB) steps() ([]*goose.Migration, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var steps []*goose.Migration
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, err
		}
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			if err := db.unhurried(ctx, tx); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO letterlock_schema_claim (version) VALUES ($1)`, version); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, db.engine.words.Replace(string(text)))
			return err
		}}, nil))
	}
	return steps, nil
}

// unhurried lifts the limits that a server may set: they are meant for a daemon's questions,
// while a step takes its time or waits for another instance's. migrateBound ends it.
func (db *DB) unhurried(ctx context.Context, tx *sql.Tx) error {
	if db.engine.name != postgres {
		return nil
	}
	_, err := tx.ExecContext(ctx, `SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0`)
	return err
}

// conflict reports that another instance does the same at the same time.
func conflict(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return duplicate(err)
	}
	switch pg.Code {
	case "23505", "42P07", "42710": // a key, a table, an object is there already
		return true
	case "57014": // statement_timeout, while another instance made the tables for the steps
		return true
	}
	return false
}

func missingTable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "42P01" // undefined_table
	}
	return sqliteCode(err) == 1 // SQLITE_ERROR: no such table
}

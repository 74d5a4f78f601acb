package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A viewFile is the SQLite file that Dovecot and Postfix read. Reading a SQLite database
// itself would take the right to write its -shm file, and would show everything in it. With
// PostgreSQL each instance can keep a file of its own: it answers while PostgreSQL is away,
// and it stands beside a passdb of tokens, which crashes Dovecot 2.3.19 together with
// driver = pgsql.
//
// The file is changed in place, by transactions: Dovecot's auth workers and Postfix keep it
// open, and a file renamed over it would leave them reading the old one, revoked passwords
// included. It has a rollback journal, no WAL, so that a reader needs the right to read and
// no more.
type viewFile struct {
	pool *sql.DB
	main *sql.DB // the database, for a sync that the caller's context does not end

	mu    sync.Mutex // one sync at a time in this process
	shown int64      // of the database, as the file shows it
	// distrust has the next sync compare the whole file, whatever it says it shows.
	distrust bool
}

// viewTables are copied row by row from the views of the same name. dovecot_passdb is a
// view in the file too, over mail_login, so that a password expires while nobody runs.
func viewTables() []table {
	return []table{
		{name: "mail_login", columns: []column{{name: "login"}, {name: "service"}, {name: "plain"}, {name: "username"}, {name: "password"},
			{name: "allow_nets"}, {name: "expires"}, {name: "created"}, {name: "id"}}},
		{name: "dovecot_userdb", columns: []column{{name: "login"}, {name: "username"}}},
		{name: "postfix_recipient", columns: []column{{name: "address"}, {name: "mailbox"}}},
		{name: "postfix_alias", columns: []column{{name: "address"}, {name: "target"}}},
		{name: "postfix_sender_login", columns: []column{{name: "address"}, {name: "login"}}},
	}
}

func (db *DB) openViewFile(ctx context.Context) error {
	if db.o.ReadOnly {
		return nil
	}
	path, err := filepath.Abs(db.o.ViewFile)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, db.o.ViewMode)
	if err != nil {
		return &Unavailable{Op: "make the view file", Trouble: Gone, Err: err}
	}
	// The mode is said, whatever the process's umask is: a unit's 0077 would shut the mail
	// servers out. Of somebody else's file it is theirs to say.
	if info, err := file.Stat(); err == nil && info.Size() == 0 {
		err = file.Chmod(db.o.ViewMode)
		if err != nil {
			return errors.Join(err, file.Close())
		}
	}
	if err := file.Close(); err != nil {
		return err
	}
	v := &viewFile{main: db.reads, distrust: db.o.ViewCheck}
	if v.pool, err = openLite(path, "rw", 1, "_txlock", "immediate", "_sync", "FULL", "_journal", "DELETE"); err != nil {
		return err
	}
	db.views = v
	if err := v.prepare(ctx, db); err != nil {
		return fmt.Errorf("view file: %w", err)
	}
	return db.SyncViews(ctx)
}

func (v *viewFile) close() error { return v.pool.Close() }

// prepare makes the tables, the view over them, and the note of what the file shows.
func (v *viewFile) prepare(ctx context.Context, db *DB) error {
	return db.repeat(ctx, "prepare", func(ctx context.Context) error {
		tx, err := v.pool.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // after a commit it does nothing
		for _, t := range viewTables() {
			columns := strings.Join(t.head().Columns, ", ")
			text := `CREATE TABLE IF NOT EXISTS ` + t.name + ` (` + columns + `);
				CREATE INDEX IF NOT EXISTS ` + t.name + `_key ON ` + t.name + ` (` + t.columns[0].name + `)`
			if _, err := tx.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		view, err := passdbView()
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS shown (generation BIGINT);
			CREATE TABLE IF NOT EXISTS shown_mark (generation BIGINT, mark TEXT)`); err != nil {
			return err
		}
		var have string
		err = tx.QueryRowContext(ctx, `SELECT sql FROM sqlite_master WHERE type = 'view' AND name = 'dovecot_passdb'`).Scan(&have)
		switch {
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return err
		case have == view:
			// Left alone: to a changed schema Dovecot's next query fails once in each worker,
			// which is somebody's sign-in refused, and every command comes along here.
			return tx.Commit()
		}
		if _, err := tx.ExecContext(ctx, `DROP VIEW IF EXISTS dovecot_passdb; `+view); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// passdbView is the text of the database's own view: it reads the same columns here.
func passdbView() (string, error) {
	text, err := migrations.ReadFile("migrations/0002_views.sql")
	if err != nil {
		return "", err
	}
	const begin = "CREATE VIEW dovecot_passdb AS"
	_, view, _ := strings.Cut(string(text), begin)
	view, _, found := strings.Cut(view, ";")
	if !found {
		return "", errors.New("no view dovecot_passdb in the migrations")
	}
	return sqliteWords().Replace(begin + view), nil
}

// SyncViews makes the view file show what the database holds now. Methods that change what
// it shows call it before they return; it is also for main to call every second, because
// another process (letterlockd's commands) may have changed the database. Without a view
// file, and with nothing new, it does next to nothing.
func (db *DB) SyncViews(ctx context.Context) error {
	v := db.views
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return db.repeat(ctx, "update the view file", func(ctx context.Context) error {
		var shown int64
		if err := v.main.QueryRowContext(ctx, `SELECT shown FROM generation WHERE id = 1`).Scan(&shown); err != nil || shown == v.shown {
			return err
		}
		// The file's lock first and the snapshot after it: what another process has written
		// is older then, whatever the numbers say. After a restore they begin anew.
		into, err := v.pool.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer into.Rollback()
		// One snapshot of the database for all that is copied.
		source, err := v.main.BeginTx(ctx, db.engine.reading)
		if err != nil {
			return err
		}
		defer source.Rollback()
		if err := source.QueryRowContext(ctx, `SELECT shown FROM generation WHERE id = 1`).Scan(&shown); err != nil {
			return err
		}
		have, err := stateOf(ctx, into)
		if err != nil {
			return err
		}
		names, now, whole, err := changes(ctx, source, have, shown)
		if err != nil {
			return err
		}
		if err := v.copy(ctx, source, into, now, names, whole || v.distrust); err != nil {
			return err
		}
		v.shown, v.distrust = shown, false
		return nil
	})
}

// copy writes the difference between the views and the file, in one transaction.
func (v *viewFile) copy(ctx context.Context, source, into *sql.Tx, now fileState, names []string, whole bool) error {
	for _, t := range viewTables() {
		var err error
		if whole {
			err = copyTable(ctx, source, into, t)
		} else {
			err = copyNames(ctx, source, into, t, names)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	for _, text := range []string{`DELETE FROM shown`, `DELETE FROM shown_mark`} {
		if _, err := into.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	if _, err := into.ExecContext(ctx, `INSERT INTO shown VALUES ($1)`, now.shown); err != nil {
		return err
	}
	if _, err := into.ExecContext(ctx, `INSERT INTO shown_mark VALUES ($1, $2)`, now.shown, now.mark); err != nil {
		return err
	}
	return into.Commit()
}

// copyTable leaves rows that are the same alone: readers wait while pages are written.
func copyTable(ctx context.Context, source, into *sql.Tx, t table) error {
	columns := strings.Join(t.head().Columns, ", ")
	want, err := rowsOf(ctx, source, `SELECT `+columns+` FROM `+t.name, len(t.columns))
	if err != nil {
		return err
	}
	have, err := rowsOf(ctx, into, `SELECT `+columns+`, rowid FROM `+t.name, len(t.columns))
	if err != nil {
		return err
	}
	return replaceRows(ctx, into, t, have, want)
}

func replaceRows(ctx context.Context, into *sql.Tx, t table, have, want map[string][]any) error {
	for key, row := range have {
		if _, keep := want[key]; keep {
			delete(want, key)
		} else if _, err := into.ExecContext(ctx, `DELETE FROM `+t.name+` WHERE rowid = $1`, row[len(row)-1]); err != nil {
			return err
		}
	}
	for _, row := range want {
		if _, err := into.ExecContext(ctx, insertInto(t), row...); err != nil {
			return err
		}
	}
	return nil
}

// rowsOf reads rows under a key made of their first n columns.
func rowsOf(ctx context.Context, tx *sql.Tx, text string, n int, args ...any) (map[string][]any, error) {
	rows, err := tx.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	found := map[string][]any{}
	for rows.Next() {
		row, into := make([]any, len(names)), make([]any, len(names))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		found[rowKey(row[:n])] = row
	}
	return found, rows.Err()
}

// rowKey is the same for the same values, and fast: there is one for each login.
func rowKey(row []any) string {
	var key []byte
	for _, value := range row {
		switch value := value.(type) {
		case string:
			key = append(strconv.AppendInt(key, int64(len(value)), 10), ':')
			key = append(key, value...)
		case int64:
			key = append(strconv.AppendInt(append(key, '#'), value, 10), ';')
		default:
			key = fmt.Appendf(key, "%T:%v;", value, value)
		}
	}
	return string(key)
}

// viewPatience is how long a method waits for the view file after its own commit: rarely
// the whole file is compared.
const viewPatience = 8 * time.Second

// syncViews follows a commit. What was committed stays so even when the file could not
// follow: the fault is logged, and main's next SyncViews repairs it.
func (db *DB) syncViews(ctx context.Context) {
	if db.views == nil {
		return
	}
	// The caller may go away right after the commit; the file must follow all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), viewPatience)
	defer cancel()
	if err := db.SyncViews(ctx); err != nil {
		db.o.Log.Error("view file not updated", "file", db.o.ViewFile, "error", err)
	}
}

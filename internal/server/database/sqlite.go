package database

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"modernc.org/sqlite"
)

// The names of the engines, as goose has them.
const (
	sqliteName = "sqlite3"
	postgres   = "postgres"
)

// busyMillis is how long one statement waits inside SQLite for another process. It is
// short because no context ends that wait; the loop around the transaction goes on waiting.
const busyMillis = "100"

func (db *DB) openSQLite(path string) error {
	if path == "" || strings.HasPrefix(path, ":") || strings.Contains(path, "://") {
		return fmt.Errorf("%q is neither a path nor a postgres:// URL", redactPlace(path))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if !db.o.ReadOnly {
		// Made by us, so that its mode is ours: SQLite gives -wal and -shm the same.
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return &Unavailable{Op: "make the file", Trouble: Gone, Err: err}
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	db.engine = engine{name: sqliteName, words: sqliteWords()}
	db.gate = make(chan struct{}, 1)
	// FULL: a commit in WAL mode is synced before it is acknowledged. NORMAL: with the
	// next one that is, or at a checkpoint.
	var errs [3]error
	db.writes, errs[0] = openLite(path, "rw", 1, "_txlock", "immediate", "_sync", "FULL", "_journal", "WAL")
	db.soft, errs[1] = openLite(path, "rw", 1, "_txlock", "immediate", "_sync", "NORMAL")
	db.reads, errs[2] = openLite(path, "rw", max(4, runtime.NumCPU()), "_query_only", "1")
	return errors.Join(errs[:]...)
}

// sqliteWords: strftime is known to the older SQLite that Dovecot may bring along.
func sqliteWords() *strings.Replacer {
	return strings.NewReplacer("{text}", "TEXT", "{lite}", "", "{create view}", "CREATE VIEW", " {barrier}", "", "{now}", "(CAST(strftime('%s', 'now') AS INTEGER) * 1000000)")
}

// openLite opens a pool of connections to a file.
func openLite(path, mode string, conns int, pairs ...string) (*sql.DB, error) {
	query := url.Values{"mode": {mode}, "_busy_timeout": {busyMillis}, "_dqs": {"0"}, "_defensive": {"1"}, "_error_rc": {"1"}}
	for i := 0; i < len(pairs); i += 2 {
		query.Set(pairs[i], pairs[i+1])
	}
	place := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	connector, err := sqlite.NewConnector(place.String())
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return pool, nil
}

// redactPlace keeps what could be a password out of messages.
func redactPlace(place string) string {
	scheme, _, found := strings.Cut(place, "://")
	if found {
		return scheme + "://…"
	}
	return place
}

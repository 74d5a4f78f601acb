package database

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// errBackup: a file that is no backup, is damaged, or is of a format not known here.
var errBackup = errors.New("not a sound backup")

// maxBackupLine bounds one row of a backup.
const maxBackupLine = 4 << 20

// Restore reads a backup of either engine into a database that holds nothing, all or
// nothing. The context alone bounds how long it may take. Nothing is tried again: what was
// read from r is gone.
func (db *DB) Restore(ctx context.Context, r io.Reader) error {
	if db.o.ReadOnly {
		return &Unavailable{Op: "restore", Trouble: ReadOnly, Err: errors.New("opened for reading only")}
	}
	err := db.attempt(ctx, db.writes, db.engine.options, true, func(tx *tx) error {
		for _, t := range backupTables() {
			there, err := tx.there(`SELECT 1 FROM ` + t.name + ` LIMIT 1`)
			if err != nil {
				return err
			}
			if there {
				return fmt.Errorf("table %s has rows: %w", t.name, ErrNotEmpty)
			}
		}
		head, err := readBackup(r, func(t table, row []any) error {
			_, err := tx.exec(insertInto(t), row...)
			return err
		})
		if err != nil {
			return err
		}
		// A number that no cache of either database has seen.
		_, err = tx.exec(`UPDATE generation SET taken = CASE WHEN taken < $1 THEN $1 ELSE taken END + 1, shown = shown + 1 WHERE id = 1`, head.Generation)
		return err
	})
	if err == nil {
		db.syncViews(ctx)
	}
	return explain("restore", err)
}

func insertInto(t table) string {
	marks := make([]string, len(t.columns))
	for i := range marks {
		marks[i] = fmt.Sprintf("$%d", i+1)
	}
	return `INSERT INTO ` + t.name + ` (` + strings.Join(t.head().Columns, ", ") + `) VALUES (` + strings.Join(marks, ", ") + `)`
}

// readBackup reads a backup and hands over its rows. It reports success only when the
// last line agrees with all that came before it: until then nothing may be committed.
func readBackup(r io.Reader, put func(t table, row []any) error) (backupHead, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 1<<16), maxBackupLine)
	sum := sha256.New()
	var head backupHead
	var current table
	rows, ended := 0, false
	for number := 1; lines.Scan(); number++ {
		line := lines.Bytes()
		var err error
		switch {
		case ended:
			err = fmt.Errorf("something follows the end: %w", errBackup)
		case number == 1:
			head, err = readHead(line)
		case bytes.HasPrefix(line, []byte(`{"table":`)):
			current, err = readTable(line)
		case bytes.HasPrefix(line, []byte(`[`)):
			rows++
			err = putRow(current, line, put)
		default:
			ended = true
			err = readEnd(line, rows, sum.Sum(nil))
		}
		if err != nil {
			return head, fmt.Errorf("backup line %d: %w", number, err)
		}
		sum.Write(line)
		sum.Write([]byte{'\n'})
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return head, fmt.Errorf("backup: a line over %d bytes: %w", maxBackupLine, errBackup)
	case err != nil:
		return head, fmt.Errorf("read backup: %w", errors.Join(err, errBackup))
	case !ended:
		return head, fmt.Errorf("backup ends early: %w", errBackup)
	}
	return head, nil
}

func readHead(line []byte) (backupHead, error) {
	var head backupHead
	if err := strict(line, &head); err != nil || head.Letterlock != "backup" {
		return head, errBackup
	}
	if head.Format != backupFormat {
		return head, fmt.Errorf("format %d, this letterlockd reads %d: %w", head.Format, backupFormat, errBackup)
	}
	return head, nil
}

// readTable finds the table by name. Its columns may be fewer than there are now, for an
// older schema, and come in any order.
func readTable(line []byte) (table, error) {
	var head tableHead
	if err := strict(line, &head); err != nil {
		return table{}, errBackup
	}
	for _, t := range backupTables() {
		if t.name != head.Table {
			continue
		}
		found := table{name: t.name}
		for i, name := range head.Columns {
			at := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
			if at < 0 || slices.Contains(head.Columns[:i], name) {
				return table{}, fmt.Errorf("column %q of %s: %w", name, t.name, errBackup)
			}
			found.columns = append(found.columns, t.columns[at])
		}
		return found, nil
	}
	return table{}, fmt.Errorf("table %q: %w", head.Table, errBackup)
}

func putRow(t table, line []byte, put func(table, []any) error) error {
	var raw []json.RawMessage
	if err := strict(line, &raw); err != nil || len(raw) != len(t.columns) || len(raw) == 0 {
		return fmt.Errorf("row of %q: %w", t.name, errBackup)
	}
	row := make([]any, len(raw))
	for i, c := range t.columns {
		value := c.value()
		if err := strict(raw[i], value); err != nil || string(raw[i]) == "null" {
			return fmt.Errorf("column %s of %s: %w", c.name, t.name, errBackup)
		}
		row[i] = plain(value)
	}
	return put(t, row)
}

// plain takes the pointer off a value that column.value made.
func plain(value any) any {
	switch v := value.(type) {
	case *int64:
		return *v
	case *bool:
		return *v
	case *[]byte:
		return *v
	case *string:
		return *v
	}
	return nil
}

func readEnd(line []byte, rows int, sum []byte) error {
	var end backupEnd
	if err := strict(line, &end); err != nil {
		return errBackup
	}
	if end.Rows != rows || end.SHA256 != hex.EncodeToString(sum) {
		return fmt.Errorf("damaged: %d rows and their checksum do not agree with the last line: %w", rows, errBackup)
	}
	return nil
}

// strict decodes one JSON value and nothing after it.
func strict(line []byte, into any) error {
	if !utf8.Valid(line) {
		return errBackup
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errBackup
	}
	return nil
}

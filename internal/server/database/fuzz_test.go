package database

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// FuzzReadBackup: a backup that somebody else has made never panics, hands over only rows
// of tables and columns that are meant to be restored, and is sound or refused.
func FuzzReadBackup(f *testing.F) {
	head := `{"letterlock":"backup","format":1,"made":"2026-01-02T03:04:05Z","engine":"sqlite3","generation":7,"note":""}` + "\n"
	f.Add([]byte(head + `{"rows":0,"sha256":"d7a2"}` + "\n"))
	f.Add([]byte(head + `{"table":"person","columns":["id","admin","created"]}` + "\n" + `["ann",false,1767323040000000]` + "\n"))
	f.Add([]byte(head + `{"table":"once","columns":["digest","data"]}` + "\n" + `["AAA=",null]` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows := 0
		_, err := readBackup(bytes.NewReader(data), func(t2 table, row []any) error {
			rows++
			if len(row) != len(t2.columns) || strings.ContainsAny(insertInto(t2), `'";-`) {
				t.Errorf("row of %d values for %s", len(row), insertInto(t2))
			}
			for i, value := range row {
				if value == nil {
					t.Errorf("column %d is NULL", i)
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errBackup) {
			t.Errorf("error is no errBackup: %v", err)
		}
		if err == nil && !bytes.Contains(data, []byte(`"sha256"`)) {
			t.Errorf("sound without a checksum, %d rows", rows)
		}
	})
}

// Every table is in a backup or left out on purpose, with all of its columns.
func TestBackupKnowsTheSchema(t *testing.T) {
	db, err := Open(t.Context(), t.TempDir()+"/a.db", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	known := map[string]string{}
	for _, name := range leftOut() {
		known[name] = ""
	}
	for _, table := range backupTables() {
		known[table.name] = strings.Join(table.head().Columns, " ")
	}
	rows, err := db.reads.Query(`SELECT m.name, group_concat(p.name, ' ') FROM sqlite_master m, pragma_table_info(m.name) p
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' GROUP BY m.name`)
	err = each(rows, err, func(scan func(...any) error) error {
		var name, columns string
		err := scan(&name, &columns)
		want, ok := known[name]
		if !ok || want != "" && want != columns {
			t.Errorf("table %s (%s): a backup has %q", name, columns, want)
		}
		delete(known, name)
		return err
	})
	if err != nil || len(known) != 0 {
		t.Errorf("%v; tables that are not there: %v", err, known)
	}
}

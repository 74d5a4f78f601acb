package database

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
)

// BackupNote is what a backup says about itself, and what the command that makes one
// prints.
const BackupNote = "Holds verifiers only: no password, token or key can be read from it. " +
	"The master key is not in it: keep that elsewhere, for without it second factors and registered clients do not come back. " +
	"Sessions and access tokens are left out; what was revoked later than this is in force again."

// backupFormat is the version of the format below.
const backupFormat = 1

// A backup is lines of JSON, the same whatever database it comes from:
//
//	{"letterlock":"backup","format":1,…}                 backupHead
//	{"table":"person","columns":["id","address",…]}      tableHead
//	["0198…","ann@example.org",…]                        a row; bytes in base64
//	…
//	{"rows":4711,"sha256":"…"}                           backupEnd, over all bytes before it
type backupHead struct {
	Letterlock string    `json:"letterlock"`
	Format     int       `json:"format"`
	Made       time.Time `json:"made"`
	Engine     string    `json:"engine"`
	Generation int64     `json:"generation"`
	Note       string    `json:"note"`
}

type tableHead struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
}

type backupEnd struct {
	Rows   int    `json:"rows"`
	SHA256 string `json:"sha256"`
}

// A table of a backup. The sign behind a column says what it holds: "#" a number, "?" a
// truth, "!" bytes, and none text.
type table struct {
	name    string
	columns []column
}

type column struct {
	name string
	kind byte
}

// backupTables are the tables that a backup holds.
func backupTables() []table {
	var tables []table
	for _, line := range []string{
		"person: id address name admin? created# disabled# reason",
		"binding: issuer subject person shown bound# checked#",
		"address: address targets",
		"address_target: address target",
		"address_owner: address person may_login? may_send?",
		"credential: id person selector hash name login label protocols networks senders recipients per_hour# limited? " +
			"created# expires# revoked# reason last_use# last_from last_protocol",
		"credential_sender: credential sender domain",
		"passkey: id! person name public_key! counter# synced? saved? transports created# last_use# last_from",
		"totp: person sealed! step# created# last_use#",
		"recovery_code: person digest! created# used#",
		"event: id at# kind person actor origin detail",
		"ban: network allow? until# reason made#",
		"once: digest! kind data! expires#",
		"consent: id person client scopes created# revoked# reason",
		"hold: person source since# reason",
		"directory: person external attributes changed#",
		"leaver: issuer subject person state since# why",
		"held: address external since# reason",
		"departure: issuer person at#",
		"refresh_token: digest! consent issued# expires# spent# successor!",
		"client: id name redirect_uris logout_uris grants scopes secret! without_pkce? introspects? consent created# disabled# reason jwks",
		"client_gone: digest! gone#",
	} {
		name, columns, _ := strings.Cut(line, ": ")
		t := table{name: name}
		for _, text := range strings.Fields(columns) {
			c := column{name: strings.TrimRight(text, "#?!"), kind: text[len(text)-1]}
			t.columns = append(t.columns, c)
		}
		tables = append(tables, t)
	}
	return tables
}

// leftOut are the tables that a backup does not hold: what lives for an hour or as long as
// a browser, counters, where work has got to, other people's tokens, and the schema's own.
func leftOut() []string {
	return []string{"session", "mail_session", "mail_token", "code", "device", "access_token", "counter", "signing_key", "generation",
		"view_change", "lease", "hook_run", "hook_mark", "membership_look", "upstream_grant", versionTable, "letterlock_schema_claim"}
}

func (t table) head() tableHead {
	head := tableHead{Table: t.name}
	for _, c := range t.columns {
		head.Columns = append(head.Columns, c.name)
	}
	return head
}

// value is a new variable for a column.
func (c column) value() any {
	switch c.kind {
	case '#':
		return new(int64)
	case '?':
		return new(bool)
	case '!':
		return new([]byte)
	}
	return new(string)
}

// Backup writes a consistent copy of the whole database while it is in use. The context
// alone bounds how long it may take.
func (db *DB) Backup(ctx context.Context, w io.Writer) error {
	buffered := bufio.NewWriterSize(w, 1<<16)
	err := db.attempt(ctx, db.reads, db.engine.reading, false, func(tx *tx) error {
		out := &backupWriter{w: buffered, sum: sha256.New()}
		head := backupHead{Letterlock: "backup", Format: backupFormat, Made: db.o.Now().UTC(), Engine: db.engine.name, Note: BackupNote}
		if err := tx.one(`SELECT taken FROM generation WHERE id = 1`, nil, &head.Generation); err != nil {
			return err
		}
		out.line(head)
		for _, t := range backupTables() {
			out.line(t.head())
			if err := tx.dump(t, out); err != nil {
				return fmt.Errorf("table %s: %w", t.name, err)
			}
		}
		out.line(backupEnd{Rows: out.rows, SHA256: hex.EncodeToString(out.sum.Sum(nil))})
		return out.err
	})
	if err = errors.Join(err, buffered.Flush()); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

func (t *tx) dump(from table, out *backupWriter) error {
	names := from.head().Columns
	return t.all(`SELECT `+strings.Join(names, ", ")+` FROM `+from.name+` ORDER BY 1, 2`, nil, func(scan func(...any) error) error {
		row := make([]any, len(from.columns))
		for i, c := range from.columns {
			row[i] = c.value()
		}
		if err := scan(row...); err != nil {
			return err
		}
		for _, value := range row {
			if data, ok := value.(*[]byte); ok {
				*data = bytesOf(*data) // an empty one, which SQLite gives back as none
			}
		}
		out.rows++
		out.line(row)
		return out.err
	})
}

// backupWriter writes lines and sums them up; the first error stays.
type backupWriter struct {
	w    io.Writer
	sum  hash.Hash
	rows int
	err  error
}

func (b *backupWriter) line(value any) {
	if b.err != nil {
		return
	}
	text, err := json.Marshal(value)
	if err != nil {
		b.err = err
		return
	}
	text = append(text, '\n')
	b.sum.Write(text)
	_, b.err = b.w.Write(text)
}

package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// The views that the view file copies are asked by name: a login or an address. A
// transaction that changes what they show notes under which names, and the file follows by
// those names alone. One that says only that something is shown has the whole compared:
// that is slow and never wrong.

const (
	// maxNames is how many names are looked at one by one.
	maxNames = 2000
	// changesKept is how far a file may be behind and follow by names.
	changesKept = 2000
	// namesAtOnce bounds the parameters of one query.
	namesAtOnce = 200
)

func (t *tx) touch(names ...string) {
	if t.names == nil {
		t.names = map[string]bool{}
	}
	for _, name := range names {
		t.names[name] = true
		t.shown = t.shown || strings.Contains(name, byLine) // could not be told apart later
	}
}

// touchAddress notes under which names an address shows. A catch-all gives those who have it
// all addresses in its domain that app passwords list, whoever's they are.
func (t *tx) touchAddress(address string) error {
	t.touch(address)
	domain, all := strings.CutPrefix(address, "@")
	if !all {
		return nil
	}
	return t.touchAll(`SELECT sender FROM credential_sender WHERE domain = $1`, domain)
}

// touchPerson notes under which names a person shows: their address, the logins of their
// app passwords, what these list as senders, and what they own. It is called on both sides
// of a change that adds names or takes them away.
func (t *tx) touchPerson(id identity.PersonID) error {
	if err := t.touchAll(`SELECT address FROM person WHERE id = $1
		UNION SELECT login FROM credential WHERE person = $1 AND revoked = 0
		UNION SELECT s.sender FROM credential c JOIN credential_sender s ON s.credential = c.id WHERE c.person = $1 AND c.revoked = 0`, string(id)); err != nil {
		return err
	}
	var owned []string
	if err := t.all(`SELECT address FROM address_owner WHERE person = $1`, []any{string(id)}, gather(&owned)); err != nil {
		return err
	}
	for _, address := range owned {
		if err := t.touchAddress(address); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) touchAll(text, arg string) error {
	var names []string
	err := t.all(text, []any{arg}, gather(&names))
	t.touch(names...)
	return err
}

// shows: the views show something else after this transaction.
func (t *tx) shows() bool { return t.shown || len(t.names) > 0 }

// count counts the transaction for those who follow the database.
func (db *DB) count(t *tx) error {
	step := 0
	if t.ended {
		step = 1
	}
	if !t.shows() {
		if step == 0 {
			return nil
		}
		_, err := t.exec(`UPDATE generation SET taken = taken + 1 WHERE id = 1`)
		return err
	}
	var shown int64
	if err := t.returning(`UPDATE generation SET taken = taken + $1, shown = shown + 1 WHERE id = 1 RETURNING shown`, []any{step}, &shown); err != nil {
		return err
	}
	names := ""
	if !t.shown && len(t.names) <= maxNames {
		names = strings.Join(slices.Sorted(maps.Keys(t.names)), byLine)
	}
	mark, err := identity.NewID(db.o.Random, db.o.Now())
	if err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM view_change WHERE shown <= $1 OR shown >= $2`, shown-changesKept, shown); err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO view_change (shown, mark, names) VALUES ($1, $2, $3)`, shown, mark, names)
	return err
}

// A fileState is what a view file shows: a number of the database, and the mark of the
// change that made it.
type fileState struct {
	shown int64
	mark  string
}

func stateOf(ctx context.Context, file *sql.Tx) (fileState, error) {
	var s fileState
	err := file.QueryRowContext(ctx, `SELECT generation, mark FROM shown_mark`).Scan(&s.shown, &s.mark)
	if errors.Is(err, sql.ErrNoRows) {
		return fileState{}, nil
	}
	return s, err
}

// changes are the names that have changed since the file was written, and what it is to be
// called afterwards. whole: that is not known; the database is another one, or was put back,
// or has gone on for too long.
func changes(ctx context.Context, source *sql.Tx, have fileState, shown int64) (names []string, now fileState, whole bool, err error) {
	now.shown = shown
	rows, err := source.QueryContext(ctx, `SELECT shown, mark, names FROM view_change WHERE shown >= $1 AND shown <= $2 ORDER BY shown`, min(have.shown, shown), shown)
	seen, found := int64(0), map[string]bool{}
	err = each(rows, err, func(scan func(...any) error) error {
		var one fileState
		var text string
		if err := scan(&one.shown, &one.mark, &text); err != nil {
			return err
		}
		now.mark = ""
		if one.shown == shown {
			now.mark = one.mark
		}
		switch {
		case one.shown == have.shown:
			whole = whole || one.mark != have.mark
		case text == "":
			whole = true
		default:
			for name := range strings.SplitSeq(text, byLine) {
				found[name] = true
			}
		}
		seen++
		return nil
	})
	whole = whole || have.mark == "" || have.shown > shown || seen != shown-have.shown+1 || len(found) > maxNames
	return slices.Sorted(maps.Keys(found)), now, whole, err
}

// copyNames makes the rows of some names those that the views have.
func copyNames(ctx context.Context, source, into *sql.Tx, t table, names []string) error {
	columns := strings.Join(t.head().Columns, ", ")
	for some := range slices.Chunk(names, namesAtOnce) {
		args, marks := make([]any, len(some)), make([]string, len(some))
		for i, name := range some {
			args[i], marks[i] = name, fmt.Sprintf("$%d", i+1)
		}
		where := ` WHERE ` + t.columns[0].name + ` IN (` + strings.Join(marks, ", ") + `)`
		want, err := rowsOf(ctx, source, `SELECT `+columns+` FROM `+t.name+where, len(t.columns), args...)
		if err != nil {
			return err
		}
		have, err := rowsOf(ctx, into, `SELECT `+columns+`, rowid FROM `+t.name+where, len(t.columns), args...)
		if err != nil {
			return err
		}
		if err := replaceRows(ctx, into, t, have, want); err != nil {
			return err
		}
	}
	return nil
}

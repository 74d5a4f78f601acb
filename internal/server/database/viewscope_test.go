package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func openViews(t testing.TB, place, file string) *DB {
	t.Helper()
	db, err := Open(t.Context(), place, Options{Timeout: 5 * time.Minute, ViewFile: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// shown are the rows of all tables of the views, in the database or in the file.
func shownRows(t testing.TB, pool *sql.DB) []string {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	var all []string
	for _, one := range viewTables() {
		rows, err := rowsOf(t.Context(), tx, `SELECT `+strings.Join(one.head().Columns, ", ")+` FROM `+one.name, len(one.columns))
		if err != nil {
			t.Fatal(err)
		}
		for key := range rows {
			all = append(all, one.name+" "+key)
		}
	}
	slices.Sort(all)
	return all
}

// followViews changes everything that the views show, in an order of its own, and has the
// file compared with the views after each change.
func followViews(t *testing.T, place string) {
	file := filepath.Join(t.TempDir(), "mail.db")
	db := openViews(t, place, file)
	other := openViews(t, place, "") // another instance, whose changes are seen later
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"ann", "bob", "cora", "dan", "eve"}
	spots := []string{"info@example.org", "@example.org", "@example.net", "@example.net", "x@example.net", "ann@example.org", "new-bob@example.org"}
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	some := func(list []string) []string {
		var out []string
		for _, one := range list {
			if random.IntN(3) == 0 {
				out = append(out, one)
			}
		}
		return out
	}
	made := 0
	var credentials []string
	ctx := t.Context()
	steps := map[string]func(db *DB) error{
		"add": func(db *DB) error {
			name := pick(names)
			return db.AddPerson(ctx, identity.Person{ID: identity.PersonID(name), Address: name + "@example.org"})
		},
		"add user": func(db *DB) error {
			name := pick(names)
			return db.AddUser(ctx, identity.User{Person: identity.Person{ID: identity.PersonID(name), Address: name + "@example.org"}, Wish: identity.Wish(random.IntN(3))}, "scim")
		},
		"rename": func(db *DB) error {
			name := pick(names)
			return db.UpdatePerson(ctx, identity.Person{ID: identity.PersonID(name), Address: pick([]string{"", "new-"}) + name + "@example.org"})
		},
		"change user": func(db *DB) error {
			name := pick(names)
			_, err := db.ChangeUser(ctx, identity.PersonID(name), time.Now(), "scim", func(u *identity.User) error {
				u.Person.Address, u.Wish = pick([]string{"", "new-"})+name+"@example.org", identity.Wish(random.IntN(3))
				return nil
			})
			return err
		},
		"disable": func(db *DB) error { return db.DisablePerson(ctx, identity.PersonID(pick(names)), time.Now(), "") },
		"enable":  func(db *DB) error { return db.EnablePerson(ctx, identity.PersonID(pick(names))) },
		"suspend": func(db *DB) error {
			_, err := db.Suspend(ctx, identity.Hold{Person: identity.PersonID(pick(names)), Source: "member x", Since: time.Now()}, "x")
			return err
		},
		"release": func(db *DB) error {
			_, err := db.Release(ctx, identity.PersonID(pick(names)), "member x", time.Now(), "x", "")
			return err
		},
		"delete": func(db *DB) error {
			if random.IntN(3) > 0 {
				return nil
			}
			return db.DeletePerson(ctx, identity.PersonID(pick(names)))
		},
		"remove": func(db *DB) error {
			if random.IntN(3) > 0 {
				return nil
			}
			return db.RemoveUser(ctx, identity.PersonID(pick(names)), time.Now(), "scim")
		},
		"address": func(db *DB) error {
			a := identity.Address{Address: pick(spots)}
			if random.IntN(2) == 0 {
				a.Targets = []string{pick(names) + "@example.org", "out@elsewhere.org"}
			}
			for _, name := range some(names) {
				a.Owners = append(a.Owners, identity.Owner{Person: identity.PersonID(name), Roles: [][]identity.Role{{identity.RoleLogin}, {identity.RoleSend}, {identity.RoleLogin, identity.RoleSend}}[random.IntN(3)]})
			}
			return db.PutAddress(ctx, a)
		},
		"drop address": func(db *DB) error { return db.DeleteAddress(ctx, pick(spots)) },
		"credential": func(db *DB) error {
			made++
			id := fmt.Sprint("c", made)
			credentials = append(credentials, id)
			c := identity.Credential{ID: identity.CredentialID(id), Person: identity.PersonID(pick(names)), Selector: id, Hash: "h" + id, Name: fmt.Sprint("n", random.IntN(4)), PerHour: random.IntN(2)}
			c.Senders = some([]string{"x@example.net", fmt.Sprintf("y%d@example.net", random.IntN(9)), "info@example.org", "ann@example.org", "new-bob@example.org", "z@example.org"})
			return db.AddCredential(ctx, c)
		},
		"revoke": func(db *DB) error {
			if len(credentials) == 0 {
				return nil
			}
			return db.RevokeCredential(ctx, identity.CredentialID(pick(credentials)), time.Now(), "")
		},
		"together": func(db *DB) error {
			return db.Together(ctx, func(ctx context.Context) error {
				return errors.Join(db.EndSessions(ctx, "ann"), db.PutAddress(ctx, identity.Address{Address: "t@example.org"}))
			})
		},
	}
	churn(t, db, other, random, steps)
}

// churn does steps in any order, here and by another instance.
func churn(t *testing.T, db, other *DB, random *rand.Rand, steps map[string]func(*DB) error) {
	const steadily = 300
	ctx := t.Context()
	kinds := slices.Sorted(maps.Keys(steps))
	for range 3 { // what makes something is done more often than what ends it
		kinds = append(kinds, "address", "address", "address", "credential", "credential", "enable", "add")
	}
	whole := 0
	for n := range steadily {
		kind, from := kinds[random.IntN(len(kinds))], db
		if random.IntN(3) == 0 {
			from = other
		}
		err := steps[kind](from)
		for _, answer := range []error{identity.ErrExists, identity.ErrNotFound, identity.ErrRevoked, identity.ErrInvalid} {
			if errors.Is(err, answer) {
				err = nil
			}
		}
		if err != nil {
			t.Fatalf("%d %s: %v", n, kind, err)
		}
		if random.IntN(2) > 0 || n == steadily-1 {
			if err := db.SyncViews(ctx); err != nil {
				t.Fatal(err)
			}
			want, have := shownRows(t, db.reads), shownRows(t, db.views.pool)
			if !slices.Equal(want, have) {
				t.Fatalf("after %d %s the file shows\n%s\nwant\n%s", n, kind, strings.Join(have, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	// It has followed by names: all the time it was not compared as a whole.
	if err := db.one(ctx, "", `SELECT count(*) FROM view_change WHERE names = ''`, nil, &whole); err != nil || whole != 0 {
		t.Errorf("%d changes without names, %v", whole, err)
	}
}

func TestViewFileFollows(t *testing.T) {
	followViews(t, filepath.Join(t.TempDir(), "db"))
}

// A change costs what it touches: the file is believed in what was not. The daemon's start
// and another database compare it whole.
func TestViewFileIsBelieved(t *testing.T) {
	place, file := filepath.Join(t.TempDir(), "db"), filepath.Join(t.TempDir(), "mail.db")
	db := openViews(t, place, file)
	add := func(db *DB, name string) {
		t.Helper()
		if err := db.AddPerson(t.Context(), identity.Person{ID: identity.PersonID(name), Address: name + "@example.org"}); err != nil {
			t.Fatal(err)
		}
	}
	add(db, "ann")
	add(db, "bob")
	plant := func() {
		t.Helper()
		if _, err := db.views.pool.ExecContext(t.Context(), `INSERT INTO postfix_recipient VALUES ('planted@example.org', 'x')`); err != nil {
			t.Fatal(err)
		}
	}
	planted := func() bool {
		return slices.ContainsFunc(shownRows(t, db.views.pool), func(row string) bool { return strings.Contains(row, "planted") })
	}
	plant()
	add(db, "cora")
	add(openViews(t, place, file), "dan") // a command
	if !planted() {
		t.Fatal("the whole file was compared for one person")
	}
	checked, err := Open(t.Context(), place, Options{ViewFile: file, ViewCheck: true, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := checked.Close(); err != nil {
		t.Fatal(err)
	}
	if planted() {
		t.Error("the start of the daemon believes the file")
	}
	// A database with the same number, and another history.
	other := filepath.Join(t.TempDir(), "other")
	twin := openViews(t, other, "")
	for _, name := range []string{"one", "two", "three", "four"} {
		add(twin, name)
	}
	plant()
	openViews(t, other, file)
	if planted() || len(shownRows(t, twin.reads)) != len(shownRows(t, db.views.pool)) {
		t.Errorf("the file of another database is believed")
	}
}

// Log-outs at an identity provider come by the thousand, and no view shows a browser.
func TestLogoutsTouchNoViews(t *testing.T) {
	db := openViews(t, filepath.Join(t.TempDir(), "db"), "")
	if err := db.AddPerson(t.Context(), identity.Person{ID: "ann", Address: "ann@example.org"}); err != nil {
		t.Fatal(err)
	}
	counts := func() (shown, taken int) {
		t.Helper()
		if err := db.one(t.Context(), "", `SELECT shown, taken FROM generation WHERE id = 1`, nil, &shown, &taken); err != nil {
			t.Fatal(err)
		}
		return shown, taken
	}
	now := time.Now()
	begin := func(id string) {
		t.Helper()
		s := identity.Session{ID: identity.DigestOf(id), Person: "ann", Created: now, Expires: now.Add(time.Hour), Upstream: "https://op.test " + id}
		if err := db.AddSession(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	begin("s1")
	shown, taken := counts()
	if whose, err := db.EndUpstream(t.Context(), "https://op.test s1"); err != nil || len(whose) != 1 {
		t.Fatalf("%v, %v", whose, err)
	}
	if again, ended := counts(); again != shown || ended != taken+1 {
		t.Errorf("after a log-out the views are at %d and endings at %d, want %d and %d", again, ended, shown, taken+1)
	}
	// One that ends nothing takes nothing back of what its transaction has done before.
	begin("s2")
	_, taken = counts()
	err := db.Together(t.Context(), func(ctx context.Context) error {
		_, err1 := db.EndUpstream(ctx, "https://op.test s2")
		_, err2 := db.EndUpstream(ctx, "https://op.test nobody")
		return errors.Join(err1, err2)
	})
	if _, ended := counts(); err != nil || ended != taken+1 {
		t.Errorf("two at once: endings at %d, want %d, %v", ended, taken+1, err)
	}
}

package database_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// racing is how many try at once, through two handles as two instances would.
const racing = 64

// once wants exactly one of the crowd to come first, and everybody to get an answer.
func once(t *testing.T, what string, dbs [2]*database.DB, call func(db *database.DB, n int) (first bool, err error)) {
	t.Helper()
	var firsts atomic.Int32
	var group sync.WaitGroup
	start := make(chan struct{})
	for n := range racing {
		group.Go(func() {
			<-start
			first, err := call(dbs[n%2], n)
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if first {
				firsts.Add(1)
			}
		})
	}
	close(start)
	group.Wait()
	if firsts.Load() != 1 {
		t.Errorf("%s: %d came first, want 1", what, firsts.Load())
	}
}

// races is run on both engines.
func races(t *testing.T, dbs [2]*database.DB) {
	ctx := context.Background()
	db := dbs[0]
	must(t, db.AddPerson(ctx, person("ann")))
	must(t, db.AddCode(ctx, grant("g"), identity.Code{Digest: identity.DigestOf("code"), Grant: "g", Expires: at(9)}))
	must(t, db.Issue(ctx, identity.AccessToken{Digest: identity.DigestOf("a"), Grant: "g"}, identity.RefreshToken{Digest: identity.DigestOf("r"), Grant: "g"}))
	must(t, db.PutOnce(ctx, identity.DigestOf("o"), "invitation", []byte("x"), at(9000)))

	once(t, "TakeCode", dbs, func(db *database.DB, _ int) (bool, error) {
		code, err := db.TakeCode(ctx, identity.DigestOf("code"), at(1))
		return code.Used.IsZero(), err
	})
	once(t, "Rotate", dbs, func(db *database.DB, n int) (bool, error) {
		name := fmt.Sprint("next", n)
		old, err := db.Rotate(ctx, identity.DigestOf("r"), at(1), []byte(name), identity.RefreshToken{Digest: identity.DigestOf(name), Grant: "g"},
			identity.AccessToken{Digest: identity.DigestOf("access " + name), Grant: "g"})
		return old.Spent.IsZero(), err
	})
	successors := 0
	for n := range racing {
		if _, _, err := db.RefreshToken(ctx, identity.DigestOf(fmt.Sprint("next", n))); err == nil {
			successors++
		}
	}
	if successors != 1 {
		t.Errorf("%d successors of one refresh token, want 1", successors)
	}
	once(t, "TakeOnce", dbs, func(db *database.DB, _ int) (bool, error) {
		_, err := db.TakeOnce(ctx, identity.DigestOf("o"), "invitation", at(1))
		return err == nil, ignore(err, identity.ErrNotFound)
	})
	once(t, "PutOnce (a TOTP step)", dbs, func(db *database.DB, _ int) (bool, error) {
		err := db.PutOnce(ctx, identity.DigestOf("step"), "totp", nil, at(9000))
		return err == nil, ignore(err, identity.ErrExists)
	})
	once(t, "Bind", dbs, func(db *database.DB, _ int) (bool, error) {
		err := db.Bind(ctx, identity.Binding{Issuer: "i", Subject: "s", Person: "ann"})
		return err == nil, ignore(err, identity.ErrExists)
	})
	once(t, "a change with its line", dbs, func(db *database.DB, _ int) (first bool, err error) {
		err = db.Together(ctx, func(ctx context.Context) error {
			_, err := db.Binding(ctx, "i", "together")
			if first = errors.Is(err, identity.ErrNotFound); !first {
				return err
			}
			if err := db.Bind(ctx, identity.Binding{Issuer: "i", Subject: "together", Person: "ann"}); err != nil {
				return err
			}
			return db.AddEvent(ctx, identity.Event{At: at(1), Kind: "together"})
		})
		return first, err
	})
	if lines, err := db.Events(ctx, identity.EventFilter{Kind: "together"}); err != nil || len(lines) != 1 {
		t.Errorf("%d lines, %v: want one", len(lines), err)
	}
	// Two nouns that exclude each other though no index joins them.
	once(t, "a login name and an address", dbs, func(db *database.DB, n int) (bool, error) {
		if n%4 < 2 {
			err := db.AddCredential(ctx, credential(fmt.Sprint(n), "ann", "phone"))
			return err == nil, ignore(err, identity.ErrExists)
		}
		err := db.AddPerson(ctx, identity.Person{ID: identity.PersonID(fmt.Sprint("p", n)), Address: "ann+phone@example.org"})
		return err == nil, ignore(err, identity.ErrExists)
	})
	before := generation(t, db)
	var group sync.WaitGroup
	for n := range racing {
		group.Go(func() {
			if err := dbs[n%2].RevokeGrant(ctx, "g", at(n), fmt.Sprint(n)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if after := generation(t, db); after != before+racing {
		t.Errorf("generation grew by %d for %d revocations", after-before, racing)
	}
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

func TestSQLiteRaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "letterlock.db")
	races(t, [2]*database.DB{open(t, path, patient()), open(t, path, patient())})
}

// starts opens a new database many times at once: one of them migrates it.
func starts(t *testing.T, place string) {
	t.Helper()
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			db, err := database.Open(context.Background(), place, patient())
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.AddPerson(context.Background(), person(fmt.Sprint("p", n))); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	db := open(t, place, patient())
	people, err := db.People(t.Context(), "", 99)
	if err != nil || len(people) != 8 {
		t.Errorf("%d people, %v: want the one of each start", len(people), err)
	}
	if n := generation(t, db); n != 1 {
		t.Errorf("generation %d, want 1: the migrations ran more than once", n)
	}
}

func TestSQLiteStartsAtOnce(t *testing.T) { starts(t, filepath.Join(t.TempDir(), "letterlock.db")) }

// childEnv makes the test binary the process that is killed.
const childEnv = "DATABASE_TEST_CHILD"

// TestKilledProcess kills a process that writes as fast as it can. What it had said was
// done is there, and the file is sound.
func TestKilledProcess(t *testing.T) {
	if place := os.Getenv(childEnv); place != "" {
		writeForever(t, place)
		return
	}
	path := filepath.Join(t.TempDir(), "letterlock.db")
	must(t, open(t, path, patient()).AddPerson(t.Context(), person("ann")))
	acknowledged := killInMidLoad(t, path)
	checkAcknowledged(t, open(t, path, patient()), acknowledged)
}

func writeForever(t *testing.T, place string) {
	db := open(t, place, patient())
	for n := 0; ; n++ {
		id := fmt.Sprint(n)
		must(t, db.AddCredential(context.Background(), credential(id, "ann", "n"+id)))
		must(t, db.RevokeCredential(context.Background(), identity.CredentialID(id), at(1), ""))
		fmt.Println("done", id)
	}
}

// killInMidLoad returns the last number that the child said was done.
func killInMidLoad(t *testing.T, place string) int {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcess$")
	child.Env = append(os.Environ(), childEnv+"="+place)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	last := -1
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "done %d", &n); err != nil {
			continue
		}
		if last = n; n == 40 {
			must(t, child.Process.Kill()) // what is still in the pipe is read too
		}
	}
	_ = child.Wait() // it was killed
	if last < 40 {
		t.Fatalf("the child ended after %d writes", last)
	}
	return last
}

func checkAcknowledged(t *testing.T, db *database.DB, last int) {
	t.Helper()
	for n := range last + 1 {
		c, _, err := db.CredentialBySelector(t.Context(), fmt.Sprint("sel", n))
		if err != nil || c.Revoked.IsZero() {
			t.Errorf("credential %d: %v, revoked %v: it was acknowledged", n, err, c.Revoked)
		}
	}
	// And it takes new writes.
	must(t, db.AddCredential(t.Context(), credential("new", "ann", "new")))
}

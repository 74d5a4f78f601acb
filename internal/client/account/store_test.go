package account

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// plainStore is a Store that writes durably but encrypts nothing, so that tests of
// the rule need no key and see the grant's bytes.
type plainStore struct{ folder string }

func (s plainStore) path(name, suffix string) string {
	return filepath.Join(s.folder, name+suffix)
}

func (s plainStore) Names() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.folder, "*.grant"))
	for i, file := range files {
		base := filepath.Base(file)
		files[i] = base[:len(base)-len(".grant")]
	}
	return files, err
}

func (s plainStore) Read(_ context.Context, name string, _ tokenstore.Keys) ([]byte, error) {
	plain, err := atomicfile.Read(s.path(name, ".grant"), grantLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, tokenstore.ErrNotFound
	}
	return plain, err
}

func (s plainStore) Reserve(name string, _ tokenstore.Keys) (Room, error) {
	room, err := atomicfile.Reserve(s.path(name, ".grant"), 16<<10, 0o600)
	if err != nil {
		return nil, err
	}
	return room, nil
}

func (s plainStore) Remove(name string) error {
	return errors.Join(atomicfile.Remove(s.path(name, ".grant")), s.ClearMark(name), atomicfile.Remove(s.path(name, ".failed")))
}

func (s plainStore) Lock(ctx context.Context, name string) (func(), error) {
	lock, err := atomicfile.Acquire(ctx, s.path(name, ".lock"))
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Release() }, nil
}

func (s plainStore) SetMark(name string, mark tokenstore.Mark) error {
	data, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	return atomicfile.Write(s.path(name, ".mark"), data, 0o600)
}

func (s plainStore) ReadMark(name string) (*tokenstore.Mark, error) {
	data, err := atomicfile.Read(s.path(name, ".mark"), 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	mark := new(tokenstore.Mark)
	return mark, json.Unmarshal(data, mark)
}

func (s plainStore) ClearMark(name string) error { return atomicfile.Remove(s.path(name, ".mark")) }

func (s plainStore) SetFailure(name string, record []byte) error {
	return atomicfile.Write(s.path(name, ".failed"), record, 0o600)
}

func (s plainStore) ReadFailure(name string) ([]byte, error) {
	record, err := atomicfile.Read(s.path(name, ".failed"), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return record, err
}

// faultyStore fails where told to, the first times or always.
type faultyStore struct {
	Store
	fail  map[string]error // by operation
	times int              // how often Commit fails; 0: always
	done  int
}

func (f *faultyStore) Lock(ctx context.Context, name string) (func(), error) {
	if err := f.fail["lock"]; err != nil {
		return nil, err
	}
	return f.Store.Lock(ctx, name)
}

func (f *faultyStore) SetMark(name string, mark tokenstore.Mark) error {
	if err := f.fail["mark"]; err != nil {
		return err
	}
	return f.Store.SetMark(name, mark)
}

func (f *faultyStore) ReadMark(name string) (*tokenstore.Mark, error) {
	if err := f.fail["readmark"]; err != nil {
		return nil, err
	}
	return f.Store.ReadMark(name)
}

func (f *faultyStore) ClearMark(name string) error {
	if err := f.fail["clear"]; err != nil {
		return err
	}
	return f.Store.ClearMark(name)
}

func (f *faultyStore) SetFailure(name string, record []byte) error {
	if err := f.fail["failure"]; err != nil {
		return err
	}
	return f.Store.SetFailure(name, record)
}

func (f *faultyStore) Reserve(name string, keys tokenstore.Keys) (Room, error) {
	if err := f.fail["reserve"]; err != nil {
		return nil, err
	}
	room, err := f.Store.Reserve(name, keys)
	return faultyRoom{room, f}, err
}

type faultyRoom struct {
	Room
	store *faultyStore
}

func (r faultyRoom) Commit(plain []byte) error {
	err := r.store.fail["commit"]
	if err == nil || r.store.times > 0 && r.store.done == r.store.times {
		return r.Room.Commit(plain)
	}
	r.store.done++
	r.Abort()
	return err
}

// noKeys is a key source for stores that need none.
type noKeys struct{}

func (noKeys) Source() string                                 { return "none" }
func (noKeys) Recipient() (age.Recipient, error)              { return nil, tokenstore.ErrNoKey }
func (noKeys) Identity(context.Context) (age.Identity, error) { return nil, tokenstore.ErrNoKey }
func (noKeys) Create(context.Context) error                   { return nil }

const testName = "you@try.test"

// testGrant is a grant at the provider of the given token endpoint whose access token
// has expired a minute ago.
func testGrant(endpoint, refresh string, now time.Time) *Grant {
	return &Grant{
		Account: testName, Login: testName, Provider: "try", Right: provider.Full,
		Client:    oauth.Client{ID: "client", Auth: oauth.AuthNone},
		Endpoints: oauth.Endpoints{Issuer: "http://127.0.0.1", Token: endpoint},
		Resources: []Resource{
			{Name: "mail", Purposes: []provider.Purpose{provider.IMAP, provider.SMTP}, Scopes: []string{"mail", "offline_access"}},
			{Name: "graph", Purposes: []provider.Purpose{provider.Graph}, Scopes: []string{"graph"}, Indicator: "https://graph.try.test"},
		},
		Refresh:  secret.New(refresh),
		SignedIn: now.Add(-7 * 24 * time.Hour),
		Flow:     provider.FlowBrowser,
		Access: map[string]Access{
			"mail": {Token: secret.New("expired"), Issued: now.Add(-time.Hour), Expiry: now.Add(-time.Minute)},
		},
	}
}

func newManager(store Store, exchange Exchanger, now func() time.Time) *Manager {
	return &Manager{
		Store: store, Exchange: exchange, Now: now,
		Keys: func(string) (tokenstore.Keys, error) { return noKeys{}, nil },
	}
}

func mustSave(t *testing.T, m *Manager, grant *Grant) {
	t.Helper()
	if err := m.Save(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
}

func grantBytes(t *testing.T, store plainStore) string {
	t.Helper()
	data, err := os.ReadFile(store.path(testName, ".grant"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// temporaries lists files of writers that never finished.
func temporaries(t *testing.T, store plainStore) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(store.folder, ".*tmp*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

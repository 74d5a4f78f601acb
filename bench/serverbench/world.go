package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A world is one database, the daemons that answer from it, and the devices.
type world struct {
	o           order
	credentials int
	folder      string
	devices     []device
	hash        string // of a device, for those that never sign in

	daemons                        map[string]*lab.Process
	peers                          []*lab.Dovecot
	ours, single, dovecot, caching place
}

const oneCore = "GOMAXPROCS=1"

func newWorld(ctx context.Context, o order, credentials int) (*world, error) {
	folder, err := os.MkdirTemp("", "letterlock-serverbench-")
	if err != nil {
		return nil, err
	}
	w := &world{o: o, credentials: credentials, folder: folder, daemons: map[string]*lab.Process{}}
	if err := os.Chmod(folder, 0o755); err != nil { // Dovecot's auth reads below it
		return w, err
	}
	if err := w.fill(ctx); err != nil {
		return w, fmt.Errorf("fill the database: %w", err)
	}
	w.ours, w.single = place{"unix", filepath.Join(folder, "sasl")}, place{"unix", filepath.Join(folder, "sasl1")}
	if err := errors.Join(w.configure("two.toml", w.ours), w.configure("one.toml", w.single)); err != nil {
		return w, err
	}
	for name, env := range map[string]string{"two.toml": "", "one.toml": oneCore} {
		if err := w.serve(ctx, name, env); err != nil {
			return w, err
		}
	}
	return w, w.startDovecots(ctx)
}

// fill makes the devices as an administrator would, and the other app passwords in bulk.
func (w *world) fill(ctx context.Context) error {
	db, err := database.Open(ctx, w.database(), database.Options{})
	if err != nil {
		return err
	}
	for n := range w.o.devices {
		if err := w.addDevice(ctx, db, n); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	if err := db.Close(); err != nil {
		return err
	}
	begun := time.Now()
	if err := w.enlarge(ctx); err != nil {
		return err
	}
	fmt.Printf("\n%d app passwords laid in within %v\n", w.credentials, time.Since(begun).Round(time.Millisecond))
	return nil
}

// enlarge adds people with an app password each behind those there are, inside SQLite and
// in one transaction: a restore of a million takes minutes. They never sign in, so one hash
// serves all. Their selectors lie between those that strangers ask for.
func (w *world) enlarge(ctx context.Context) error {
	pool, err := sql.Open("sqlite", "file:"+w.database()+"?_pragma=synchronous(off)&_pragma=cache_size(-400000)")
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(1)
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return errors.Join(err, pool.Close())
	}
	const rows = ` WITH RECURSIVE row(n) AS (SELECT $1 WHERE $1 < $2 UNION ALL SELECT n + 1 FROM row WHERE n + 1 < $2) `
	_, err = tx.ExecContext(ctx, `INSERT INTO person (id, address, name, admin, created, disabled, reason)`+rows+
		`SELECT 'p' || n, 'user' || n || '@example.org', '', 0, 1, 0, '' FROM row`, w.o.devices, w.credentials)
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO credential (id, person, selector, hash, name, login, label, protocols, networks, senders, recipients,
			per_hour, limited, created, expires, revoked, reason, last_use, last_from, last_protocol)`+rows+
			`SELECT 'c' || n, 'p' || n, printf('%06d!%d', n * 7919 % 1000000, n / 1000000), $3, 'phone', 'user' || n || '+phone@example.org', 'Phone',
			'', '', '', '', 0, 0, 1, 0, 0, '', 0, '', '' FROM row`, w.o.devices, w.credentials, w.hash)
	}
	if err == nil {
		err = tx.Commit()
	}
	return errors.Join(err, pool.Close())
}

func (w *world) database() string { return filepath.Join(w.folder, "letterlockd.db") }

func (w *world) addDevice(ctx context.Context, db *database.DB, n int) error {
	person := identity.Person{ID: identity.PersonID(fmt.Sprint("p", n)), Address: fmt.Sprintf("user%d@example.org", n), Created: time.Now()}
	password, selector, hash, err := credential.NewAppPassword(rand.Reader)
	if err != nil {
		return err
	}
	w.hash = hash
	w.devices = append(w.devices, device{person.Address, "phone", password.Reveal()})
	return errors.Join(db.AddPerson(ctx, person), db.AddCredential(ctx, identity.Credential{
		ID: identity.CredentialID(fmt.Sprint("c", n)), Person: person.ID, Selector: selector, Hash: hash, Name: "phone", Label: "Phone", Created: time.Now(),
	}))
}

func (w *world) configure(name string, p place) error {
	text := fmt.Sprintf("domains = [\"example.org\"]\n[database]\nurl = \"sqlite:%s\"\n[postfix]\nsasl = %q\n[throttle]\nallow = [\"127.0.0.0/8\"]\n", w.database(), p.address)
	if p == w.ours && w.viewed() {
		text = strings.Replace(text, "[postfix]", fmt.Sprintf("view_file = %q\n[postfix]", w.views()), 1)
	}
	return os.WriteFile(filepath.Join(w.folder, name), []byte(text), 0o600)
}

// viewed reports whether Dovecot reads a view file. That is compared as a whole after each
// change: of a million it would take gigabytes, and Dovecot asks the same view in the
// database itself.
func (w *world) viewed() bool { return w.credentials <= 10_000 }

func (w *world) views() string { return filepath.Join(w.folder, "mail.db") }

func (w *world) serve(ctx context.Context, name, env string) error {
	process, err := lab.StartProcess(lab.ProcessOptions{
		Name: "letterlockd", Path: w.o.daemon, Args: []string{"--config", filepath.Join(w.folder, name), "serve", "--log", "warn"}, Env: append(os.Environ(), env),
	})
	if err != nil {
		return err
	}
	w.daemons[name] = process
	p := w.ours
	if name == "one.toml" {
		p = w.single
	}
	for begun := time.Now(); ; {
		l, err := open(p)
		if err == nil {
			return l.conn.Close()
		}
		select {
		case <-process.Done():
			return fmt.Errorf("letterlockd ended: %s", strings.Join(process.Log(), "; "))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
		if time.Since(begun) > 10*time.Minute {
			return errors.New("letterlockd does not start")
		}
	}
}

func (w *world) startDovecots(ctx context.Context) error {
	folder := filepath.Join(w.folder, "ca")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	ca, err := lab.NewCA(folder)
	if err != nil {
		return err
	}
	source := w.database()
	if w.viewed() {
		source = w.views()
		err = os.Chmod(source, 0o644)
	}
	if err != nil {
		return err
	}
	sql := filepath.Join(w.folder, "sql.ext")
	query := "driver = sqlite\nconnect = " + source + "\npassword_query = SELECT username AS user, password, allow_nets FROM dovecot_passdb WHERE login = '%Lu' AND service = '%Ls'\n"
	if err := os.WriteFile(sql, []byte(query), 0o644); err != nil {
		return err
	}
	for _, one := range []struct {
		into *place
		more string
	}{{&w.dovecot, ""}, {&w.caching, "auth_cache_size = 100M\n"}} {
		d, err := lab.StartDovecot(ctx, lab.DovecotOptions{CA: ca, Introspection: "-", Mechanisms: "plain login",
			Extra: one.more + "auth_verbose = no\nauth_username_chars =\npassdb {\n  driver = sql\n  args = " + sql + "\n}\n"})
		if err != nil {
			return err
		}
		w.peers = append(w.peers, d)
		*one.into = place{"tcp", fmt.Sprintf("127.0.0.1:%d", d.AuthPort)}
	}
	return nil
}

// strangers are app passwords in their form that nobody was given.
func strangers(n int) []device {
	all := make([]device, n)
	for i := range all {
		all[i] = device{fmt.Sprintf("user%d@example.org", i%100), "x" + strconv.Itoa(i), fmt.Sprintf("%06d-00000-00000-00000-00000-000000", i*104_729%1_000_000)}
	}
	return all
}

// memory prints what each holds.
func (w *world) memory() {
	fmt.Printf("%-34s %-26s %7.1f MB\n", "memory, resident", "letterlockd", resident(w.daemons["two.toml"].Pid()))
	for i, name := range []string{"Dovecot, auth and workers", "… with its cache"} {
		total := 0.0
		for _, pid := range authProcesses(w.peers[i]) {
			total += resident(pid)
		}
		fmt.Printf("%-34s %-26s %7.1f MB\n", "memory, resident", name, total)
	}
}

// authProcesses are Dovecot's auth and its workers.
func authProcesses(d *lab.Dovecot) (pids []int) {
	text, err := os.ReadFile(filepath.Join(d.Dir, "run", "master.pid"))
	if err != nil {
		return nil
	}
	master := strings.TrimSpace(string(text))
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is a good one
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		before, after, _ := strings.Cut(string(text), ") ")
		id, name, _ := strings.Cut(before, " (")
		if fields := strings.Fields(after); len(fields) > 1 && fields[1] == master && name == "auth" {
			pid, _ := strconv.Atoi(id)
			pids = append(pids, pid)
		}
	}
	return pids
}

func resident(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for row := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(row, "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kib) / 1024
		}
	}
	return 0
}

// restart kills letterlockd and starts it again; every session comes back at once. Dovecot
// is asked by fewer: each is a hash to it, before a restart and after.
func (w *world) restart() error {
	if err := syscall.Kill(w.daemons["two.toml"].Pid(), syscall.SIGKILL); err != nil {
		return err
	}
	w.daemons["two.toml"].Stop()
	begun := time.Now()
	if err := w.serve(context.Background(), "two.toml", ""); err != nil {
		return err
	}
	up := time.Since(begun)
	r, err := ask(w.ours, repeat(w.devices, w.o.sessions), 100, "OK")
	if err != nil {
		return fmt.Errorf("after the restart: %w", err)
	}
	fmt.Printf("%-34s %-26s %10d %10.0f %10s %10s  up in %v, all in after %v, %d told to come later\n", "restart, all come back", "letterlockd", w.o.sessions, r.rate(), r.at(50), r.at(99),
		up.Round(time.Millisecond), r.took.Round(time.Millisecond), r.later)
	_, err = w.row(phase{name: "restart, some come back", want: "OK"}, "Dovecot, SQL", w.dovecot, 0, repeat(w.devices, min(w.o.peer, w.o.sessions)))
	if err != nil {
		log := w.peers[0].Log()
		err = fmt.Errorf("%w; Dovecot said %s", err, strings.Join(log[max(0, len(log)-3):], "; "))
	}
	return err
}

func (w *world) close() error {
	for _, d := range w.daemons {
		d.Stop()
	}
	for _, d := range w.peers {
		d.Stop()
	}
	return os.RemoveAll(w.folder)
}

//go:build unix

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PostgresOptions describe a PostgreSQL server.
type PostgresOptions struct {
	// Settings are lines of postgresql.conf, such as "max_connections = 20".
	Settings []string
}

// Postgres is a PostgreSQL server of its own on a loopback port. Its superuser is
// "postgres", with no password on loopback, as is every other role.
type Postgres struct {
	Port int
	Dir  string

	bin, account string // folder of the programs; whose processes they are ("" : ours)
	process      *Process
	hung         bool
}

// StartPostgres makes a cluster and starts it; about a second. PostgreSQL refuses to run
// as root: then it runs as the user postgres, or as nobody where that user is missing.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	p, err := newPostgres()
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	err = p.run(ctx, "initdb", "-D", p.data(), "-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8")
	if err == nil {
		err = p.configureAndStart(ctx, o.Settings)
	}
	if err != nil {
		p.Stop()
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	return p, nil
}

// configureAndStart takes another port when somebody was faster; the last line for a
// setting counts.
func (p *Postgres) configureAndStart(ctx context.Context, settings []string) error {
	_, err := startRetry(func() (*Postgres, error) {
		err := p.configure(settings)
		if err == nil {
			err = p.start(ctx)
		}
		if err != nil && bindConflict(err.Error()) {
			err = errPortTaken
		}
		return p, err
	})
	return err
}

func newPostgres() (*Postgres, error) {
	p := &Postgres{}
	folders, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return nil, err
	}
	if len(folders) == 0 {
		return nil, &Missing{Program: "postgres", Package: "postgresql"}
	}
	sort.Strings(folders)
	p.bin = folders[len(folders)-1]
	if p.Dir, err = newFolder("postgres"); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return p, nil
	}
	for _, p.account = range []string{"postgres", "nobody"} {
		owner, err := user.Lookup(p.account)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(owner.Uid)
		gid, gidErr := strconv.Atoi(owner.Gid)
		return p, errors.Join(uidErr, gidErr, os.Chown(p.Dir, uid, gid))
	}
	return nil, errors.New("neither the user postgres nor nobody is there, and it does not run as root")
}

func (p *Postgres) data() string { return filepath.Join(p.Dir, "data") }

func (p *Postgres) configure(settings []string) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	p.Port = ports[0]
	file, err := os.OpenFile(filepath.Join(p.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	lines := append([]string{"", "listen_addresses = '127.0.0.1'", fmt.Sprintf("port = %d", p.Port),
		fmt.Sprintf("unix_socket_directories = '%s'", p.Dir), "logging_collector = off", "log_min_messages = warning"}, settings...)
	_, err = file.WriteString(strings.Join(lines, "\n") + "\n")
	return errors.Join(err, file.Close())
}

// command is a program of the cluster, as the user who owns it. setpriv replaces itself
// by the program, so its process is the one we know.
func (p *Postgres) command(program string, args ...string) (path string, all []string) {
	path = filepath.Join(p.bin, program)
	if p.account == "" {
		return path, args
	}
	return "setpriv", append([]string{"--reuid", p.account, "--regid", groupOf(p.account), "--clear-groups", path}, args...)
}

func groupOf(account string) string {
	if owner, err := user.Lookup(account); err == nil {
		return owner.Gid
	}
	return account
}

// environment has nothing of ours that libpq would read.
func (p *Postgres) environment() []string { return []string{"PATH=/usr/bin:/bin", "LC_ALL=C"} }

func (p *Postgres) run(ctx context.Context, program string, args ...string) error {
	path, args := p.command(program, args...)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir = p.environment(), p.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

func (p *Postgres) start(ctx context.Context) error {
	if _, err := find("setpriv", "util-linux"); err != nil {
		return err
	}
	path, args := p.command("postgres", "-D", p.data())
	process, err := StartProcess(ProcessOptions{Name: "postgres", Path: path, Args: args, Env: p.environment(), Dir: p.Dir})
	if err != nil {
		return err
	}
	p.process, p.hung = process, false
	return p.ready(ctx)
}

// ready waits until the server takes connections: its log says so before the port does.
func (p *Postgres) ready(ctx context.Context) error {
	path, args := p.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(p.Port))
	for {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Env, cmd.Dir = p.environment(), p.Dir
		if cmd.Run() == nil {
			return nil
		}
		select {
		case <-p.process.Done():
			return fmt.Errorf("postgres ended: %s", p.process.tail(8))
		case <-ctx.Done():
			return fmt.Errorf("wait for postgres: %w: %s", ctx.Err(), p.process.tail(8))
		default: // pg_isready takes some milliseconds itself
		}
	}
}

// URL is where a role reaches a database.
func (p *Postgres) URL(role, database string) string {
	place := url.URL{Scheme: "postgres", User: url.User(role), Host: loopback(p.Port), Path: database, RawQuery: "sslmode=disable"}
	return place.String()
}

// SQL runs statements in a database as the superuser, by psql, and returns the rows,
// columns separated by "|".
func (p *Postgres) SQL(ctx context.Context, database, text string) (string, error) {
	return p.SQLAs(ctx, "postgres", database, text)
}

// SQLAs is SQL as another role.
func (p *Postgres) SQLAs(ctx context.Context, role, database, text string) (string, error) {
	path, args := p.command("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", p.URL(role, database), "-c", text)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir = p.environment(), p.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// NewDatabase makes an empty database.
func (p *Postgres) NewDatabase(ctx context.Context, name string) error {
	_, err := p.SQL(ctx, "postgres", fmt.Sprintf(`CREATE DATABASE "%s"`, name))
	return err
}

// Halt shuts the server down as an operator does (fast shutdown: sessions are cut);
// Resume starts it again.
func (p *Postgres) Halt() { p.end(syscall.SIGINT) }

// Kill ends all its processes at once, as a crash of the machine would but for the disk
// cache; Resume starts it again and waits for the recovery.
func (p *Postgres) Kill() {
	p.freeze()
	backends := children(p.process.Pid())
	p.signalAll(syscall.SIGKILL)
	<-p.process.Done()
	// While a backend lives, its shared memory keeps the next server from starting.
	for _, pid := range backends {
		for alive(pid) {
			<-time.After(5 * time.Millisecond)
		}
	}
}

// alive reports whether a process still runs; one that waits to be reaped does not.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(data), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

func (p *Postgres) end(signal syscall.Signal) {
	p.Continue()
	signalProcess(p.process.cmd.Process, signal)
	<-p.process.Done()
}

// Resume starts a server that was halted or killed, at the same port.
func (p *Postgres) Resume(ctx context.Context) error { return p.start(ctx) }

// Restart halts and resumes.
func (p *Postgres) Restart(ctx context.Context) error {
	p.Halt()
	return p.Resume(ctx)
}

// Hang stops all its processes where they are (SIGSTOP): connections stay open and
// nothing answers. Continue lets them go on.
func (p *Postgres) Hang() {
	p.hung = true
	p.freeze()
	p.signalAll(syscall.SIGSTOP)
}

// freeze stops the server's first process, and returns when it stands still: it makes a new
// one for each connection, which nobody would know of.
func (p *Postgres) freeze() {
	pid := p.process.Pid()
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	for {
		if stat := processStat(fmt.Sprintf("/proc/%d/stat", pid)); stat == nil || stat[0] == "T" || stat[0] == "Z" {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// Continue ends Hang.
func (p *Postgres) Continue() {
	if p.hung {
		p.hung = false
		p.signalAll(syscall.SIGCONT)
	}
}

// signalAll reaches the backends too, each of which leads a group of its own.
func (p *Postgres) signalAll(signal syscall.Signal) {
	for _, pid := range append([]int{p.process.Pid()}, children(p.process.Pid())...) {
		_ = syscall.Kill(pid, signal)
	}
}

func children(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, file := range stats {
		if stat := processStat(file); stat != nil && stat[1] == strconv.Itoa(parent) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// StartStandby copies the server into a hot standby that follows it and is only read.
func (p *Postgres) StartStandby(ctx context.Context) (*Postgres, error) {
	s, err := newPostgres()
	if err != nil {
		return nil, fmt.Errorf("start standby: %w", err)
	}
	err = s.run(ctx, "pg_basebackup", "-D", s.data(), "-R", "-X", "stream", "-c", "fast", "-d", p.URL("postgres", "postgres"))
	if err == nil {
		err = s.configureAndStart(ctx, nil)
	}
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("start standby: %w", err)
	}
	return s, nil
}

// Promote makes a standby a server that writes, and waits for it.
func (p *Postgres) Promote(ctx context.Context) error {
	_, err := p.SQL(ctx, "postgres", "SELECT pg_promote(true, 600)")
	return err
}

// Stop ends the server and removes its folder. Stopping twice is harmless.
func (p *Postgres) Stop() {
	if p.process != nil {
		p.Continue()
		// SIGQUIT: nothing is kept, so nothing need be written.
		signalProcess(p.process.cmd.Process, syscall.SIGQUIT)
		p.process.Stop()
	}
	os.RemoveAll(p.Dir)
}

// Log returns what the server logged.
func (p *Postgres) Log() []string { return p.process.Log() }

// RunPostgres is StartPostgres for a test.
func RunPostgres(t TB, o PostgresOptions) *Postgres {
	t.Helper()
	return run(t, "postgres", func(ctx context.Context) (*Postgres, error) { return StartPostgres(ctx, o) })
}

// RunStandby is StartStandby for a test.
func (p *Postgres) RunStandby(t TB) *Postgres {
	t.Helper()
	return run(t, "standby", p.StartStandby)
}

package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// An Answer is what a program said.
type Answer struct {
	Out, Err string
	Code     int
}

// A User is whose rights a program runs with; the zero User: our own.
type User struct {
	UID, GID int
	As       bool
}

// Ask runs a program as another user, with a limit on its time and its output. That it
// fails is an answer too; an error says that it could not be run.
func Ask(ctx context.Context, as User, program string, args ...string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = append(os.Environ(), "LC_ALL=C"), "/"
	cmd.WaitDelay = time.Second
	out, complaints := &bounded{left: maxOutput}, &bounded{left: maxOutput}
	cmd.Stdout, cmd.Stderr = out, complaints
	if as.As {
		runAs(cmd, as.UID, as.GID)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Answer{}, fmt.Errorf("run %s: %w", program, err)
	}
	return Answer{Out: out.String(), Err: complaints.String(), Code: cmd.ProcessState.ExitCode()}, nil
}

// complaint is the last line of what a program complained of, without the time and name
// that come first.
func (a Answer) complaint() string {
	lines := strings.Split(strings.TrimSpace(a.Err), "\n")
	line := lines[len(lines)-1]
	if _, after, ok := strings.Cut(line, ": "); ok {
		line = after
	}
	const limit = 300
	if len(line) > limit {
		line = strings.ToValidUTF8(line[:limit], "") + "..."
	}
	if line == "" {
		return fmt.Sprintf("exit status %d", a.Code)
	}
	return line
}

// A table is one of ours that Postfix looks up by SQL.
type table struct {
	kind, path string
	proxied    bool
}

func (t table) name() string { return filepath.Base(t.path) }

func (t table) ref() string {
	if t.proxied {
		return "proxy:" + t.kind + ":" + t.path
	}
	return t.kind + ":" + t.path
}

// tablesOf are ours among the tables of a setting.
func tablesOf(value string) []table {
	var all []table
	for _, word := range words(value) {
		bare, proxied := strings.CutPrefix(word, "proxy:")
		kind, path, ok := strings.Cut(bare, ":")
		if ok && (kind == "pgsql" || kind == "sqlite") && strings.HasPrefix(filepath.Base(path), "letterlock-") {
			all = append(all, table{kind, path, proxied})
		}
	}
	return all
}

// tables are all of ours, each once.
func (f *postfixFacts) tables() []table {
	var all []table
	add := func(value string) {
		for _, t := range tablesOf(value) {
			if !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	for _, s := range f.submissions() {
		add(s.get("smtpd_sender_login_maps"))
	}
	for _, name := range []string{"virtual_alias_maps", "virtual_mailbox_maps", "relay_recipient_maps"} {
		add(f.main[name])
	}
	return all
}

// notBySQL finds submission services that do not ask SQL although they should.
func notBySQL(f *postfixFacts, s service) string {
	return unless(!f.SQL || len(tablesOf(s.get("smtpd_sender_login_maps"))) > 0, "smtpd_sender_login_maps names no table of letterlockd's")
}

// unapproved are tables that proxymap does not open.
func unapproved(_ context.Context, f *postfixFacts) []sighting {
	approved := words(f.main["proxy_read_maps"])
	var seen []sighting
	for _, t := range f.tables() {
		if t.proxied && !slices.Contains(approved, t.ref()) {
			seen = append(seen, sighting{where: t.path, what: "proxy_read_maps does not name " + t.ref()})
		}
	}
	return seen
}

// lookUp asks a table as Postfix does: as its user, with its own program. found is false
// when the table answers that it has no such key.
func (f *postfixFacts) lookUp(ctx context.Context, t table, key string) (value string, found bool, err error) {
	args := []string{"-q", key, t.kind + ":" + t.path}
	if f.Dir != "" {
		args = append([]string{"-c", f.Dir}, args...)
	}
	answer, err := f.ask(ctx, User{f.UID, f.GID, f.As}, "postmap", args...)
	switch {
	case err != nil:
		return "", false, err
	case answer.Code == 0:
		return strings.TrimSpace(answer.Out), true, nil
	case answer.Code == 1 && strings.TrimSpace(answer.Err) == "":
		return "", false, nil
	}
	return "", false, errors.New(answer.complaint())
}

// askTables asks each table about the sample, or about nobody: it has to answer.
func askTables(ctx context.Context, f *postfixFacts) []sighting {
	key := f.sample
	if key == "" {
		key = "nobody@" + f.Domain
	}
	var seen []sighting
	for _, t := range f.tables() {
		if _, _, err := f.lookUp(ctx, t, key); err != nil && ctx.Err() == nil {
			seen = append(seen, sighting{where: t.path, what: "the user postfix gets no answer: " + err.Error()})
		}
	}
	return seen
}

// askSample wants the printed queries to know a person: as the sender, and as a mailbox.
func askSample(ctx context.Context, f *postfixFacts) []sighting {
	var seen []sighting
	for _, t := range f.tables() {
		what := map[string]string{"letterlock-senders.cf": "who may send as", "letterlock-recipients.cf": "the mailbox of"}[t.name()]
		if what == "" {
			continue
		}
		if f.sample == "" {
			return []sighting{nobody(f.unsampled)}
		}
		value, found, err := f.lookUp(ctx, t, f.sample)
		if err != nil || ctx.Err() != nil {
			continue // postfix-sql-table tells
		}
		if !found || !slices.Contains(words(value), f.sample) {
			seen = append(seen, sighting{where: t.path, what: fmt.Sprintf("it does not know %s %s", what, f.sample)})
		}
	}
	return seen
}

// nobody is why nobody can be asked about.
func nobody(err error) sighting {
	if err != nil {
		return sighting{level: Skipped, what: "unknown: " + err.Error()}
	}
	return sighting{level: Skipped, what: "there is nobody to ask about yet: letterlockd person add"}
}

// sqlPassdb is ours among those of SQL.
func (f *dovecotFacts) sqlPassdb() (passdb, bool) {
	for _, p := range f.passdbs {
		if p.get("driver", "") == "sql" && filepath.Base(p.file) == "letterlock-sql.conf.ext" {
			return p, true
		}
	}
	return passdb{}, false
}

// bySQL reports whether this Dovecot never asks letterlockd itself.
func (f *dovecotFacts) bySQL() bool {
	_, ours := f.sqlPassdb()
	return len(f.asking()) == 0 && (ours || f.SQL)
}

// otherQuery finds a passdb of ours that asks SQL something else than config prints.
func otherQuery(_ context.Context, f *dovecotFacts) []sighting {
	p, ours := f.sqlPassdb()
	switch {
	case !ours && f.bySQL():
		return []sighting{{where: "passdb", what: "no passdb asks the views of letterlockd"}}
	case !ours || f.Query == "":
		return nil
	case p.err != nil:
		return []sighting{{where: p.file, level: Skipped, what: p.err.Error()}}
	case p.ext["password_query"] != f.Query:
		return []sighting{{where: p.file, what: "password_query is not the one that config dovecot prints"}}
	}
	return nil
}

// askView has the running Dovecot ask the views with its own account, by a sign-in of
// somebody whom there cannot be: "no" is an answer, "not now" is none. That somebody's real
// name gets in cannot be tried without their password, and a wrong one would count.
func askView(ctx context.Context, f *dovecotFacts) []sighting {
	p, ours := f.sqlPassdb()
	if !ours {
		return nil
	}
	args := []string{"auth", "test", "-x", "service=imap", "nobody@letterlock.invalid", "letterlock-doctor"}
	if f.Dir != "" {
		args = append([]string{"-c", filepath.Join(f.Dir, "dovecot.conf")}, args...)
	}
	answer, err := f.ask(ctx, User{}, "doveadm", args...)
	const refused = 77 // EX_NOPERM of sysexits(3)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return []sighting{{where: p.file, level: Skipped, what: "unknown: " + err.Error()}}
	case strings.Contains(answer.Out, "temp"):
		return []sighting{{where: p.file, what: "Dovecot gets no answer: its log says why"}}
	case answer.Code == refused && strings.Contains(answer.Out, "auth failed"):
		return nil
	}
	return []sighting{{where: p.file, level: Skipped, what: "unknown: " + answer.complaint()}}
}

// roleFlags repeats how a printed table file reaches PostgreSQL, where that is not by the
// usual role.
func roleFlags(user string, password bool, usual string) string {
	flags := ""
	if user != "" && user != usual {
		flags += " --sql-role " + quote(user)
	}
	if password {
		flags += " --sql-password-file FILE"
	}
	return flags
}

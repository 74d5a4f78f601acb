//go:build lab && linux

package callers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// recorder stands where the binary is, writes down how it was called under one of the
// names that take mail, and then is the real one with the same name, arguments,
// environment, standard input and exit status.
const recorder = `#!/usr/bin/perl
use strict;
my $real = '/usr/local/libexec/letterlock';
exec {$real} $0, @ARGV unless $0 =~ m{(?:^|/)(?:sendmail|mailx?)$};
my $dir; my $n = 0;
do { $dir = "/record/$$." . time . "." . $n++ } until mkdir $dir, 0777;
sub note { my ($name, $text) = @_; open my $f, '>', "$dir/$name" or die; binmode $f; print $f $text; close $f or die }
binmode STDIN; my $text = do { local $/; <STDIN> };
note('args', join("\0", $0, @ARGV)); note('env', join("\n", map { "$_=$ENV{$_}" } sort keys %ENV)); note('user', scalar getpwuid $>); note('stdin', $text // '');
open STDIN, '<', "$dir/stdin" or die;
my $status = system {$real} $0, @ARGV;
$status = $status & 127 ? 255 : $status >> 8;
note('status.new', $status); rename "$dir/status.new", "$dir/status" or die;
exit $status;
`

// A call is one that the recorder wrote down.
type call struct {
	dir    string
	args   []string
	env    string
	user   string
	stdin  string
	status string
}

// record puts the recorder in place.
func (m *machine) record() {
	m.t.Helper()
	m.sh("root", "mkdir -m 1777 /record && install -D /usr/local/bin/letterlock /usr/local/libexec/letterlock")
	m.write("/usr/local/bin/letterlock.new", recorder, 0o755)
	m.sh("root", "mv /usr/local/bin/letterlock.new /usr/local/bin/letterlock")
}

// calls waits until n calls have ended that were not asked for before, and returns
// them in the order in which they began.
func (m *machine) calls(n int) []call {
	m.t.Helper()
	ctx, tick := within(m.t), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		done, err := filepath.Glob(m.room.Path("/record/*/status"))
		if err != nil {
			m.t.Fatal(err)
		}
		done = slices.DeleteFunc(done, func(path string) bool { return m.seen[path] })
		if len(done) >= n {
			var all []call
			for _, path := range done {
				m.seen[path] = true
				all = append(all, m.readCall(filepath.Dir(path)))
			}
			return all
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.t.Errorf("%d of %d calls came", len(done), n)
			return nil
		}
	}
}

func (m *machine) readCall(dir string) call {
	m.t.Helper()
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			m.t.Fatal(err)
		}
		return string(data)
	}
	return call{dir: dir, args: strings.Split(read("args"), "\x00"), env: read("env"), user: read("user"), stdin: read("stdin"), status: read("status")}
}

// compare holds what arrived against what the callers wrote: each message is one of
// theirs, and each of theirs is there.
func (m *machine) compare(p program, calls []call, got []arrival) {
	m.t.Helper()
	arrived := map[string]bool{}
	for _, a := range got {
		var all []string
		for _, c := range calls {
			differ := c.differences(a.letter, p.ours())
			if differ == nil {
				arrived[c.dir] = true
				all = nil
				break
			}
			all = append(all, fmt.Sprintf("%q: %s", c.args, strings.Join(differ, "\n\t")))
		}
		if all != nil {
			m.t.Errorf("to %s came none of what was written:\n%s", a.mailbox, strings.Join(all, "\n"))
		}
	}
	for _, c := range calls {
		if c.status != "0" || !arrived[c.dir] {
			m.t.Errorf("%q by %s ended with %s; arrived: %v\n%s", c.args, c.user, c.status, arrived[c.dir], c.stdin)
		}
		if !strings.Contains(strings.Join(c.args, " "), p.args) {
			m.t.Errorf("called as %q, not with %q", c.args, p.args)
		}
	}
}

// differences says how a letter is not the one of this call.
func (c call) differences(got letter, ours string) []string {
	if strings.HasSuffix(c.args[0], "sendmail") {
		return differences(readLetter(c.stdin), got.clone(), ours)
	}
	// mail: the header is of its making, and so are the parts where there are files.
	var out []string
	if file := slices.Index(c.args, "-A"); file > 0 {
		text, files := "\n\n"+c.stdin+"\n--", strings.Count(got.body, "Content-Disposition: attachment; filename="+c.args[file+1]+"\n")
		if !strings.Contains(got.body, text) || files != 2 {
			out = append(out, "the text and two attachments are not in "+got.body)
		}
		return out
	}
	if strings.TrimSuffix(got.body, "\n") != strings.TrimSuffix(c.stdin, "\n") {
		out = append(out, fmt.Sprintf("the text was %q and is %q", c.stdin, got.body))
	}
	if at := slices.Index(c.args, "-s"); at > 0 && got.subject() != c.args[at+1] {
		out = append(out, fmt.Sprintf("the subject was %q and is %q", c.args[at+1], got.subject()))
	}
	if at := slices.Index(c.args, "-a"); at > 0 && !slices.Contains(got.fields, headerField(c.args[at+1])) {
		out = append(out, "there is no "+c.args[at+1])
	}
	return out
}

func headerField(text string) field {
	name, value, _ := strings.Cut(text, ":")
	return field{name, value}
}

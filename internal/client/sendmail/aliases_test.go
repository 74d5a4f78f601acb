package sendmail

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseAliases(t *testing.T) {
	a, err := ParseAliases(strings.NewReader("# comment\n\nroot: ops@x.test,\n  \"Two, Comma\" <two@x.test>\n\t# within\nMAILER-DAEMON:\tpostmaster\r\n\"quoted name\": x@y.test\nempty:\nprog: \"|/bin/sh -c x\", /dev/null, :include:/etc/list, real@x.test\nself: \\self, other\n"))
	if err == nil {
		t.Fatal("a name with a blank was taken")
	}
	a, err = ParseAliases(strings.NewReader("# comment\n\nroot: ops@x.test,\n  \"Two, Comma\" <two@x.test>\n\t# within\nMAILER-DAEMON:\tpostmaster\r\n\"quoted\": x@y.test\nempty:\nprog: \"|/bin/sh -c x\", /dev/null, :include:/etc/list, real@x.test\nself: \\self, other\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"root": "[ops@x.test two@x.test]", "mailer-daemon": "[postmaster]", "quoted": "[x@y.test]", "prog": "[real@x.test]", "self": "[self other]", "empty": "[]",
	} {
		if got := fmt.Sprint(a.Entries[name]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if len(a.Unusable["prog"]) != 3 {
		t.Errorf("unusable: %q", a.Unusable)
	}
}

func TestBadAliases(t *testing.T) {
	for in, line := range map[string]string{
		"  goes on\n": "line 1", "ok: a@x\nno colon\n": "line 2", "a: b@x\nc: b\x00d@x\n": "line 2", "\"open: x\n": "line 1", ": x@y\n": "line 1", "a b: x@y\n": "line 1",
	} {
		if _, err := ParseAliases(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("%q: %v, want %s", in, err, line)
		}
	}
	if _, err := ParseAliases(strings.NewReader(strings.Repeat("#\n", AliasLimit))); err == nil {
		t.Error("a file without end was read")
	}
	if a, err := LoadAliases(filepath.Join(t.TempDir(), "none")); err != nil || len(a.Entries) != 0 {
		t.Errorf("no file: %v, %v", a, err)
	}
}

// Chains end, however long, and however wide.
func TestAliasBounds(t *testing.T) {
	long := Aliases{Entries: map[string][]string{}}
	wide := Aliases{Entries: map[string][]string{}}
	for i := range 30 {
		long.Entries[fmt.Sprint("a", i)] = []string{fmt.Sprint("a", i+1)}
		wide.Entries[fmt.Sprint("a", min(i, 5))] = slices.Repeat([]string{fmt.Sprint("a", min(i, 5)+1)}, 10)
	}
	for name, a := range map[string]Aliases{"long": long, "wide": wide} {
		if _, err := a.expand("a0"); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func FuzzAliases(f *testing.F) {
	f.Add("root: ops@x.test, \"a, b\" <c@x.test>\n  more@x.test\nprog: |x\nb: \\b, a\n", "root")
	f.Add("a: b\nb: a, c\n", "a")
	f.Fuzz(func(t *testing.T, file, name string) {
		a, err := ParseAliases(strings.NewReader(file))
		if err != nil {
			return
		}
		targets, err := a.expand(name)
		if err != nil {
			return
		}
		if len(targets) == 0 {
			t.Fatalf("%q leads nowhere", name)
		}
		for _, target := range targets {
			if target != name && strings.ContainsAny(target, "\r\n\x00") {
				t.Fatalf("%q leads to %q", name, target)
			}
		}
	})
}

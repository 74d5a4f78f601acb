package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/server/doctor"
)

// On a machine with one of the two, doctor --sql looks at that one and says what is absent;
// its exit status is about what it found. The programs here print nothing at all, which is
// wrong for whoever is to ask SQL.
func TestDoctorBySQLWithOneOfTwo(t *testing.T) {
	silent, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		there, absent string
		args          []string
		code          cli.Code
	}{
		{there: "doveconf", absent: "postfix-installed", code: cli.Config},
		{there: "postconf", absent: "dovecot-installed", code: cli.Config},
		{code: cli.Unavailable},
		// Whoever says where it is says that it is there.
		{there: "doveconf", args: []string{"--postfix-dir", "/etc/postfix"}, code: cli.Unavailable},
		{there: "postconf", args: []string{"--dovecot-dir", "/etc/dovecot"}, code: cli.Unavailable},
	} {
		bin := t.TempDir()
		if c.there != "" {
			if err := os.Symlink(silent, filepath.Join(bin, c.there)); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("PATH", bin)
		d := bareDesk(t, "http")
		d.listener.Close()
		d.configure("example.org", "")
		out, err := d.run(append([]string{"doctor", "--sql", "--json"}, c.args...)...)
		code := cli.OK
		var f *cli.Fault
		if errors.As(err, &f) {
			code = f.Code
		}
		if code != c.code {
			t.Errorf("with %q %v: %v, code %d, want %d", c.there, c.args, err, code, c.code)
		}
		var found []doctor.Finding
		if c.absent == "" {
			continue
		}
		if err := json.Unmarshal([]byte(out), &found); err != nil {
			t.Fatalf("with %q: %v in %q", c.there, err, out)
		}
		said := false
		for _, f := range found {
			said = said || f.ID == c.absent && f.Level == doctor.Skipped
		}
		if !said {
			t.Errorf("with %q: %s is not said: %+v", c.there, c.absent, found)
		}
	}
	absent := []doctor.Finding{{ID: "postfix-installed", Level: doctor.Skipped}, {ID: "dovecot-sql-off", Level: doctor.OK}}
	if err := verdict(absent); err != nil {
		t.Errorf("what is absent is wrong: %v", err)
	}
}

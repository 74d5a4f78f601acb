package main

import (
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/doctor"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A provider that has not answered for a day is wrong, people who wait are a warning, and
// what goes well is silent.
func TestDoctorOnMembership(t *testing.T) {
	d := newDesk(t, "http")
	defer d.listener.Close()
	d.must("person", "add", "ann@example.org")
	if found, err := d.p.memberFindings(t.Context()); err != nil || found != nil {
		t.Errorf("without a section: %+v %v", found, err)
	}
	issuer := d.p.conf.SignIn["github"].URL
	d.p.conf.Membership = map[string]config.Membership{"github": {AppID: "1", Every: time.Hour}}
	levels := func() string {
		t.Helper()
		found, err := d.p.memberFindings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range found {
			all = append(all, f.ID+" "+string(f.Level))
		}
		return strings.Join(all, ", ")
	}
	put := func(ago time.Duration, trouble string) {
		t.Helper()
		if err := d.p.db.PutMembershipLook(t.Context(), identity.MembershipLook{Issuer: issuer, Asked: time.Now().Add(-ago), Trouble: trouble}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what, want string) {
		t.Helper()
		if got := levels(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	ok, wrong := "membership-answer "+string(doctor.OK), "membership-answer "+string(doctor.Wrong)
	want("not asked yet", ok)
	put(25*time.Hour, "")
	put(time.Hour, "the app is uninstalled")
	want("no answer for a day", wrong)
	put(0, "")
	want("answered", ok)
	put(0, "away")
	want("away for a moment", ok)
	d.must("person", "bind", "ann@example.org", "--issuer", issuer, "--subject", "7")
	p, _, _ := d.person("ann@example.org")
	if err := d.p.db.PutLeaver(t.Context(), identity.Leaver{Issuer: issuer, Subject: "7", Person: p.ID, State: identity.LeaverWaiting, Since: time.Now()}); err != nil {
		t.Fatal(err)
	}
	want("somebody waits", ok+", membership-waiting "+string(doctor.Warning))
}

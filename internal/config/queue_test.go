package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestQueueSection(t *testing.T) {
	c, err := Parse("f", []byte(`
[account."a@x"]
sender = "refuse"
users = ["www-data", "1001", "@adm"]
[account."nobody@x"]
users = []
[account."all@x"]
[queue]
account = "a@x"
root = ["ops@x", "two@x"]
aliases = "/etc/mail/aliases"
domain = "x"
on_unknown = "resend"
give_up = "2d"
parallel = 3
per_destination = 2
max_size = 25
user_messages = 100
user_recipients = 50
user_entries = 10
user_size = 64
[notify]
command = ["notify-send", "mail"]
`))
	if err != nil {
		t.Fatal(err)
	}
	q := c.Queue
	if c.Accounts["a@x"].Sender != "refuse" || q.Account != "a@x" || len(q.Root) != 2 || q.Aliases != "/etc/mail/aliases" || q.Domain != "x" ||
		q.OnUnknown != "resend" || q.GiveUp != 48*time.Hour || q.Parallel != 3 || q.PerDestination != 2 || q.MaxSize != 25 || len(c.Notify.Command) != 2 {
		t.Errorf("decoded wrongly: %+v %+v", q, c.Notify)
	}
	if q.UserMessages != 100 || q.UserRecipients != 50 || q.UserEntries != 10 || q.UserSize != 64 {
		t.Errorf("limits: %+v", q)
	}
	nobody, all := c.Accounts["nobody@x"].Users, c.Accounts["all@x"].Users
	if got := strings.Join(c.Accounts["a@x"].Users, " "); got != "www-data 1001 @adm" || nobody == nil || len(nobody) != 0 || all != nil {
		t.Errorf("users: %q, %v, %v", got, nobody, all)
	}
}

func TestQueueFaults(t *testing.T) {
	_, err := Parse("f", []byte(`notify = 1
[account."a@x"]
sender = "lie"
users = ["www data", "@"]
[queue]
account = "b@x"
root = "ops@x"
on_unknown = "drop"
give_up = "1m"
parallel = 0
per_destination = "2"
max_size = 99999
user_size = 0
speed = 1
`))
	var faults *Error
	if !errors.As(err, &faults) {
		t.Fatalf("err = %v", err)
	}
	want := []string{
		`f:1: notify must be written as [notify]`,
		`f:3: sender in [account."a@x"] must be one of rewrite, refuse, keep`,
		`f:4: users in [account."a@x"] must be an array of strings, and an element must be a user name, a uid, or @ and a group`,
		`f:6: account in [queue]: there is no [account."b@x"]`,
		`f:7: root in [queue] must be an array of strings`,
		`f:8: on_unknown in [queue] must be one of ask, resend`,
		`f:9: give_up in [queue] must be a time like "12h" or "5d", from 1h0m0s to 30 days`,
		`f:10: parallel in [queue] must be a number from 1 to 200`,
		`f:11: per_destination in [queue] must be a number from 1 to 100`,
		`f:12: max_size in [queue] must be a number from 1 to 4096`,
		`f:13: user_size in [queue] must be a number from 1 to 1048576`,
		`f:14: unknown key "speed" in [queue]`,
	}
	if got := strings.Join(faults.Lines(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

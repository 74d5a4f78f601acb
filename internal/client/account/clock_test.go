package account

import (
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

func TestUsable(t *testing.T) {
	issued := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	hour := Access{Token: secret.New("a"), Issued: issued, Expiry: issued.Add(time.Hour)}
	short := Access{Token: secret.New("a"), Issued: issued, Expiry: issued.Add(time.Minute)}
	imported := Access{Token: secret.New("a"), Expiry: issued.Add(time.Hour)}
	tests := []struct {
		name   string
		access Access
		now    time.Duration // since issued
		want   Want
		usable bool
	}{
		{"fresh", hour, 0, Want{}, true},
		{"just enough left", hour, 55 * time.Minute, Want{}, true},
		{"a second too little left", hour, 55*time.Minute + time.Second, Want{}, false},
		{"expired", hour, 2 * time.Hour, Want{}, false},
		{"expires now", hour, time.Hour, Want{MinValidity: 1}, false},
		{"caller wants ten minutes", hour, 52 * time.Minute, Want{MinValidity: 10 * time.Minute}, false},
		{"caller wants little", hour, 59 * time.Minute, Want{MinValidity: time.Second}, true},
		{"negative means the default", hour, 56 * time.Minute, Want{MinValidity: -1}, false},
		{"no token", Access{Expiry: issued.Add(time.Hour)}, 0, Want{}, false},
		{"expiry unknown", Access{Token: secret.New("a"), Issued: issued}, 0, Want{}, false},
		{"refused by a server", hour, 0, Want{Refused: secret.New("a")}, false},
		{"another was refused", hour, 0, Want{Refused: secret.New("b")}, true},
		{"imported, issue unknown", imported, 0, Want{}, true},
		{"clock back within skew", hour, -59 * time.Second, Want{MinValidity: time.Hour}, true},
		{"clock back beyond skew", hour, -2 * time.Minute, Want{}, false},
		{"clock at 1970", hour, time.Unix(0, 0).Sub(issued), Want{}, false},
		{"clock far ahead", hour, 20 * 365 * 24 * time.Hour, Want{}, false},
		{"shorter than wanted, fresh", short, 0, Want{}, true},
		{"shorter than wanted, first quarter", short, 15 * time.Second, Want{}, true},
		{"shorter than wanted, later", short, 16 * time.Second, Want{}, false},
		{"shorter than wanted, dead", short, time.Minute, Want{}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.access.usable(issued.Add(test.now), test.want); got != test.usable {
				t.Errorf("usable = %t", got)
			}
		})
	}
}

// A token never seems to live longer than the provider said, whatever the clock.
func TestSkewGivesNoExtraLife(t *testing.T) {
	issued := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	access := Access{Token: secret.New("a"), Issued: issued, Expiry: issued.Add(10 * time.Minute)}
	// Half a minute "before" its issue 10.5 minutes seem left; it is told as 10.
	if !access.usable(issued.Add(-30*time.Second), Want{MinValidity: 10 * time.Minute}) {
		t.Error("not usable for its whole life at issue")
	}
	dead := Access{Token: secret.New("a"), Issued: issued, Expiry: issued}
	if dead.usable(issued.Add(-30*time.Second), Want{MinValidity: time.Second}) {
		t.Error("a token without any life was called usable")
	}
}

func TestObtainedSince(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	old := Access{Token: secret.New("old")}
	tests := []struct {
		name    string
		current Access
		want    Want
		ok      bool
	}{
		{"same as before", old, Want{}, false},
		{"new, expiry unknown", Access{Token: secret.New("new")}, Want{}, true},
		{"new, short", Access{Token: secret.New("new"), Expiry: now.Add(time.Second)}, Want{}, true},
		{"new, dead already", Access{Token: secret.New("new"), Expiry: now}, Want{}, false},
		{"new, refused", Access{Token: secret.New("new")}, Want{Refused: secret.New("new")}, false},
		{"none", Access{}, Want{}, false},
	}
	for _, test := range tests {
		if got := test.current.obtainedSince(old, now, test.want); got != test.ok {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

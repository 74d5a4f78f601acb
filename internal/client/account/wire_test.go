package account

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

func fullGrant() *Grant {
	at := time.Date(2026, 11, 21, 12, 0, 0, int(123*time.Millisecond), time.UTC)
	grant := testGrant("https://try.test/token?a=<b>&c", "1//refresh", at)
	grant.Subject = "You <you@try.test>"
	grant.Client.Secret = secret.New("client-secret")
	grant.Client.Registration = &oauth.Registered{ClientURI: "https://try.test/reg", AccessToken: secret.New("registration")}
	grant.RefreshExpiry, grant.Refreshed, grant.Serial = at.Add(time.Hour), at, 42
	grant.Access["mail"] = Access{Token: secret.New("t"), Issued: at, Expiry: at.Add(time.Hour), Scopes: []string{"mail"}}
	return grant
}

// TestVersions: only a grant that needs the new field is written in the new version,
// which older programs refuse instead of dropping it.
func TestVersions(t *testing.T) {
	grant := fullGrant()
	plain, err := encode(grant)
	if err != nil || !bytes.Contains(plain, []byte(`"version":1,`)) || bytes.Contains(plain, []byte("key_file")) {
		t.Errorf("%v: %s", err, plain)
	}
	grant.KeyFile = "/etc/letterlock/key.pem"
	if plain, err = encode(grant); err != nil || !bytes.Contains(plain, []byte(`"version":2,`)) {
		t.Errorf("%v: %s", err, plain)
	}
	if got, err := decode(testName, plain); err != nil || got.KeyFile != grant.KeyFile {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := decode(testName, bytes.Replace(plain, []byte(`"version":2,`), []byte(`"version":1,`), 1)); !errors.Is(err, tokenstore.ErrDamaged) {
		t.Errorf("a new field in the old version: %v", err)
	}
}

func TestGrantSurvivesTheFile(t *testing.T) {
	grant := fullGrant()
	plain, err := encode(grant)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(testName, plain)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(grant, got); diff != "" {
		t.Error(diff)
	}
}

// Nothing may fail between the provider's answer and the disk.
func TestEncodeTakesAnything(t *testing.T) {
	grant := fullGrant()
	grant.Access["mail"] = Access{Token: secret.New("\xff\x00"), Expiry: time.Unix(math.MaxInt64/2, 0), Issued: time.Unix(math.MinInt64/2, 0)}
	plain, err := encode(grant)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(testName, plain); err != nil {
		t.Error(err)
	}
}

func TestLargeGrantDropsItsCaches(t *testing.T) {
	grant := fullGrant()
	long := secret.New(strings.Repeat("x", tokenLimit))
	for i := range 3 {
		name := fmt.Sprint("resource-", i)
		grant.Resources = append(grant.Resources, Resource{Name: name})
		grant.Access[name] = Access{Token: long}
	}
	plain, err := encode(grant)
	if err != nil || len(plain) > cacheLimit {
		t.Fatalf("%d bytes, %v", len(plain), err)
	}
	got, err := decode(testName, plain)
	if err != nil || len(got.Access) != 0 || !got.Refresh.Equal(grant.Refresh) {
		t.Errorf("%d access tokens kept, %v", len(got.Access), err)
	}
	grant.Login = strings.Repeat("x", grantLimit)
	if _, err := encode(grant); err == nil {
		t.Error("a grant over the limit was encoded")
	}
}

func TestDecodeRefuses(t *testing.T) {
	plain, err := encode(fullGrant())
	if err != nil {
		t.Fatal(err)
	}
	good := string(plain)
	tests := []struct {
		name, plain string
		want        error
	}{
		{"empty", "", tokenstore.ErrDamaged},
		{"cut off", good[:len(good)/2], tokenstore.ErrDamaged},
		{"twice", good + good, tokenstore.ErrDamaged},
		{"an array", "[]", tokenstore.ErrDamaged},
		{"null", "null", tokenstore.ErrDamaged},
		{"no version", "{}", tokenstore.ErrDamaged},
		{"version 0", strings.Replace(good, `"version":1`, `"version":0`, 1), tokenstore.ErrDamaged},
		{"version 3", strings.Replace(good, `"version":1`, `"version":3`, 1), ErrVersion},
		{"version 3 with unknown fields", `{"version":3,"new":[]}`, ErrVersion},
		{"unknown field", strings.Replace(good, `"login"`, `"log"`, 1), tokenstore.ErrDamaged},
		{"another account", strings.Replace(good, `"account":"you@`, `"account":"me@`, 1), tokenstore.ErrDamaged},
		{"no resources", `{"version":1,"account":"you@try.test","resources":[]}`, tokenstore.ErrDamaged},
		{"a resource twice", strings.Replace(good, `"name":"graph"`, `"name":"mail"`, 1), tokenstore.ErrDamaged},
		{"a stray access token", strings.Replace(good, `"access":{"mail"`, `"access":{"other"`, 1), tokenstore.ErrDamaged},
		{"too large", good + strings.Repeat(" ", grantLimit), tokenstore.ErrDamaged},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.plain == good {
				t.Fatal("the case changes nothing")
			}
			_, err := decode(testName, []byte(test.plain))
			if !errors.Is(err, test.want) {
				t.Fatalf("decode = %v", err)
			}
			if strings.Contains(err.Error(), "refresh") || strings.Contains(err.Error(), "client-secret") {
				t.Errorf("the error quotes the grant: %v", err)
			}
		})
	}
}

// What decodes is a grant that encodes, to the same again.
func FuzzDecode(f *testing.F) {
	plain, err := encode(fullGrant())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Fuzz(func(t *testing.T, data []byte) {
		grant, err := decode(testName, data)
		if err != nil {
			if !errors.Is(err, tokenstore.ErrDamaged) && !errors.Is(err, ErrVersion) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		first, err := encode(grant)
		if err != nil {
			if len(data) < grantLimit/2 {
				t.Fatalf("encode: %v", err)
			}
			return
		}
		again, err := decode(testName, first)
		if err != nil {
			t.Fatalf("decode again: %v", err)
		}
		second, err := encode(again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("not stable: %v", err)
		}
		// The clock rules take whatever times the file holds.
		for _, access := range grant.Access {
			access.usable(time.Unix(0, 0), Want{})
			access.obtainedSince(Access{}, time.Now(), Want{})
		}
	})
}

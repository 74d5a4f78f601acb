package takeover

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// TestMain lets the test program be the decrypting program as well.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "fake-decrypt-") {
		fakeDecrypt(os.Args[1])
	}
	goleak.VerifyTestMain(m)
}

func fakeDecrypt(mode string) {
	switch mode {
	case "fake-decrypt-upper":
		sealed, _ := io.ReadAll(os.Stdin)
		os.Stdout.WriteString(strings.TrimPrefix(string(sealed), "sealed:"))
	case "fake-decrypt-fail":
		os.Stdout.WriteString("half a secret")
		os.Stderr.WriteString("first line\nno secret key\x1b[2J\n")
		os.Exit(2)
	case "fake-decrypt-silent":
		os.Exit(1)
	case "fake-decrypt-flood":
		for {
			if _, err := os.Stdout.WriteString(strings.Repeat("{", 64<<10)); err != nil {
				os.Exit(1)
			}
		}
	case "fake-decrypt-ask":
		os.Stderr.WriteString("ready\n")
		<-time.After(time.Hour) // until it is killed; with no timer the runtime would call it a deadlock
	}
	os.Exit(0)
}

const (
	oldFile = `{"registration": "microsoft", "authflow": "devicecode", "email": "me@example.org", "access_token": "access-1",
		"access_token_expiration": "2026-11-22T12:34:56.789012", "refresh_token": "refresh-1"}`
	newFile = `{"registration": "google", "authflow": "localhostauthcode", "email": "me@gmail.com", "access_token": "",
		"access_token_expiration": "", "refresh_token": "1//refresh", "client_id": "id.apps", "client_secret": "s3cret",
		"redirect_uri": "http://localhost/", "tenant": "common", "unknown": [1, {"a": null}]}`
)

func TestReadMuttOAuth2(t *testing.T) {
	west := time.FixedZone("west", -5*3600)
	tests := []struct {
		name, file string
		want       Found
	}{
		{"as Debian's script writes it", oldFile, Found{
			Email: "me@example.org", Registration: "microsoft", ProviderName: "microsoft", Flow: provider.FlowDevice,
			Refresh: secret.New("refresh-1"), Access: secret.New("access-1"),
			Expiry: time.Date(2026, 11, 22, 17, 34, 56, 789012000, time.UTC),
		}},
		{"as newer ones write it", newFile, Found{
			Email: "me@gmail.com", Registration: "google", ProviderName: "google", Tenant: "common", Flow: provider.FlowBrowser,
			ClientID: "id.apps", ClientSecret: secret.New("s3cret"), RedirectURI: "http://localhost/", Refresh: secret.New("1//refresh"),
		}},
		{"a provider of one's own", `{"registration":"uni","authflow":"authcode","access_token":"a","access_token_expiration":"2026-01-02T03:04:05"}`, Found{
			Registration: "uni", Flow: provider.FlowPaste, Access: secret.New("a"), Expiry: time.Date(2026, 1, 2, 8, 4, 5, 0, time.UTC),
		}},
		{"tokens alone", ` {"refresh_token":"r","authflow":"smoke","email":null}`, Found{Refresh: secret.New("r")}},
	}
	for _, test := range tests {
		got, err := ReadMuttOAuth2(t.Context(), strings.NewReader(test.file), nil, west)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		same := got.Refresh.Equal(test.want.Refresh) && got.Access.Equal(test.want.Access) &&
			got.ClientSecret.Equal(test.want.ClientSecret) && got.Expiry.Equal(test.want.Expiry)
		got.Refresh, got.Access, got.ClientSecret, got.Expiry = test.want.Refresh, test.want.Access, test.want.ClientSecret, test.want.Expiry
		if got != test.want || !same {
			t.Errorf("%s: %+v, want %+v; secrets and expiry the same: %v", test.name, got, test.want, same)
		}
	}
}

func TestReadMuttOAuth2Refuses(t *testing.T) {
	tests := []struct{ name, file, why string }{
		{"empty", " \n", "empty"},
		{"encrypted", "\x85\x02\x0c\x03", "encrypted"},
		{"armoured", "-----BEGIN PGP MESSAGE-----", "encrypted"},
		{"half", oldFile[:60], "not its JSON"},
		{"more behind", oldFile + "{}", "not its JSON"},
		{"number for a text", `{"refresh_token": 1}`, "not its JSON"},
		{"no tokens", `{"registration":"google","email":"a@b","access_token":"","refresh_token":""}`, "never finished"},
		{"something else", `{"name":"x"}`, "never finished"},
		{"line break in a token", `{"refresh_token":"SECRET\r\nX: y"}`, "no token has"},
		{"escape in the address", `{"refresh_token":"r","email":"a\u001b[2J"}`, "does not belong"},
		{"direction override in the address", `{"refresh_token":"r","email":"a\u202eb"}`, "does not belong"},
		{"long address", `{"refresh_token":"r","email":"` + strings.Repeat("a", maxField+1) + `"}`, "does not belong"},
		{"long token", `{"refresh_token":"` + strings.Repeat("a", maxToken+1) + `"}`, "no token has"},
		{"time", `{"refresh_token":"r","access_token_expiration":"SECRET"}`, "expiry"},
		{"time before all tokens", `{"refresh_token":"r","access_token_expiration":"0001-01-01T00:00:00"}`, "expiry"},
		{"huge inside", `{"x":"` + strings.Repeat("a", maxPlain) + `"}`, "larger"},
		{"huge", strings.Repeat("a", maxFile+1), "larger"},
		{"deep", `{"x":` + strings.Repeat("[", 20000), "not its JSON"},
	}
	for _, test := range tests {
		got, err := ReadMuttOAuth2(t.Context(), strings.NewReader(test.file), nil, time.UTC)
		var fault *cli.Fault
		if !errors.As(err, &fault) || fault.Code != cli.DataError || fault.Hint == "" || !strings.Contains(fault.What, test.why) {
			t.Errorf("%s: %v", test.name, err)
		}
		if got != (Found{}) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
	broken := errors.New("disk")
	if _, err := ReadMuttOAuth2(t.Context(), iotest.ErrReader(broken), nil, time.UTC); !errors.Is(err, broken) {
		t.Errorf("broken reader: %v", err)
	}
}

// Around a change of the clock the earlier of the possible instants is taken.
func TestNaiveTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ text, want string }{
		{"2026-07-01T12:00:00", "2026-07-01T10:00:00Z"},
		{"2026-01-15T12:00:00.5", "2026-01-15T11:00:00.5Z"},
		{"2026-10-25T02:30:00", "2026-10-25T00:30:00Z"}, // twice on the wall
		{"2026-10-25T03:30:00", "2026-10-25T01:30:00Z"}, // may be 02:30 summer time plus an hour
		{"2026-10-27T03:30:00", "2026-10-27T02:30:00Z"},
		{"2026-03-29T02:30:00", "2026-03-29T00:30:00Z"}, // never on the wall
		{"2026-03-27T02:30:00", "2026-03-27T01:30:00Z"},
	}
	for _, test := range tests {
		got, err := naiveTime(test.text, berlin)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != test.want {
			t.Errorf("%s is %s, want %s (%v)", test.text, got.UTC().Format(time.RFC3339Nano), test.want, err)
		}
	}
}

func self(t *testing.T, mode string) Decrypt {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Command(program, mode)
}

func TestCommand(t *testing.T) {
	found, err := ReadMuttOAuth2(t.Context(), strings.NewReader("sealed:"+oldFile), self(t, "fake-decrypt-upper"), time.UTC)
	if err != nil || found.Refresh.Reveal() != "refresh-1" {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestCommandFails(t *testing.T) {
	tests := []struct {
		name    string
		decrypt Decrypt
		code    cli.Code
		why     string
	}{
		{"says why", self(t, "fake-decrypt-fail"), cli.NoPerm, "no secret key?[2J"},
		{"says nothing", self(t, "fake-decrypt-silent"), cli.NoPerm, "exit status 1"},
		{"floods", self(t, "fake-decrypt-flood"), cli.DataError, "more than any token file"},
		{"missing", Command("no-such-program-of-ours"), cli.Unavailable, "not installed"},
	}
	for _, test := range tests {
		_, err := ReadMuttOAuth2(t.Context(), strings.NewReader("sealed:"+oldFile), test.decrypt, time.UTC)
		var fault *cli.Fault
		if !errors.As(err, &fault) || fault.Code != test.code || !strings.Contains(fault.What, test.why) || strings.Contains(err.Error(), "half a secret") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A passphrase that nobody types ends with ctx.
func TestCommandInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := ReadMuttOAuth2(ctx, strings.NewReader("sealed"), self(t, "fake-decrypt-ask"), time.UTC)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func FuzzMuttOAuth2(f *testing.F) {
	for _, seed := range []string{oldFile, newFile, `{"refresh_token":"r"}`, `null`, `[]`, `{"refresh_token":"\ud800"}`, `{"access_token":"a","access_token_expiration":"2026-02-30T25:00:00"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		found, err := parseMutt(plain, time.UTC)
		if err != nil {
			if found != (Found{}) || cli.Line(err.Error()) != err.Error() {
				t.Errorf("%+v, %q", found, err)
			}
			return
		}
		if found.Refresh.IsZero() && found.Access.IsZero() {
			t.Error("found without a token")
		}
		for _, text := range []string{found.Email, found.Registration, found.Tenant, found.ClientID, found.RedirectURI} {
			if cli.Line(text) != strings.TrimSpace(text) && len([]rune(text)) <= 1000 {
				t.Errorf("field %q", text)
			}
		}
		for _, token := range []secret.String{found.Refresh, found.Access, found.ClientSecret} {
			if strings.ContainsAny(token.Reveal(), "\r\n\x00\x01\x1b") {
				t.Errorf("token %q", token.Reveal())
			}
		}
	})
}

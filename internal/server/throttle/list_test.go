package throttle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestParseList reads the forms that public lists have.
func TestParseList(t *testing.T) {
	text := "\ufeff; Spamhaus DROP List\n# another comment\n// a third\n\n203.0.113.0/24 ; SBL1\r\n198.51.100.7\t# one host\n" +
		"2001:db8::/32,AS64500\n192.0.2.10-192.0.2.20\n::ffff:100.64.0.0/112\n203.0.113.128/25\n   2001:db8:ffff::1\n10.1.2.3/8\n"
	text = strings.Replace(text, "// a third\n", "", 1)
	list, err := ParseList("test", strings.NewReader(text))
	if err != nil || len(list.Faults) != 0 || list.Entries != 8 {
		t.Fatalf("%+v, %v", list, err)
	}
	for address, want := range map[string]bool{
		"203.0.112.255": false, "203.0.113.0": true, "203.0.113.255": true, "203.0.114.0": false, "198.51.100.6": false, "198.51.100.7": true, "198.51.100.8": false,
		"2001:db7:ffff::": false, "2001:db8::": true, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff": true, "2001:db9::": false,
		"192.0.2.9": false, "192.0.2.10": true, "192.0.2.20": true, "192.0.2.21": false, "100.64.255.255": true, "100.65.0.0": false,
		"::ffff:203.0.113.9": true, "::203.0.113.9": false, "10.255.0.1": true, "11.0.0.0": false, "::": false,
	} {
		if got := list.Contains(normal(netip.MustParseAddr(address))); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if list.Contains(netip.Addr{}) {
		t.Error("no address is on the list")
	}
}

// TestParseListRefuses what would refuse everybody or is no list.
func TestParseListRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"everybody":        "0.0.0.0/0\n",
		"everybody in six": "::/0\n2000::/3\n",
		"everybody, split": "0.0.0.0/7\n64.0.0.0/2\n",
		"a wide range":     "1.0.0.0-9.0.0.0\n",
		"wide in six":      "2000::-3fff::\n",
		"mapped":           "::ffff:0:0/90\n",
		"backwards":        "192.0.2.20-192.0.2.10\n",
		"two families":     "192.0.2.20-2001:db8::\n",
		"a page":           "<!DOCTYPE html>\n<html><head><title>404</title></head>\n</html>\n",
		"names":            "example.org\nexample.net\n",
		"a zone":           "fe80::1%eth0\n",
		"half nonsense":    "203.0.113.1\nx\n",
		"a long line":      strings.Repeat("1", maxLine+1),
		"digits":           "203.0.113.001\n1.2.3\n999.1.1.1\n203.0.113.0/33\n",
	} {
		if list, err := ParseList(name, strings.NewReader(text)); !errors.Is(err, ErrList) {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
	var many strings.Builder
	for n := range 100 {
		fmt.Fprintf(&many, "203.0.%d.0/24\n", n)
	}
	list, err := ParseList("one fault", strings.NewReader(many.String()+"0.0.0.0/0\nnonsense\n"))
	if err != nil || list.Entries != 100 || len(list.Faults) != 2 || list.Faults[0].Line != 101 || list.Contains(netip.MustParseAddr("8.8.8.8")) {
		t.Errorf("a list with two faults: %+v, %v", list, err)
	}
	if empty, err := ParseList("empty", strings.NewReader("# nothing today\n")); err != nil || empty.Entries != 0 {
		t.Errorf("an empty list: %v", err)
	}
	if _, err := ParseList("endless", io.MultiReader(strings.NewReader("203.0.113.1\n"), endless{})); !errors.Is(err, ErrList) {
		t.Errorf("an endless list: %v", err)
	}
}

// endless is comment lines without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '#'
		if i%64 == 63 {
			p[i] = '\n'
		}
	}
	return len(p), nil
}

func FuzzList(f *testing.F) {
	f.Add("203.0.113.0/24 ; SBL1\n198.51.100.7\n2001:db8::/32\n", "203.0.113.9")
	f.Add("192.0.2.10-192.0.2.20\n# x\n::ffff:1.2.3.4/100\n", "192.0.2.15")
	f.Add("0.0.0.0/0\n\xff\n1.2.3.4", "::ffff:1.2.3.4")
	f.Fuzz(func(t *testing.T, text, address string) {
		list, err := ParseList("fuzz", strings.NewReader(text))
		if err != nil {
			return
		}
		for i, s := range list.ranges {
			if slices.Compare(s.from[:], s.to[:]) > 0 || i > 0 && slices.Compare(list.ranges[i-1].to[:], s.from[:]) >= 0 {
				t.Fatalf("ranges out of order: %v", list.ranges)
			}
		}
		at, err := netip.ParseAddr(address)
		if err != nil {
			return
		}
		// Line by line it must come out the same.
		at = normal(at)
		want := false
		for line := range strings.Lines(text) {
			if s, err := parseSpan(entryOf(strings.TrimSuffix(line, "\n"))); err == nil {
				raw := at.As16()
				want = want || slices.Compare(s.from[:], raw[:]) <= 0 && slices.Compare(raw[:], s.to[:]) <= 0
			}
		}
		if got := list.Contains(at); got != want {
			t.Errorf("%s on %q: %v, want %v", at, text, got, want)
		}
	})
}

// TestRehearse shows whom a list would have shut out.
func TestRehearse(t *testing.T) {
	list, err := ParseList("drop", strings.NewReader("203.0.113.0/24\n"))
	if err != nil {
		t.Fatal(err)
	}
	event := func(kind string, person identity.PersonID, from string) identity.Event {
		return identity.Event{Kind: kind, Person: person, From: netip.MustParseAddr(from)}
	}
	r := Rehearse(list, slices.Values([]identity.Event{
		event(GoodSignIn, "ann", "192.0.2.1"), event("signin.refused", "ann", "203.0.113.1"), event(GoodSignIn, "bob", "203.0.113.5"),
		event(GoodSignIn, "bob", "::ffff:203.0.113.6"), event(GoodSignIn, "carl", "2001:db8::1"), {Kind: GoodSignIn, Person: "dora"},
	}))
	if r.Good != 5 || r.Refused != 2 || r.People["bob"] != 2 || len(r.People) != 1 || r.First.From.String() != "203.0.113.5" {
		t.Errorf("%+v", r)
	}
}

// TestListsAreObeyed: those that allow before those that refuse, own entries before both.
func TestListsAreObeyed(t *testing.T) {
	throttle := New(Options{})
	for name, text := range map[string]string{"drop": "203.0.113.0/24\n198.51.100.0/24\n", "allow": "203.0.113.7\n"} {
		list, err := ParseList(name, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		list.Allow = name == "allow"
		throttle.SetList(list)
	}
	throttle.bans.Store(newBans([]identity.Ban{{Network: netip.MustParsePrefix("198.51.100.9/32"), Allow: true}}))
	for from, refused := range map[string]bool{"203.0.113.1": true, "203.0.113.7": false, "198.51.100.1": true, "198.51.100.9": false, "192.0.2.1": false} {
		if d := try(t, throttle, from, "ann@example.org", -1); d.Refuse != refused || refused && d.Reason != "list drop" {
			t.Errorf("%s: %+v", from, d)
		}
		if address := netip.MustParseAddr(from); throttle.Refuses(address) != refused || throttle.Refuses(netip.AddrFrom16(address.As16())) != refused {
			t.Errorf("%s by the lists alone: want refused %v", from, refused)
		}
	}
	empty, _ := ParseList("drop", strings.NewReader(""))
	throttle.SetList(empty)
	if d := try(t, throttle, "203.0.113.1", "ann@example.org", -1); d.Refuse || len(*throttle.lists.Load()) != 2 {
		t.Errorf("the list was replaced: %+v", d)
	}
}

// TestSources reads lists from a file and an address while it runs; what goes bad later
// leaves the list as it was.
func TestSources(t *testing.T) {
	var mu sync.Mutex
	page, status := "203.0.113.0/24\n", http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, "http://elsewhere.example/list", http.StatusFound)
		case "/moved":
			http.Redirect(w, r, "/list", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		default:
			w.WriteHeader(status)
			_, _ = io.WriteString(w, page)
		}
	}))
	defer server.Close()
	set := func(p string, s int) { mu.Lock(); defer mu.Unlock(); page, status = p, s }
	throttle := New(Options{})
	source := Source{Name: "drop", URL: server.URL + "/moved"}
	refused := func() bool { return try(t, throttle, "203.0.113.1", "ann@example.org", -1).Refuse }
	throttle.load(t.Context(), source)
	if !refused() {
		t.Fatal("the list is not read")
	}
	for _, bad := range []struct {
		page   string
		status int
	}{{"", http.StatusInternalServerError}, {"<html>sorry</html>", http.StatusOK}, {"0.0.0.0/0\n", http.StatusOK}} {
		set(bad.page, bad.status)
		throttle.load(t.Context(), source)
		if !refused() {
			t.Errorf("forgotten because of %+v", bad)
		}
	}
	set("198.51.100.0/24\n", http.StatusOK)
	throttle.load(t.Context(), source)
	if refused() {
		t.Error("the new list is not read")
	}
	for _, path := range []string{"/away", "/loop"} {
		if _, err := (Source{Name: "x", URL: server.URL + path}).Load(t.Context(), throttle.o.HTTP); err == nil {
			t.Errorf("%s is followed", path)
		}
	}
	folder := t.TempDir()
	for _, s := range []Source{{}, {Name: "x"}, {Name: "x", File: "f", URL: "https://example.org"}, {Name: "x", URL: "http://example.org/list"}, {Name: "x", URL: "ftp://example.org"},
		{Name: "x", URL: "https://user:pass@example.org/"}, {Name: "x", URL: "https://"}, {URL: "https://example.org"}} {
		if s.Check() == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
	for _, file := range []string{folder, filepath.Join(folder, "missing")} {
		if _, err := (Source{Name: "x", File: file}).Load(t.Context(), nil); err == nil {
			t.Errorf("%s is read as a list", file)
		}
	}
}

// TestFilesAreReadAgain: a file holds from the first sign-in on and is followed.
func TestFilesAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "deny")
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("203.0.113.0/24\n")
		throttle := New(Options{Sources: []Source{{Name: "deny", File: file}, {Name: "missing", File: file + "x"}}})
		stop := run(t, throttle)
		defer stop()
		if !try(t, throttle, "203.0.113.1", "ann@example.org", -1).Refuse {
			t.Error("the file does not hold from the beginning")
		}
		write("198.51.100.0/24\n")
		pass(time.Minute + time.Millisecond)
		if try(t, throttle, "203.0.113.1", "ann@example.org", -1).Refuse {
			t.Error("the file is not read again")
		}
		read := throttle.Lists()[0].Read
		if lists := throttle.Lists(); len(lists) != 2 || lists[0].Name != "deny" || lists[0].Entries != 1 || read.IsZero() || lists[0].Error != "" ||
			lists[1].Name != "missing" || !lists[1].Read.IsZero() || lists[1].Error == "" {
			t.Errorf("the lists stand so: %+v", lists)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if l := throttle.Lists()[0]; l.Error == "" || !l.Read.Equal(read) || l.Entries != 1 {
			t.Errorf("a list that is gone stands so: %+v", l)
		}
	})
}

// TestRunEnds with its context, whatever its sources do.
func TestRunEnds(t *testing.T) {
	hang := make(chan struct{})
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(hang)
	ctx, cancel := context.WithCancel(t.Context())
	throttle := New(Options{Sources: []Source{{Name: "slow", URL: server.URL}}})
	done := make(chan error, 1)
	go func() { done <- throttle.Run(ctx) }()
	<-asked
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

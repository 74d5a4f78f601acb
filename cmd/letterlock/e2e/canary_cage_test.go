//go:build unix

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A cage holds the canaries of one test: secrets that are found again wherever they
// turn up, in whatever dress.
type cage struct {
	mu    sync.Mutex
	birds map[string]map[string]bool // kind -> what it looks like somewhere -> true
}

// mint makes a secret. All of one kind share a part that is told from everything else
// in the world, and have signs in them that encodings change.
func (c *cage) mint(kind string, serial int) string {
	part := canaryPart(kind)
	c.add(kind, part)
	c.add(kind, part[:12]) // of a text that was cut, a half is still too much
	c.add(kind, part[12:])
	switch kind {
	case "access token": // RFC 6750 section 2.1 has few signs
		return fmt.Sprintf("at.%d~%s+/%d=", serial, part, serial)
	case "refresh token", "authorization code", "device code": // RFC 6749 appendix A has all printable ones
		return fmt.Sprintf("%d/%s+&%%'\"<%d>=", serial, part, serial)
	}
	return fmt.Sprintf("s%d/%s+=", serial, part)
}

// canaryPart is 24 letters and digits that belong to the kind.
func canaryPart(kind string) string {
	sum := []byte(kind + kind + kind + kind)
	const letters = "QxZvK7WjY3qXzV9kJwH4GpUf8Rb2LmTd"
	part := []byte("C4n")
	state := uint32(2166136261)
	for n := 0; len(part) < 24; n++ {
		state = (state ^ uint32(sum[n%len(sum)])) * 16777619
		part = append(part, letters[state>>27])
	}
	return string(part)
}

// add keeps a secret that somebody else has made. Short ones would be found anywhere.
func (c *cage) add(kind, secret string) {
	if len(secret) < 12 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.birds == nil {
		c.birds = map[string]map[string]bool{}
	}
	if c.birds[kind] == nil {
		c.birds[kind] = map[string]bool{}
	}
	for _, dress := range dresses(secret) {
		c.birds[kind][dress] = true
	}
}

// dresses are the ways in which a secret is written down by accident.
func dresses(secret string) []string {
	raw := []byte(secret)
	back := slices.Clone(raw)
	slices.Reverse(back)
	all := []string{
		secret, string(back), url.QueryEscape(secret), url.PathEscape(secret), fmt.Sprintf("%q", secret),
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), hex.EncodeToString(back), fmt.Sprintf("% x", raw), strings.Trim(fmt.Sprint(raw), "[]"),
	}
	// Whole groups of three bytes look the same in base64 wherever they stand.
	for skip := range 3 {
		whole := raw[skip : skip+(len(raw)-skip)/3*3]
		all = append(all, base64.StdEncoding.EncodeToString(whole), base64.URLEncoding.EncodeToString(whole))
	}
	// A crash trace shows what lies on a stack as words of the machine.
	for at := range len(raw) - 7 {
		word := slices.Clone(raw[at : at+8])
		slices.Reverse(word)
		all = append(all, "0x"+hex.EncodeToString(word))
	}
	return all
}

// seen names the kinds of secrets that a text holds, without those that belong there.
func (c *cage) seen(text []byte, belong ...string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var kinds []string
	for kind, looks := range c.birds {
		if slices.Contains(belong, kind) {
			continue
		}
		for look := range looks {
			if bytes.Contains(text, []byte(look)) {
				kinds = append(kinds, fmt.Sprintf("%s (as %.40q)", kind, look))
				break
			}
		}
	}
	slices.Sort(kinds)
	return kinds
}

// search looks into every file below a folder, and at every name. Files in belong, by
// their path inside the folder, may hold the kinds they are listed with.
func (c *cage) search(t testing.TB, dir string, belong map[string][]string) (files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if kinds := c.seen([]byte(name)); kinds != nil {
			t.Errorf("the name %q holds %v", name, kinds)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		if kinds := c.seen(data, belong[name]...); kinds != nil {
			t.Errorf("%s holds %v", name, kinds)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// A search that finds nothing must be one that could.
func TestCanarySearchFinds(t *testing.T) {
	c := &cage{}
	token := c.mint("access token", 7)
	for name, text := range map[string]string{
		"raw":        "x" + token + "y",
		"first half": "at.7~" + token[5:20],
		"base64":     base64.StdEncoding.EncodeToString([]byte("user=you\x01auth=Bearer " + token + "\x01\x01")),
		"base64url":  base64.RawURLEncoding.EncodeToString([]byte("1" + token)),
		"escaped":    url.QueryEscape(token),
		"hex":        hex.EncodeToString([]byte(token)),
		"HEX":        fmt.Sprintf("%X", token),
		"bytes":      fmt.Sprint([]byte(token)),
		"netrc":      "machine x password " + token,
	} {
		if c.seen([]byte(text)) == nil {
			t.Errorf("%s: not seen in %q", name, text)
		}
		if kinds := c.seen([]byte(text), "access token"); kinds != nil {
			t.Errorf("%s: %v seen though the access token belongs there", name, kinds)
		}
	}
	for kind := range strings.SplitSeq("refresh token,authorization code,device code,client secret,ID token", ",") {
		if strings.Contains(canaryPart(kind), canaryPart("access token")[3:12]) {
			t.Errorf("%s looks like an access token", kind)
		}
	}
	if kinds := c.seen([]byte("nothing of ours, C4n")); kinds != nil {
		t.Errorf("%v seen in nothing", kinds)
	}
}

//go:build lab

package domain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOpenDKIMVerifies has Debian's OpenDKIM verify both signatures of every shape of
// message, and see that a changed one fails.
func TestOpenDKIMVerifies(t *testing.T) {
	keys, _ := newKeys(t)
	folder := t.TempDir()
	var names strings.Builder
	for _, k := range keys.All() {
		fmt.Fprintf(&names, "%s %s\n", k.Name(), k.Record())
	}
	conf := filepath.Join(folder, "opendkim.conf")
	write(t, filepath.Join(folder, "names"), names.String())
	write(t, conf, "Mode v\nSyslog no\nAuthservID lab\nUserID root\nTestDNSData file:"+filepath.Join(folder, "names")+"\n")
	verdicts := func(message string) []string {
		path := filepath.Join(folder, "message")
		write(t, path, message)
		out, err := exec.Command("/usr/sbin/opendkim", "-x", conf, "-t", path, "-vv").CombinedOutput()
		if err != nil {
			t.Fatalf("opendkim: %v\n%s", err, out)
		}
		var found []string
		for part := range strings.SplitSeq(string(out), "dkim=") {
			verdict, rest, _ := strings.Cut(part, " ")
			if _, name, ok := strings.Cut(rest, "header.a="); ok {
				algorithm, _, _ := strings.Cut(name, " ")
				found = append(found, verdict+" "+algorithm)
			}
		}
		slices.Sort(found)
		return found
	}
	for _, name := range slices.Sorted(maps.Keys(shapes())) {
		message := whole(shapes()[name])
		if name == "long line" || name == "nul" {
			continue // its test mode reads lines of 1,000 octets, and strings: see dkimpy for these
		}
		fields, err := keys.Sign(strings.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		if got := verdicts(string(fields) + message); !slices.Equal(got, []string{"pass ed25519-sha256", "pass rsa-sha256"}) {
			t.Errorf("%s: %q", name, got)
		}
		if got := verdicts(string(fields) + "Subject: another\r\n" + message); !slices.Equal(got, []string{"fail ed25519-sha256", "fail rsa-sha256"}) {
			t.Errorf("%s with one more subject: %q", name, got)
		}
	}
}

// TestDkimpyVerifies does the same with Python's dkimpy, which shares no code with
// either.
func TestDkimpyVerifies(t *testing.T) {
	keys, _ := newKeys(t)
	type job struct {
		Name    string
		Message []byte
		Pass    bool
	}
	names := map[string]string{}
	for _, k := range keys.All() {
		names[k.Name()+"."] = k.Record()
	}
	var jobs []job
	for _, name := range slices.Sorted(maps.Keys(shapes())) {
		message := whole(shapes()[name])
		if name == "blank at colon" {
			continue // it refuses to read RFC 5322's obsolete syntax
		}
		fields, err := keys.Sign(strings.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job{name, []byte(string(fields) + message), true},
			job{name + " with one more From", []byte(string(fields) + "From: boss@example.org\r\n" + message), false})
	}
	input, err := json.Marshal(map[string]any{"names": names, "jobs": jobs})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-c", `
import base64, dkim, json, sys
work = json.load(sys.stdin)
def txt(name, timeout=5):
    return work["names"][name.decode()].encode()
out = {}
for job in work["jobs"]:
    d = dkim.DKIM(base64.b64decode(job["Message"]))
    try:
        out[job["Name"]] = [d.verify(idx=i, dnsfunc=txt) for i in (0, 1)]
    except dkim.DKIMException as e:
        out[job["Name"]] = [str(e)]
json.dump(out, sys.stdout)
`)
	cmd.Stdin = bytes.NewReader(input)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("dkimpy: %v\n%s", err, complaint.Bytes())
	}
	var got map[string][]any
	if err := json.Unmarshal(output, &got); err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		if v := got[j.Name]; j.Pass && (len(v) != 2 || v[0] != true || v[1] != true) || !j.Pass && slices.Contains(v, any(true)) {
			t.Errorf("%s: %v", j.Name, v)
		}
	}
}

// whole gives a message as SMTP carries it: with an empty line, and an end to its last
// line.
func whole(message string) string {
	if !strings.HasSuffix(message, "\r\n") {
		message += "\r\n"
	}
	if !strings.Contains(message, "\r\n\r\n") {
		message += "\r\n"
	}
	return message
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

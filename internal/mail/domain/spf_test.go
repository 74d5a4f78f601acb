package domain

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A suite is one document of the openspf test suite.
type suite struct {
	Description string
	Tests       map[string]struct {
		Helo, Host string
		MailFrom   string `yaml:"mailfrom"`
		Result     list
		Excused    string `yaml:"skip"`
	}
	Zone map[string][]yaml.Node `yaml:"zonedata"`
}

// A list is written as a list or as its only element.
type list []string

func (l *list) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*l = list{n.Value}
		return nil
	}
	return n.Decode((*[]string)(l))
}

// zoneOf reads the suite's records. A record of the obsolete type SPF counts as TXT where
// there is no TXT, as the suite's introduction wants it.
func (s suite) zoneOf(t *testing.T) zone {
	t.Helper()
	z := zone{}
	for name, records := range s.Zone {
		name = strings.ToLower(name)
		var spf []string
		txt, timeout := false, false
		for _, r := range records {
			if r.Kind == yaml.ScalarNode {
				timeout = true
				continue
			}
			kind, value := r.Content[0].Value, r.Content[1]
			var texts list
			if err := value.Decode(&texts); err != nil {
				t.Fatal(err)
			}
			switch kind {
			case "TIMEOUT", "SERVFAIL", "CNAMELOOP":
				z[name+" *"] = []string{"FAIL"}
			case "SPF":
				spf = append(spf, strings.Join(texts, ""))
			case "TXT":
				if txt = true; texts[0] != "NONE" {
					z[name+" TXT"] = append(z[name+" TXT"], strings.Join(texts, ""))
				}
			case "MX":
				z[name+" MX"] = append(z[name+" MX"], texts[0]+" "+texts[1]+".")
			default:
				z[name+" "+kind] = append(z[name+" "+kind], texts...)
			}
		}
		if !txt && len(spf) > 0 {
			z[name+" TXT"] = spf
		}
		// TIMEOUT as a word is about the types that are not listed.
		if timeout && !txt {
			z[name+" *"] = []string{"FAIL"}
		}
	}
	return z
}

// TestSPFSuite runs the openspf test suite for RFC 7208, and the cases that Python's
// and Go's libraries have added, from where the Go module keeps them.
func TestSPFSuite(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "blitiri.com.ar/go/spf").Output()
	if err != nil {
		t.Fatalf("find the test suite: %v", err)
	}
	folder := filepath.Join(strings.TrimSpace(string(out)), "testdata")
	for _, name := range []string{"rfc7208-tests.yml", "pyspf-tests.yml", "blitirispf-tests.yml"} {
		file, err := os.Open(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		ran := 0
		for decoder := yaml.NewDecoder(file); ; {
			var s suite
			if err := decoder.Decode(&s); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			z := s.zoneOf(t)
			for test, c := range s.Tests {
				ip, err := netip.ParseAddr(c.Host)
				_, domain, _ := strings.Cut(c.MailFrom, "@")
				if err != nil || c.Excused != "" && name == "pyspf-tests.yml" || test == "spftimeout" ||
					name == "blitirispf-tests.yml" && (!strings.Contains(domain, ".") || test == "resolution-with-10-lookups") {
					// Of the API of that library, not of the protocol: it takes names of one
					// label, which RFC 7208 section 4.3 calls none and its grammar does not have.
					// spftimeout is about the record type SPF, which is no more.
					continue
				}
				ran++
				got := EvaluateSPF(t.Context(), z, ip, c.Helo, c.MailFrom)
				if !slices.Contains(c.Result, string(got.Verdict)) {
					t.Errorf("%s, %s, %s: %s (%s), want %v", name, s.Description, test, got.Verdict, got.Problem, c.Result)
				}
			}
		}
		t.Logf("%s: %d cases", name, ran)
		if ran < 5 {
			t.Errorf("%s has only %d cases", name, ran)
		}
	}
}

package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityClaims holds docs/security.md, security-server.md and security-web.md to the tree: whatever it names as proof is
// there. A test is named as package/TestName, a script or dialogue of one as
// package/TestName/file.
func TestSecurityClaims(t *testing.T) {
	var text string
	for _, name := range []string{"docs/security.md", "docs/security-server.md", "docs/security-web.md"} {
		page, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(page), "\n"); lines >= 200 {
			t.Errorf("%s has %d lines: nobody reads 200", name, lines)
		}
		text += string(page)
	}
	tests := testsByPackage(t)
	named := regexp.MustCompile("`?(?:([a-z0-9]+)/)?((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)(?:/([A-Za-z0-9_.-]+))?")
	found := named.FindAllStringSubmatch(text, -1)
	if len(found) < 50 {
		t.Errorf("docs/security.md names %d tests only", len(found))
	}
	for _, m := range found {
		folder, ok := tests[m[1]+"/"+m[2]]
		if !ok {
			t.Errorf("docs/security.md names %s, which is no test", strings.Trim(m[0], "`"))
			continue
		}
		if m[3] == "" {
			continue
		}
		files, _ := filepath.Glob(filepath.Join(folder, "testdata", m[3]+".*"))
		deeper, _ := filepath.Glob(filepath.Join(folder, "testdata", "*", m[3]+".*"))
		if len(files)+len(deeper) == 0 {
			t.Errorf("docs/security.md names %s, and there is no such file", strings.Trim(m[0], "`"))
		}
	}
}

// testsByPackage maps the last word of a package's path and a test's name, as in
// "login/TestPages", to the package's folder.
func testsByPackage(t *testing.T) map[string]string {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
	tests := map[string]string{}
	for _, p := range packages(t) {
		for _, file := range append(p.TestGoFiles, p.XTestGoFiles...) {
			source, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range function.FindAllStringSubmatch(string(source), -1) {
				tests[filepath.Base(p.ImportPath)+"/"+m[1]] = p.Dir
			}
		}
	}
	return tests
}

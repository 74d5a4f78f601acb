package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestLocalPath(t *testing.T) {
	for path, want := range map[string]bool{
		"/": true, "/authorize?client_id=x&redirect_uri=http%3A%2F%2F127.0.0.1%2F": true, "/device?user_code=BCDF-GHJK": true,
		"": false, "authorize": false, "https://evil.test/": false, "//evil.test": false, "///evil.test": false, `/\evil.test`: false,
		`\\evil.test`: false, "/%2fevil.test": false, "/%5Cevil.test": false, "/\tevil": false, "/\n/evil.test": false, " /": false, "/a b": false,
		"javascript:alert(1)": false, "/%zz": false, "/" + strings.Repeat("a", 20<<10): false, "/\x00": false, "/\x7f": false, "?x": false, "#x": false,
	} {
		if got := LocalPath(path); got != want {
			t.Errorf("%.40q: %v, want %v", path, got, want)
		}
	}
}

// FuzzLocalPath: what passes stays on the host, for net/url and after the clean-up
// that browsers do (backslash is slash, tab and newline vanish).
func FuzzLocalPath(f *testing.F) {
	for _, seed := range []string{"/", "/a?b#c", "//x", `/\x`, "/%2fx", "/a/../b"} {
		f.Add(seed)
	}
	base := &url.URL{Scheme: "https", Host: "mail.test"}
	f.Fuzz(func(t *testing.T, path string) {
		if !LocalPath(path) {
			return
		}
		seen := strings.NewReplacer(`\`, "/", "\t", "", "\n", "", "\r", "").Replace(path)
		u, err := base.Parse(seen)
		if err != nil || u.Host != "mail.test" || u.Scheme != "https" || strings.HasPrefix(seen, "//") {
			t.Fatalf("%q leads to %v %v", path, u, err)
		}
	})
}

func TestFormKey(t *testing.T) {
	key := FormKey("key")
	token := key.Token("session", "consent", "text")
	if !key.Valid(token, "session", "consent", "text") {
		t.Error("its own token is not valid")
	}
	for name, valid := range map[string]bool{
		"another session": key.Valid(token, "session2", "consent", "text"),
		"another purpose": key.Valid(token, "session", "device", "text"),
		"another text":    key.Valid(token, "session", "consent", "text2"),
		"shifted parts":   key.Valid(token, "sessionc", "onsent", "text"),
		"another key":     FormKey("key2").Valid(token, "session", "consent", "text"),
		"no token":        key.Valid("", "session", "consent", "text"),
	} {
		if valid {
			t.Errorf("%s: valid", name)
		}
	}
}

func TestFormTargets(t *testing.T) {
	for target, want := range map[string]string{
		"http://127.0.0.1:4711/cb":    "form-action 'self' http://127.0.0.1:4711;",
		"https://app.example/cb?x=1":  "form-action 'self' https://app.example;",
		"http://[::1]:5/x":            "form-action 'self' http:;",
		"com.example.app:/cb":         "form-action 'self' com.example.app:;",
		"https://a.test;sandbox/":     "form-action 'self' https:;",
		"https://a.test,sandbox/":     "form-action 'self' https:;",
		"https://a.test;script-src *": "form-action 'self' 'none';",
		"https://a.test script-src *": "form-action 'self' 'none';",
		"not a url\x00":               "form-action 'self' 'none';",
		"no-scheme":                   "form-action 'self' 'none';",
	} {
		if got := policy([]string{target}); !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q in it", target, got, want)
		}
	}
}

func TestPage(t *testing.T) {
	page := NewPage("T", `<p>{{.}}</p>`)
	w := httptest.NewRecorder()
	page.Show(w, http.StatusTeapot, "<b>&")
	if w.Code != http.StatusTeapot || !strings.Contains(w.Body.String(), "<p>&lt;b&gt;&amp;</p>") {
		t.Errorf("%d %s", w.Code, w.Body.String())
	}
	w = httptest.NewRecorder()
	NewPage("T", `{{.Nothing.There}}`).Show(w, http.StatusOK, "text")
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "Nothing") {
		t.Errorf("a page that cannot be made: %d %s", w.Code, w.Body.String())
	}
}

package login

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// pasteOnce runs Paste with what the person makes of the redirect, one or more lines.
func pasteOnce(t *testing.T, redirect provider.Redirect, lines func(back *url.URL) []string) (*fakePerson, *fakeServer, error) {
	t.Helper()
	noLeaks(t)
	server := newFakeServer(t)
	req := server.request()
	req.Redirect = redirect
	person := newFakePerson()
	var todo []string
	ask := person.Ask
	token, err := Paste(t.Context(), req, &askingPerson{person, func(ctx context.Context, prompt string) (string, error) {
		if todo == nil {
			todo = lines(server.approve(<-person.shows))
			person.pastes = todo
		}
		return ask(ctx, prompt)
	}})
	if (err == nil) == token.Access.IsZero() {
		t.Errorf("token %v, error %v", token, err)
	}
	if len(person.opens) != 0 {
		t.Error("paste opened a browser")
	}
	return person, server, err
}

type askingPerson struct {
	*fakePerson
	ask func(context.Context, string) (string, error)
}

func (p *askingPerson) Ask(ctx context.Context, prompt string) (string, error) {
	return p.ask(ctx, prompt)
}

func loopbackRedirect() provider.Redirect {
	return provider.Redirect{URI: "http://localhost/", AnyPort: true}
}

// with returns the address with one parameter set, or removed.
func with(back *url.URL, name, value string) string {
	query := back.Query()
	query.Set(name, value)
	if value == "" {
		query.Del(name)
	}
	changed := *back
	changed.RawQuery = query.Encode()
	return changed.String()
}

func TestPasteTakes(t *testing.T) {
	cut := func(back *url.URL, at string, tail int) []string {
		text := back.String()
		i := strings.Index(text, at) + len(at) + tail
		return []string{text[:i], text[i:]}
	}
	one := func(change func(back *url.URL) string) func(*url.URL) []string {
		return func(back *url.URL) []string { return []string{change(back)} }
	}
	tests := []struct {
		name  string
		lines func(back *url.URL) []string
	}{
		{"address", one((*url.URL).String)},
		{"spaces around", one(func(b *url.URL) string { return " \t" + b.String() + " \r\n" })},
		{"quotes", one(func(b *url.URL) string { return `"` + b.String() + `"` })},
		{"typographic quotes", one(func(b *url.URL) string { return "“" + b.String() + "”" })},
		{"angle brackets", one(func(b *url.URL) string { return "<" + b.String() + ">" })},
		{"bracketed paste", one(func(b *url.URL) string { return "\x1b[200~" + b.String() + "\x1b[201~" })},
		{"byte order mark", one(func(b *url.URL) string { return "\ufeff" + b.String() })},
		{"wrapped within", one(func(b *url.URL) string { return strings.ReplaceAll(b.String(), "&", "\n  &") })},
		{"fragment", one(func(b *url.URL) string { return b.String() + "#_=_" })},
		{"no scheme", one(func(b *url.URL) string { return strings.TrimPrefix(b.String(), "http://") })},
		{"capitals in the host", one(func(b *url.URL) string { return strings.Replace(b.String(), "localhost", "LocalHost", 1) })},
		{"query", one(func(b *url.URL) string { return "?" + b.RawQuery })},
		{"query without mark", one(func(b *url.URL) string { return b.RawQuery })},
		{"code", one(func(b *url.URL) string { return b.Query().Get("code") })},
		{"code, still encoded", one(func(b *url.URL) string { return url.QueryEscape(b.Query().Get("code")) })},
		{"code in quotes", one(func(b *url.URL) string { return "'" + b.Query().Get("code") + "'\n" })},
		{"second time right", func(b *url.URL) []string { return []string{"", b.String()} }},
		{"after a page", func(b *url.URL) []string { return []string{"<!DOCTYPE html><html>", b.String()} }},
		{"after an old answer", func(b *url.URL) []string { return []string{with(b, "state", "of-yesterday"), b.String()} }},
		{"code after an old answer", func(b *url.URL) []string {
			return []string{with(b, "state", "of-yesterday"), b.Query().Get("code")}
		}},
		{"code after half an address", func(b *url.URL) []string {
			return []string{with(b, "state", ""), b.Query().Get("code")}
		}},
		{"wrapped inside the code", func(b *url.URL) []string { return cut(b, "code=", 3) }},
		{"wrapped before the state", func(b *url.URL) []string { return cut(b, "&", 0) }},
		{"wrapped inside the state", func(b *url.URL) []string { return cut(b, "state=", 7) }},
		{"wrapped inside the issuer", func(b *url.URL) []string {
			b.RawQuery = "code=" + url.QueryEscape(b.Query().Get("code")) + "&state=" + b.Query().Get("state") + "&iss=" + url.QueryEscape(b.Query().Get("iss"))
			return cut(b, "iss=", 9)
		}},
		{"wrapped into three", func(b *url.URL) []string {
			lines := cut(b, "code=", 2)
			rest := lines[1]
			return []string{lines[0], rest[:3], rest[3:]}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			person, _, err := pasteOnce(t, loopbackRedirect(), test.lines)
			if err != nil {
				t.Errorf("%v; told %q", err, person.told())
			}
		})
	}
}

func TestPasteRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(back *url.URL) string
		why    string
	}{
		{"nothing", func(*url.URL) string { return " " }, "nothing was pasted"},
		{"a page", func(b *url.URL) string { return "x<html><body>" + b.String() }, "that is a page"},
		{"a page's head", func(*url.URL) string { return "<head>" }, "that is a page"},
		{"too long", func(b *url.URL) string { return b.String() + strings.Repeat("a", maxPaste) }, "too long"},
		{"prose", func(*url.URL) string { return "it says that it cannot connect" }, "neither an address nor a code"},
		{"too short a code", func(*url.URL) string { return "abc" }, "neither an address nor a code"},
		{"code with control characters", func(*url.URL) string { return "abcdef\x07gh" }, "neither an address nor a code"},
		{"code beyond ASCII", func(*url.URL) string { return "äöüßäöüß" }, "neither an address nor a code"},
		{"too long a code", func(*url.URL) string { return strings.Repeat("a", maxCode+1) }, "neither an address nor a code"},
		{"another host", func(b *url.URL) string { return "https://evil.test/?" + b.RawQuery }, "not where the sign-in ends"},
		{"another scheme", func(b *url.URL) string { return strings.Replace(b.String(), "http:", "https:", 1) }, "not where the sign-in ends"},
		{"another path", func(b *url.URL) string { return strings.Replace(b.String(), "/?", "/x?", 1) }, "not where the sign-in ends"},
		{"another port", func(b *url.URL) string { return "http://localhost:1/?" + b.RawQuery }, "not where the sign-in ends"},
		{"user name", func(b *url.URL) string { return strings.Replace(b.String(), "http://", "http://x@", 1) }, "not where the sign-in ends"},
		{"no code", func(b *url.URL) string { return with(b, "code", "") }, "holds no code"},
		{"no query", func(b *url.URL) string { return "http://" + b.Host + "/" }, "holds no code"},
		{"no state", func(b *url.URL) string { return with(b, "state", "") }, "a part of the address"},
		{"wrong state", func(b *url.URL) string { return with(b, "state", "x") }, "wrong state"},
		{"no issuer", func(b *url.URL) string { return with(b, "iss", "") }, "without issuer"},
		{"wrong issuer", func(b *url.URL) string { return with(b, "iss", "https://evil.test\x1b[2J") }, "another issuer"},
		{"two codes", func(b *url.URL) string { return b.String() + "&code=x" }, "comes twice"},
		{"damaged", func(b *url.URL) string { return b.String() + "&x=%zz" }, "damaged"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			person, server, err := pasteOnce(t, loopbackRedirect(), func(b *url.URL) []string { return []string{test.change(b)} })
			var fault *cli.Fault
			if !errors.As(err, &fault) || fault.Code != cli.DataError || fault.Hint == "" || !strings.Contains(fault.What, test.why) {
				t.Errorf("error %v", err)
			}
			if told := person.told(); !strings.Contains(told, test.why) || strings.Contains(told, "\x1b") {
				t.Errorf("told %q", told)
			}
			if len(server.tokens) != 0 {
				t.Error("the code was spent")
			}
		})
	}
}

// The sign-in page itself is a frequent mistake, with an answer of its own.
func TestPasteOfSignInPage(t *testing.T) {
	server := newFakeServer(t)
	person := newFakePerson()
	person.pastes = []string{server.http.URL + "/authorize?client_id=x"}
	_, err := Paste(t.Context(), server.request(), person)
	if err == nil || !strings.Contains(err.Error(), "address of the sign-in itself") {
		t.Errorf("error %v", err)
	}
}

func TestPasteGivesUp(t *testing.T) {
	server := newFakeServer(t)
	person := newFakePerson()
	person.answer = func(int) string { return "no idea what you mean" }
	if _, err := Paste(t.Context(), server.request(), person); err == nil || person.asked != pasteTries {
		t.Errorf("asked %d times: %v", person.asked, err)
	}
}

func TestPasteEmptyPipe(t *testing.T) {
	_, err := Paste(t.Context(), newFakeServer(t).request(), newFakePerson())
	var fault *cli.Fault
	if !errors.As(err, &fault) || fault.Code != cli.NoPerm || !strings.Contains(fault.What, "input ended") {
		t.Errorf("error %v", err)
	}
}

func TestPasteProviderSaysNo(t *testing.T) {
	_, _, err := pasteOnce(t, loopbackRedirect(), func(b *url.URL) []string {
		b.RawQuery += "&error=access_denied"
		return []string{with(b, "code", "")}
	})
	var answer *oauth.Error
	if !errors.As(err, &answer) || answer.Code != "access_denied" {
		t.Errorf("error %v", err)
	}
}

// A code of somebody else's sign-in is held up by PKCE, though it has no state.
func TestPasteForeignCode(t *testing.T) {
	var foreign string
	_, server, err := pasteOnce(t, loopbackRedirect(), func(b *url.URL) []string {
		foreign = "code-of-another"
		return []string{foreign}
	})
	var answer *oauth.Error
	if !errors.As(err, &answer) || answer.Code != "invalid_grant" || len(server.tokens) != 1 {
		t.Errorf("error %v", err)
	}
	if strings.Contains(err.Error(), foreign) {
		t.Errorf("the code is in the error: %v", err)
	}
}

func TestPasteTimeout(t *testing.T) {
	req := newFakeServer(t).request()
	req.Timeout = 1
	waits := func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	if _, err := Paste(t.Context(), req, &askingPerson{newFakePerson(), waits}); !errors.Is(err, ErrNobody) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Paste(ctx, newFakeServer(t).request(), &askingPerson{newFakePerson(), waits}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Where the port is free it is one at which nothing answers; else all is as registered.
func TestPasteRedirect(t *testing.T) {
	tests := []struct{ name, uri, want string }{
		{"any port", "http://localhost/", "high"},
		{"fixed", "http://localhost:8000/x", "http://localhost:8000/x"},
		{"https", "https://localhost", "https://localhost"},
		{"out of band", "urn:ietf:wg:oauth:2.0:oob", "urn:ietf:wg:oauth:2.0:oob"},
	}
	for _, test := range tests {
		to, err := parseTarget(provider.Redirect{URI: test.uri, AnyPort: test.want == "high", Fixed: test.want != "high"})
		if err != nil {
			t.Fatal(err)
		}
		got := to.unheard()
		if test.want == "high" {
			parsed, _ := url.Parse(got)
			// Two more draws of the same port out of 16,384 would be no chance.
			second, third := to.unheard(), to.unheard()
			if port := parsed.Port(); len(port) != 5 || port < "49152" || second == got && third == got {
				t.Errorf("%s: %q", test.name, got)
			}
		} else if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

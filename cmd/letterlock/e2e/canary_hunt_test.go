//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab/pty"
)

// A hunt is a home in which everything that letterlock says is searched at once.
type hunt struct {
	*home
	issuer  *issuer
	office  *postOffice
	cage    *cage
	sampler *sampler
	runs    int
	browser string // $BROWSER of a person who says yes
}

func newHunt(t *testing.T) *hunt {
	c := &cage{}
	i := newIssuer(t, c)
	h := &hunt{issuer: i, office: newPostOffice(t, i), cage: c, sampler: newSampler(t)}
	h.home = newHome(t, h.sampler.mark)
	// Whatever is left behind is left in the home, where it is searched.
	for _, folder := range []string{"tmp", "run", "bin"} {
		if err := os.Mkdir(h.path(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// What makes Go programs talk: HTTP/2 frames with all their content, and name look-ups.
	h.env = append(h.env, "TMPDIR="+h.path("tmp"), "XDG_RUNTIME_DIR="+h.path("run"), "GODEBUG=http2debug=2,netdns=2", "GOTRACEBACK=all",
		"SSLKEYLOGFILE="+h.path("tls-keys"), "LETTERLOCK_DEBUG=1", "DEBUG=*")
	c.add("age identity", "AGE-SECRET-KEY-1") // how each begins
	h.write("secret.txt", c.mint("client secret", 1)+"\n")
	h.write("bin/browser", fmt.Sprintf("#!/bin/sh\nexec '%s' helper:browse '%s' '%s' \"$1\"\n", helper(t, "")[0], h.path("helpers"), h.approver(t)))
	h.browser = h.path("bin/browser")
	if err := os.Chmod(h.browser, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(t), h.path("bin/mutt_oauth2.py")); err != nil {
		t.Fatal(err)
	}
	return h
}

// approver is the browser's half that trusts the test's authority: it is given an
// authorization address and goes to where the issuer sends it.
func (h *hunt) approver(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var address bytes.Buffer
		_, _ = address.ReadFrom(r.Body)
		back, err := h.issuer.approve(address.String())
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := http.Get(back.String())
		if err != nil {
			t.Error(err)
			return
		}
		page := &bytes.Buffer{}
		_, _ = page.ReadFrom(resp.Body)
		resp.Body.Close()
		h.see("the browser's last page", page.String())
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// see searches a text.
func (h *hunt) see(label, text string, belong ...string) {
	if kinds := h.cage.seen([]byte(text), belong...); kinds != nil {
		h.t.Errorf("%s holds %v:\n%s", label, kinds, text)
	}
}

// try runs letterlock at its most talkative and searches what it said. belong may be
// on standard output.
func (h *hunt) try(stdin, line string, belong ...string) result {
	h.t.Helper()
	return h.look(h.run(stdin, "letterlock", append([]string{"-v"}, words(line)...)...), line, belong...)
}

// works is try for what has to succeed.
func (h *hunt) works(stdin, line string, belong ...string) result {
	h.t.Helper()
	r := h.try(stdin, line, belong...)
	if r.code != 0 {
		h.t.Errorf("%s: %v", line, r)
	}
	return r
}

// fails is try for what must not succeed.
func (h *hunt) fails(stdin, line string, belong ...string) result {
	h.t.Helper()
	r := h.try(stdin, line, belong...)
	if r.code == 0 {
		h.t.Errorf("%s: %v", line, r)
	}
	return r
}

func (h *hunt) look(r result, label string, belong ...string) result {
	h.t.Helper()
	h.runs++
	h.see("standard output of "+label, r.stdout, belong...)
	h.see("standard error of "+label, r.stderr)
	return r
}

// loginLine signs in with everything configured.
func (h *hunt) loginLine(more string) string {
	return strings.Join(h.issuer.accountArgs(append([]string{"--client-secret-file", h.path("secret.txt")}, h.office.args()...)...), " ") + " " + more
}

func (h *hunt) pasteLogin(more string) result {
	h.t.Helper()
	return h.look(h.paste(h.issuer, append([]string{"-v"}, words(h.loginLine("--flow paste "+more))...)...), "login by paste "+more)
}

// signedIn signs in anew. Tokens of lifetime 0 are good once: every command refreshes.
func (h *hunt) signedIn(lifetime int) {
	h.t.Helper()
	h.issuer.set(nil)
	h.issuer.configure(func(i *issuer) { i.lifetime = lifetime })
	if r := h.pasteLogin(""); r.code != 0 {
		h.t.Fatalf("sign in: %v", r)
	}
}

// onTerminal runs letterlock in a terminal and types at its prompts.
func (h *hunt) onTerminal(line string, dialogue ...string) string {
	h.t.Helper()
	ctx := within(h.t)
	terminal, err := pty.Start(h.plain("letterlock", append([]string{"-v"}, words(line)...)...))
	if err != nil {
		h.t.Fatal(err)
	}
	defer terminal.Stop()
	for n := 0; n < len(dialogue); n += 2 {
		if err := terminal.Expect(ctx, dialogue[n]); err != nil {
			h.t.Fatal(err)
		}
		text := dialogue[n+1]
		if text == "the address" {
			for line := range strings.Lines(terminal.Output()) {
				if line = strings.TrimSpace(line); strings.HasPrefix(line, h.issuer.server.URL+"/authorize?") {
					back, err := h.issuer.approve(line)
					if err != nil {
						h.t.Fatal(err)
					}
					text = back.String()
				}
			}
		}
		if err := terminal.Type(text + "\r"); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := terminal.Wait(ctx); err != nil {
		h.t.Errorf("%s: %v: %s", line, err, terminal.Output())
	}
	h.runs++
	h.see("the terminal of "+line, terminal.Output())
	return terminal.Output()
}

// plain prepares a command that package pty can start.
func (h *home) plain(name string, args ...string) *exec.Cmd {
	cmd := h.command(within(h.t), name, args...)
	cmd.SysProcAttr, cmd.Cancel = nil, nil
	return cmd
}

// dies starts letterlock, sends the signal when the issuer says so, goes on with then,
// and returns what the dying process wrote.
func (h *hunt) dies(line string, sig syscall.Signal, when <-chan struct{}, then func(), env ...string) string {
	h.t.Helper()
	var said bytes.Buffer
	ctx := within(h.t)
	cmd := h.command(ctx, "letterlock", append([]string{"-v"}, words(line)...)...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	select {
	case <-when:
	case <-ctx.Done():
		h.t.Fatalf("%s: no request arrived", line)
	}
	_ = cmd.Process.Signal(sig)
	then()
	_ = cmd.Wait()
	h.runs++
	h.see(fmt.Sprintf("what %s wrote after %v %v", line, sig, env), said.String())
	return said.String()
}

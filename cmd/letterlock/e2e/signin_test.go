//go:build lab

package e2e

import (
	"bufio"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
	"github.com/letterlock-mail/letterlock/internal/lab/pty"
)

// TestSignIn shows each way to sign in at a provider that is not ours; the token that
// comes out opens the mailbox at Dovecot.
func TestSignIn(t *testing.T) {
	s := newSite(t, lab.OPOptions{})
	chromium := browser.Run(t, browser.Options{CA: s.ca})
	alice := lab.Alice()
	for _, c := range []struct {
		name, flow string
		signIn     func(*testing.T, *home) string
	}{
		{"browser", "authorization_code", func(t *testing.T, h *home) string { return signInByBrowser(t, h, s, chromium, alice) }},
		{"browser by hand", "authorization_code", func(t *testing.T, h *home) string { return signInByHand(t, h, s, chromium, alice) }},
		{"device", lab.GrantDevice, func(t *testing.T, h *home) string { return signInByDevice(t, h, s, chromium, alice) }},
		{"paste into a pipe", "authorization_code", func(_ *testing.T, h *home) string { return h.signIn(s, alice) }},
		{"paste into a terminal", "authorization_code", func(t *testing.T, h *home) string { return signInAtTerminal(t, h, s, alice) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			granted := func(e lab.Event) bool { return e.Kind == "grant" && e.Type == c.flow && e.OK }
			before, err := s.op.Count(within(t), granted)
			if err != nil {
				t.Fatal(err)
			}
			h := newHome(t)
			said := c.signIn(t, h)
			if !strings.Contains(said, alice.Email+", may read and send mail") || strings.Contains(said, "refresh token") {
				t.Errorf("letterlock said\n%s", said)
			}
			if after, err := s.op.Count(within(t), granted); err != nil || after != before+1 {
				t.Errorf("the provider granted %s %d times: %v", c.flow, after-before, err)
			}
			token := h.token(alice.Email)
			if strings.Contains(said, token) {
				t.Error("the access token was shown")
			}
			if r := h.letterlock("test", alice.Email); r.code != 0 || strings.Count(r.stdout, "ok") < 6 {
				t.Errorf("test: %v", r)
			}
			if files := found(t, h.dir, token, alice.Password); files != nil {
				t.Errorf("a secret is readable in %v", files)
			}
		})
	}
}

// signInByBrowser is what happens on a desktop: letterlock starts $BROWSER, here a
// program that hands the address to the test's Chromium.
func signInByBrowser(t *testing.T, h *home, s *site, chromium *browser.Browser, who lab.Person) string {
	ctx := within(t)
	pipe := h.path("address")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	program := h.write("bin/browser", "#!/bin/sh\nprintf '%s\\n' \"$1\" > "+pipe+"\n")
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	// Open for writing too, so that opening does not wait for a program that may
	// never come.
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	h.env = append(h.env, "BROWSER="+program)
	p := startLogin(t, h, s, who, "--flow", "browser")
	if err := reader.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromium.SignIn(ctx, strings.TrimSpace(address), who); err != nil {
		t.Fatal(err)
	}
	return ended(t, p)
}

// signInByHand is a person who copies the printed address into a browser.
func signInByHand(t *testing.T, h *home, s *site, chromium *browser.Browser, who lab.Person) string {
	ctx := within(t)
	p := startLogin(t, h, s, who, "--flow", "browser", "--no-browser")
	address, err := p.WaitLog(ctx, func(line string) bool { return strings.HasPrefix(line, s.op.AuthURL()) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromium.SignIn(ctx, address, who); err != nil {
		t.Fatal(err)
	}
	text, err := chromium.Text(ctx)
	if err != nil || strings.Contains(text, "code=") {
		t.Errorf("the last page says %q: %v", text, err)
	}
	return ended(t, p)
}

// signInByDevice types the code into Chromium.
func signInByDevice(t *testing.T, h *home, s *site, chromium *browser.Browser, who lab.Person) string {
	ctx := within(t)
	p := startLogin(t, h, s, who, "--flow", "device")
	line, err := p.WaitLog(ctx, func(line string) bool { return strings.Contains(line, "open "+s.op.Issuer) })
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(line, "open ")
	page, _, _ := strings.Cut(rest, " ")
	code, err := p.WaitLog(ctx, func(line string) bool { return strings.HasPrefix(line, "    ") })
	if err != nil {
		t.Fatal(err)
	}
	if err := chromium.Approve(ctx, page, strings.TrimSpace(code), who); err != nil {
		t.Fatal(err)
	}
	return ended(t, p)
}

// signInAtTerminal pastes at the prompt of a terminal, where the answer is not shown.
func signInAtTerminal(t *testing.T, h *home, s *site, who lab.Person) string {
	ctx := within(t)
	cmd := h.command(ctx, "letterlock", s.loginArgs(who, "--flow", "paste")...)
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Stop()
	if err := terminal.Expect(ctx, "paste that whole address here"); err != nil {
		t.Fatal(err)
	}
	_, address := addressIn(bufio.NewReader(strings.NewReader(terminal.Output())), s.op.AuthURL())
	back, err := s.op.SignIn(ctx, address, who)
	if err != nil {
		t.Fatal(err)
	}
	if err := terminal.Type(back.String() + "\r"); err != nil {
		t.Fatal(err)
	}
	if err := terminal.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(terminal.Output(), back.Query().Get("code")) {
		t.Error("what was pasted is on the screen")
	}
	return terminal.Output()
}

func startLogin(t *testing.T, h *home, s *site, who lab.Person, more ...string) *lab.Process {
	t.Helper()
	p, err := lab.StartProcess(lab.ProcessOptions{
		Name: "letterlock login", Path: binary(t), Args: s.loginArgs(who, more...), Env: h.env, Dir: h.dir, Stdin: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// ended waits for the end of a program and returns what it said.
func ended(t *testing.T, p *lab.Process) string {
	t.Helper()
	select {
	case <-p.Done():
	case <-within(t).Done():
		t.Errorf("%s does not end", p.Name)
	}
	return strings.Join(p.Log(), "\n")
}

//go:build lab

package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab/pty"
)

// TestLiveRehearsal runs `make live`'s test at a terminal against the fake of Google,
// so that it works on the day somebody has a real account for it.
func TestLiveRehearsal(t *testing.T) {
	w, g := newGoogle(t)
	h := w.person(t)
	registerGoogle(h)
	config := h.path(".config/letterlock/config.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	var account strings.Builder
	account.WriteString(string(text) + "\nca_file = \"" + w.ca.File + "\"\n\n[account.\"you@gmail.com\"]\n")
	for protocol, host := range gmail(g) {
		account.WriteString(protocol + " = \"" + host.listen(t) + "\"\n" + protocol + "_security = \"plain\"\n")
	}
	h.write(".config/letterlock/config.toml", account.String())

	program := filepath.Join(t.TempDir(), "live.test")
	if out, err := exec.Command("go", "test", "-c", "-tags", "live", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(within(t), program, "-test.v", "-test.run", "TestLive$", "-account", "you@gmail.com")
	// Building letterlock needs the developer's own HOME and PATH.
	cmd.Env = append(os.Environ(), w.net.Env()...)
	cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+h.path(".config"), "DISPLAY=", "WAYLAND_DISPLAY=", "BROWSER=")
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Stop()
	ctx := within(t)
	if err := terminal.Expect(ctx, "paste that whole address here"); err != nil {
		t.Fatal(err)
	}
	_, address := addressIn(bufio.NewReader(strings.NewReader(terminal.Output())), "https://accounts.google.com/")
	back, _ := w.visit(address)
	if err := terminal.Type(back + "\r"); err != nil {
		t.Fatal(err)
	}
	if err := terminal.Expect(ctx, "revoke this sign-in at the provider and delete it here? [y/N]"); err != nil {
		t.Fatalf("%v\n%s", err, terminal.Output())
	}
	if live := g.Refreshes(); len(live) != 1 {
		t.Errorf("before the answer there are %d grants", len(live))
	}
	if err := terminal.Type("y\r"); err != nil {
		t.Fatal(err)
	}
	err = terminal.Wait(ctx)
	if err != nil || !strings.Contains(terminal.Output(), "revoked at the provider") || !strings.Contains(terminal.Output(), "--- PASS: TestLive") {
		t.Errorf("%v\n%s", err, terminal.Output())
	}
	if live := g.Refreshes(); len(live) != 0 || g.Fired()["refresh-revoked"] != 0 {
		t.Errorf("left are %d grants; refused: %v", len(live), g.Fired())
	}
	for _, secret := range []string{googleSecret, "ya29.", "1//0"} {
		if strings.Contains(terminal.Output(), secret) {
			t.Errorf("%q was shown:\n%s", secret, terminal.Output())
		}
	}
}

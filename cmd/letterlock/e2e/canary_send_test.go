//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
)

// letter is mail for the canary run.
const letter = "To: a@example.org\nSubject: canary\n\nhello\n"

// sending is mail that leaves: by every front end, drained by the caller, by hand and
// by the agent, past servers and an issuer that repeat what they were shown.
func (h *hunt) sending() {
	for _, name := range []string{"sendmail", "mailx", "mailq"} {
		if err := os.Symlink(binary(h.t), h.path("bin/"+name)); err != nil {
			h.t.Fatal(err)
		}
	}
	h.write("aliases", "")
	h.configure("[queue]\naccount = \"you@example.org\"\naliases = \"" + h.write("aliases", "") + "\"\n")
	as := func(stdin, name string, args ...string) result {
		h.t.Helper()
		return h.look(h.run(stdin, h.path("bin/"+name), args...), name+" "+strings.Join(args, " "))
	}
	h.signedIn(0) // every sending needs a token of its own
	came := h.office.letters.Load()
	for _, r := range []result{as(letter, "sendmail", "-odq", "-t"), as(letter, "sendmail", "-odq", "-v", "b@example.org"),
		as("hello\n", "mailx", "-s", "canary", "-S", "sendwait", "c@example.org"), as("", "mailq")} {
		if r.code != 0 {
			h.t.Error(r)
		}
	}
	h.everyQueue()
	h.works("", "queue run")
	h.works(letter, "sendmail -odi -v d@example.org")
	if now := h.office.letters.Load(); now < came+4 {
		h.t.Errorf("%d messages have arrived, want 4", now-came)
	}
	// The server refuses and repeats, in SMTP and so in the queue's memory.
	h.office.rude.Store(true)
	h.try(letter, "sendmail -odi -v e@example.org")
	h.try("", "queue run")
	h.everyQueue()
	h.office.rude.Store(false)
	// The issuer does, at the refresh that sending needs.
	for n, rude := range someRudenesses() {
		if !thorough && n%3 != 0 {
			continue // each is met by other commands above
		}
		h.signedIn(0)
		h.works("", "token you@example.org", "access token") // the one of the sign-in
		h.issuer.set(rude.at("token"))
		h.try(letter, "sendmail -odq f@example.org")
		h.try("", "queue run")
		h.try("", "queue retry --all")
		h.everyQueue()
		as("", "mailq")
		as("", "sendmail", "-q", "-v")
	}
	h.signedIn(0)
	h.works("", "queue run")
}

// everyQueue shows the queue in every form, and of its entries the newest closely.
func (h *hunt) everyQueue() {
	h.t.Helper()
	list := h.works("", "queue list --json").stdout
	h.works("", "queue list")
	if at := strings.LastIndex(list, `"id": "`); at >= 0 {
		id, _, _ := strings.Cut(list[at+len(`"id": "`):], `"`)
		h.try("", "queue show "+id)
		h.try("", "queue show --json "+id)
		h.try("", "queue show --message "+id)
	}
}

// configure adds to the configuration.
func (h *hunt) configure(text string) {
	h.t.Helper()
	data, err := os.ReadFile(h.path(configFile))
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(configFile, string(data)+text)
}

// keepingElsewhere is the key sources of a passphrase, a credential and a command, and
// the agent, which holds the first one's key and dies with it.
func (h *hunt) keepingElsewhere() {
	passphrase := h.cage.mint("passphrase", 1)
	for _, name := range []string{"unit/letterlock-key", "store-key"} {
		h.write(name, h.works("", "keygen", "age identity").stdout)
	}
	show := helper(h.t, "show", h.path("helpers"), h.path("store-key"))
	h.configure(fmt.Sprintf("[key.store]\nsource = \"command\"\ncommand = [%q, %q, %q, %q]\n[notify]\ncommand = [%q, \"helper:note\", %q]\n",
		show[0], show[1], show[2], show[3], show[0], show[2]))
	h.works("", h.loginLine("--flow device --key store --account stored"))
	h.works("", "token stored", "access token")
	plain := h.env
	h.env = append(h.env[:len(h.env):len(h.env)], "CREDENTIALS_DIRECTORY="+h.path("unit"))
	h.works("", h.loginLine("--flow device --key systemd --account unit"))
	h.works("", "token unit", "access token")
	h.env = plain
	h.alone(h.env, "-v", "token", "unit")

	h.onTerminal(h.loginLine("--flow device --key passphrase --account typed"), "choose a passphrase", passphrase, "once more", passphrase)
	locked := func(line string) {
		h.t.Helper()
		if r, _ := h.alone(h.env, append([]string{"-v"}, words(line)...)...); h.look(r, line).code != 75 {
			h.t.Errorf("%s with a locked key: %v", line, r)
		}
	}
	locked("token typed")
	locked("tunnel imap typed")
	h.issuer.configure(func(i *issuer) { i.lifetime = 0 })
	said, end := h.startAgent()
	locked("token typed")
	h.try(letter, "sendmail -odq -f typed -A typed g@example.org")
	h.onTerminal("agent unlock", "passphrase of the key", h.cage.mint("passphrase", 2), "once more", passphrase)
	for _, line := range []string{"token typed", "token typed --json"} {
		r, _ := h.alone(h.env, append([]string{"-v"}, words(line)...)...)
		if h.look(r, line, "access token").code != 0 {
			h.t.Errorf("%s with a key that the agent holds: %v", line, r)
		}
	}
	for _, line := range []string{"agent --status", "agent --status --json", "accounts", "accounts --json", "report"} {
		h.works("", line)
	}
	if r := h.works("", "agent --status"); !strings.Contains(r.stdout, "1 unlocked key") {
		h.t.Errorf("the agent holds nothing: %v", r)
	}
	// It dies with the key in its memory.
	end(syscall.SIGQUIT)
	if text := said(); !strings.Contains(text, "goroutine ") {
		h.t.Errorf("no trace was written: %s", text)
	}
	locked("token typed")
	_, end = h.startAgent()
	h.onTerminal("agent unlock", "passphrase of the key", passphrase)
	h.works("", "agent lock")
	locked("token typed")
	end(syscall.SIGTERM)
}

// startAgent runs an agent at its most talkative. said searches what it wrote, which is
// complete after end.
func (h *hunt) startAgent() (said func() string, end func(syscall.Signal)) {
	h.t.Helper()
	var mu sync.Mutex
	var text bytes.Buffer
	ready := make(chan struct{})
	once := sync.OnceFunc(func() { close(ready) })
	cmd := h.command(within(h.t), "letterlock", "-v", "agent")
	noTerminal(cmd)
	cmd.Stderr = watchLines(func(line string) {
		mu.Lock()
		defer mu.Unlock()
		text.WriteString(line + "\n")
		if strings.Contains(line, "listens on") {
			once()
		}
	})
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	select {
	case <-ready:
	case <-within(h.t).Done():
		h.t.Fatal("the agent does not begin")
	}
	said = func() string {
		mu.Lock()
		defer mu.Unlock()
		h.see("what the agent wrote", text.String())
		return text.String()
	}
	return said, func(sig syscall.Signal) {
		_ = cmd.Process.Signal(sig)
		_ = cmd.Wait()
		said()
	}
}

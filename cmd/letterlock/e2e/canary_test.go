//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestCanary runs everything at its most talkative, where it succeeds and where it
// fails, with secrets that are told from everything else. No secret is in what was
// said, in how any process was called, or in any file, but where it belongs.
func TestCanary(t *testing.T) {
	h := newHunt(t)
	h.registering()
	h.signingIn()
	h.usingWell()
	h.refused()
	h.rudely()
	h.badConfiguration()
	h.takingOver()
	h.registeringOurselves()
	h.crashing()
	h.sending()
	h.keepingElsewhere()
	h.signingOut()
	h.conclude()
}

// The files where a secret belongs.
func belongings() map[string][]string {
	return map[string][]string{
		"secret.txt":             {"client secret"},
		configFile:               {"typed secret"},
		"theirs/tokens":          {"refresh token", "access token", "client secret"},
		keyFile:                  {"age identity"},
		"broken/config.toml":     {"configured secret"},
		stateDir + "/unpiped":    {"age identity"},
		"theirs/tokens.bad-json": {"refresh token"},
		"unit/letterlock-key":    {"age identity"},
		"store-key":              {"age identity"},
	}
}

func (h *hunt) conclude() {
	h.t.Helper()
	key, err := os.ReadFile(h.path(keyFile))
	if err != nil {
		h.t.Fatal(err)
	}
	found := regexp.MustCompile(`AGE-SECRET-KEY-1[A-Z0-9]+`).Find(key)
	if found == nil {
		h.t.Fatal("no age identity to look for")
	}
	h.cage.add("age identity", string(found))
	files := h.cage.search(h.t, h.dir, belongings())
	h.sampler.end()
	leaks, programs := h.sampler.leaks(h.cage)
	for _, leak := range leaks {
		h.t.Error(leak)
	}
	h.t.Logf("%d runs, %d files, processes looked at: %v", h.runs, files, programs)
	for _, kind := range []string{"access token", "refresh token", "authorization code", "PKCE verifier", "device code", "ID token", "client secret",
		"typed secret", "registered secret", "registration token", "configured secret", "age identity", "passphrase"} {
		if h.cage.birds[kind] == nil {
			h.t.Errorf("there was no %s to be found", kind)
		}
	}
	if programs["letterlock"] == 0 {
		h.t.Error("letterlock was never looked at")
	}
	// The helpers are gone too fast for every look: they tell how they were called.
	notes, err := os.ReadFile(h.path("helpers"))
	for _, mode := range []string{"browse", "encrypt", "decrypt", "show", "note"} {
		if err != nil || !strings.Contains(string(notes), "\n"+mode+"\n") && !strings.HasPrefix(string(notes), mode+"\n") {
			h.t.Errorf("the helper %s was never called: %v", mode, err)
		}
	}
}

func (h *hunt) registering() {
	typed := h.cage.mint("typed secret", 1)
	h.works("", "register google --client-id 1-a.apps.googleusercontent.com --client-secret-file "+h.path("secret.txt"))
	h.onTerminal("register google", "client id: ", "2-b.apps.googleusercontent.com", "client secret (not shown): ", typed)
	h.fails(typed+"\n", "register google")
	h.fails("", "register yahoo")
}

func (h *hunt) signingIn() {
	pipe := func(mode string) string {
		argv := helper(h.t, mode, h.path("helpers"))
		return fmt.Sprintf("[%q, %q, %q]", argv[0], argv[1], argv[2])
	}
	data, err := os.ReadFile(h.path(configFile))
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(configFile, string(data)+"[key.vault]\nsource = \"pipe\"\nencrypt = "+pipe("encrypt")+"\ndecrypt = "+pipe("decrypt")+"\n")
	h.works("", h.loginLine("--flow device"))
	h.env = append(h.env, "BROWSER="+h.browser)
	h.works("", h.loginLine("--flow browser --key vault --account piped"))
	h.works("", "token piped", "access token")
	h.onTerminal(h.loginLine("--flow paste"), "paste that whole address here", "the address")
	// The shortcuts that people try: a code alone, nothing, nonsense.
	h.fails("x\n\n", h.loginLine("--flow paste"))
	h.signedIn(3600)
}

func (h *hunt) usingWell() {
	for _, form := range []string{"", "--json", "--netrc", "--curl", "--sasl xoauth2", "--sasl oauthbearer", "--for smtp", "--min-validity 59m"} {
		h.works("", "token you@example.org "+form, "access token")
	}
	h.works("", "test you@example.org --trace")
	h.works("", "test you@example.org --trace --json")
	h.works("a LIST \"\" *\r\nb LOGOUT\r\n", "tunnel imap you@example.org")
	h.works("STAT\r\nQUIT\r\n", "tunnel pop3 you@example.org")
	h.works("EHLO x\r\nQUIT\r\n", "tunnel smtp you@example.org")
	list := h.works("", "setup --list").stdout
	for line := range strings.Lines(list) {
		if client := strings.Fields(line)[0]; client != "CLIENT" {
			h.works("", "setup "+client+" you@example.org")
		}
	}
	h.everySummary()
	h.works("", "explain invalid_grant AADSTS700016")
	h.works("", "version")
	h.works("", "help keys")
	// A token from elsewhere.
	token := strings.TrimSpace(h.works("", "token you@example.org", "access token").stdout)
	h.works(token+"\n", "test you@example.org --token-stdin --trace --imap "+h.office.imap+" --ca-file "+h.issuer.ca.File)
	h.fails(h.cage.mint("access token", 999)+"\n", "test you@example.org --token-stdin --trace --json --imap "+h.office.imap+" --ca-file "+h.issuer.ca.File)
	// Not to a terminal.
	h.onTerminalFails("token you@example.org")
}

// onTerminalFails wants an error and no token on the screen.
func (h *hunt) onTerminalFails(line string) {
	h.t.Helper()
	r := h.run("", "script", "-qec", binary(h.t)+" -v "+line, "/dev/null")
	if r.code != 64 {
		h.t.Errorf("%s on a terminal: %v", line, r)
	}
	h.look(r, line+" on a terminal")
}

func (h *hunt) everySummary() {
	h.t.Helper()
	for _, line := range []string{"accounts", "accounts --json", "report", "report --json"} {
		h.works("", line)
	}
}

// refused is about mail servers that repeat what they were shown.
func (h *hunt) refused() {
	h.office.rude.Store(true)
	defer h.office.rude.Store(false)
	h.fails("", "test you@example.org --trace")
	h.fails("", "test you@example.org --trace --json")
	h.fails("", "test you@example.org")
	for _, protocol := range []string{"imap", "pop3", "smtp"} {
		h.fails("", "tunnel "+protocol+" you@example.org")
	}
	h.fails(h.cage.mint("access token", 998)+"\n", "test you@example.org --token-stdin --trace --imap "+h.office.imap+" --ca-file "+h.issuer.ca.File)
}

// rudely is about authorization servers that do so, at every endpoint.
func (h *hunt) rudely() {
	for _, rude := range someRudenesses() {
		h.signedIn(0)
		h.issuer.set(rude.at("token"))
		h.fails("", "token you@example.org")
		h.fails("", "tunnel imap you@example.org")
		h.fails("", "test you@example.org --trace")
		h.everySummary()
		if r := h.pasteLogin(""); r.code == 0 {
			h.t.Errorf("%s: login: %v", rude.name, r)
		}
		h.issuer.set(rude.at("device"))
		h.fails("", h.loginLine("--flow device"))
		h.issuer.set(rude.at("revoke"))
		h.try("", "logout you@example.org")
	}
	h.signedIn(0)
	h.issuer.set(rudenesses()[0].at("token")) // the only one that does not make it ask again
	h.fails("", h.loginLine("--flow device"))
	h.issuer.set(nil)
	// TLS fails: the certificate is one that nobody knows.
	h.fails("", "login you@example.org --issuer "+h.issuer.server.URL+" --flow paste --client-id x --account stranger")
	// The issuer's redirect brings an error that repeats the state.
	h.fails("http://127.0.0.1/?error=access_denied&error_description="+url.QueryEscape(h.cage.mint("authorization code", 997))+"\n", h.loginLine("--flow paste"))
	h.fails("http://127.0.0.1/?state=wrong&code="+url.QueryEscape(h.cage.mint("authorization code", 996))+"\n", h.loginLine("--flow paste"))
	h.signedIn(0)
}

// badConfiguration has a secret near every fault of the file.
func (h *hunt) badConfiguration() {
	secret := h.cage.mint("configured secret", 1)
	for _, text := range []string{
		"[provider.x]\nclient_secret = \"" + secret,
		"[provider.x]\nclient_secret = " + secret + "\n",
		"[provider.x]\nclient_secret = [\"" + secret + "\"]\n",
		"[provider.x]\nclient_secret = '" + secret + "' x\n",
		"[provider.x]\nclientsecret = \"" + secret + "\"\n",
		"[provider.x]\nclient_secret = \"" + secret + "\"\nclient_secret = \"" + secret + "\"\n",
		"[provider.x]\nclient_secret = \"\\x" + secret + "\"\n",
		"[provider.x]\nclient_secret_file = \"/none\"\nclient_secret = \"" + secret + "\"\n",
		"[provider.x]\nclient_secret = \"" + secret + "\x01\"\n",
		"provider = \"" + secret + "\"\n",
		"[provider.x]\nscopes = \"" + secret + "\"\n",
		secret + "\n",
	} {
		h.write("broken/letterlock/config.toml", text)
		for _, line := range []string{"token you@example.org", "accounts", "report", "login you@example.org --provider x"} {
			cmd := h.command(within(h.t), "letterlock", append([]string{"-v"}, words(line)...)...)
			cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+h.path("broken"))
			r := h.finish(cmd, "")
			if r.code == 0 && line != "report" {
				h.t.Errorf("%q: %s: %v", text, line, r)
			}
			h.look(r, fmt.Sprintf("%s with %.20q", line, text))
		}
	}
	if err := os.RemoveAll(h.path("broken")); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Chmod(h.path("secret.txt"), 0o644); err != nil {
		h.t.Fatal(err)
	}
	h.fails("", h.loginLine("--flow paste"))
	if err := os.Chmod(h.path("secret.txt"), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// takingOver reads the grants of another tool.
func (h *hunt) takingOver() {
	h.issuer.configure(func(i *issuer) { i.lifetime = 3600 })
	data, err := os.ReadFile(h.path(configFile))
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(configFile, string(data)+fmt.Sprintf("[provider.theirs]\nissuer = %q\nca_file = %q\nclient_id = %q\nclient_secret_file = %q\n",
		h.issuer.server.URL, h.issuer.ca.File, issuerClient, h.path("secret.txt")))
	theirs := func(refresh string) {
		h.write("theirs/tokens", fmt.Sprintf(`{"registration":"theirs","authflow":"authcode","email":"me@example.org","access_token":%q,"access_token_expiration":"2020-01-02T03:04:05","refresh_token":%q}`,
			h.cage.mint("access token", 995), refresh))
	}
	const line = "import mutt_oauth2 theirs/tokens --provider theirs --key file --decryption-pipe cat"
	theirs(h.cage.mint("refresh token", 994))
	h.issuer.set(rudenesses()[2].at("token"))
	if r := h.fails("", line); r.code != 75 { // kept, to be tried again
		h.t.Errorf("import from a provider that is away: %v", r)
	}
	h.works("", "logout me@example.org --local")
	h.issuer.set(rudenesses()[0].at("token"))
	if r := h.fails("", line); r.code != 77 {
		h.t.Errorf("import of a refused grant: %v", r)
	}
	h.issuer.set(nil)
	good := h.cage.mint("refresh token", 993)
	h.issuer.configure(func(i *issuer) { i.refresh[good] = true })
	theirs(good)
	h.works("", line)
	h.works("", "token me@example.org", "access token")
	old := func(belong []string, args ...string) {
		h.look(h.run("", h.path("bin/mutt_oauth2.py"), args...), "mutt_oauth2.py "+strings.Join(args, " "), belong...)
	}
	old([]string{"access token"}, "theirs/tokens")
	old([]string{"access token"}, "-v", "-d", "--format", "sasl", "theirs/tokens")
	old(nil, "-v", "-d", "none")
	old(nil, "--client-secret", "x", "theirs/tokens")
	h.write("theirs/tokens.bad-json", `{"refresh_token":"`+h.cage.mint("refresh token", 992)+`"`)
	old(nil, "-v", "-d", "--decryption-pipe", "cat", "theirs/tokens.bad-json")
	h.fails("", "import mutt_oauth2 theirs/tokens.bad-json --provider theirs --decryption-pipe cat")
	// The file's token is used up by now. It takes no good grant's place.
	if r := h.fails("", line); r.code != 73 {
		h.t.Errorf("a second import: %v", r)
	}
	h.works("", "token me@example.org --min-validity 59m", "access token")
}

// registeringOurselves is dynamic registration, which brings two secrets more.
func (h *hunt) registeringOurselves() {
	h.issuer.configure(func(i *issuer) { i.register = true })
	other := newHome(h.t)
	other.env = append(other.env, h.sampler.mark)
	line := "-v login you@example.org --issuer " + h.issuer.server.URL + " --ca-file " + h.issuer.ca.File + " --key file --flow paste"
	for range 2 { // the second replaces the first
		h.look(other.mustPaste(h.issuer, words(line)...), "login that registers")
	}
	for _, rude := range someRudenesses() {
		h.issuer.set(rude.at("unregister"))
		h.look(other.paste(h.issuer, words(line)...), "login that replaces")
		h.issuer.set(rude.at("register"))
		h.look(other.paste(h.issuer, words(line)...), "login that cannot register")
		h.issuer.set(rude.at("token"))
		h.look(other.paste(h.issuer, words(line)...), "login that registers in vain")
	}
	h.issuer.set(nil)
	h.look(other.must("", "letterlock", "-v", "accounts", "--json"), "accounts")
	h.look(other.must("", "letterlock", "-v", "logout", "you@example.org"), "logout")
	h.cage.search(h.t, other.dir, belongings())
	h.issuer.configure(func(i *issuer) { i.register = false })
}

// crashing kills it in the middle of a refresh and of a sign-in, in ways that make Go
// print what is on its stacks.
func (h *hunt) crashing() {
	h.signedIn(0)
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGTERM} {
		// Not "crash": it makes each thread wait for the others, for seconds.
		for _, level := range []string{"single", "system"} {
			arrived, release := make(chan struct{}, 4), make(chan struct{})
			h.issuer.set(func(http.ResponseWriter, string, url.Values) bool {
				arrived <- struct{}{}
				<-release
				return true
			})
			answer := sync.OnceFunc(func() { close(release) })
			asked := func() {}
			if sig == syscall.SIGTERM {
				asked = answer // a refresh under way is waited for, see client/account
			}
			said := h.dies("token you@example.org", sig, arrived, asked, "GOTRACEBACK="+level)
			answer()
			if sig == syscall.SIGQUIT && !strings.Contains(said, "goroutine ") {
				h.t.Errorf("no trace was written: %s", said)
			}
		}
	}
	h.issuer.set(nil)
	h.try("", "accounts")
}

func (h *hunt) signingOut() {
	for _, rude := range []int{4, 0} {
		h.signedIn(3600)
		h.issuer.set(rudenesses()[rude].at("revoke"))
		h.try("", "logout you@example.org")
		h.issuer.set(nil)
	}
	h.signedIn(3600)
	h.works("", "logout piped")
	h.works("", "logout me@example.org --local")
	h.fails("", "logout nobody@example.org")
	// One grant stays to be searched.
	h.works("", "token you@example.org", "access token")
}

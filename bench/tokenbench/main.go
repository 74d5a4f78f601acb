// Command tokenbench measures `letterlock token` as mail programs start it: a whole
// process, with a valid token in an encrypted store, beside a Go hello world, the
// system's true(1) and Debian's mutt_oauth2.py with gpg. The commands take turns in
// one run, so that a busy machine hurts all alike; ratios count, not milliseconds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

const address = "bench@example.org"

// A contender is one command in the race.
type contender struct {
	name string
	argv []string
	env  []string
	want string // standard output, to be sure that the work was done

	scale     string // the program that weighs
	wall, cpu []time.Duration
	rss       int64 // peak, KiB
}

func main() {
	rounds := flag.Int("rounds", 31, "rounds")
	binary := flag.String("letterlock", "bin/letterlock", "the binary to measure")
	flag.Parse()
	if err := run(*rounds, *binary); err != nil {
		fmt.Fprintln(os.Stderr, "tokenbench:", err)
		os.Exit(1)
	}
}

func run(rounds int, binary string) error {
	dir, err := os.MkdirTemp("", "letterlock-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	field, err := contenders(dir, binary)
	if err != nil {
		return err
	}
	defer stopAgent(dir)
	for round := range rounds + 1 { // the first one warms the caches and is not counted
		for _, c := range field {
			if err := c.once(round > 0); err != nil {
				return err
			}
		}
	}
	report(field, rounds)
	return nil
}

func contenders(dir, binary string) ([]*contender, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	token := "ya29." + strings.Repeat("a", 210) // as long as Google's
	env := []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "GNUPGHOME=" + filepath.Join(dir, "gnupg"),
		"XDG_STATE_HOME=" + filepath.Join(dir, "state"), "XDG_CONFIG_HOME=" + filepath.Join(dir, "config")}
	if err := makeStore(dir, token); err != nil {
		return nil, fmt.Errorf("make a store: %w", err)
	}
	hello, err := build(dir, "hello", helloSource)
	if err != nil {
		return nil, fmt.Errorf("build hello world: %w", err)
	}
	scale, err := build(dir, "scale", scaleSource)
	if err != nil {
		return nil, fmt.Errorf("build the scale: %w", err)
	}
	script, file, err := makeScript(dir, token, env)
	if err != nil {
		return nil, fmt.Errorf("set up mutt_oauth2.py: %w", err)
	}
	field := []*contender{
		{name: "true", argv: []string{"/bin/true"}, env: env},
		{name: "go hello world", argv: []string{hello}, env: env, want: "hello\n"},
		{name: "letterlock token", argv: []string{binary, "token", address}, env: env, want: token + "\n"},
		{name: "mutt_oauth2.py, gpg", argv: []string{"/usr/bin/python3", script, file}, env: env, want: token + "\n"},
	}
	for _, c := range field {
		c.scale = scale
	}
	return field, nil
}

// makeStore keeps a grant with a token that is valid for an hour, under key `file`.
func makeStore(dir, token string) error {
	state, conf := filepath.Join(dir, "state", "letterlock"), filepath.Join(dir, "config", "letterlock")
	for _, folder := range []string{state, conf} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("[account.%q]\nprovider = \"google\"\nkey = \"file\"\n", address)
	if err := os.WriteFile(filepath.Join(conf, "config.toml"), []byte(text), 0o600); err != nil {
		return err
	}
	store, err := tokenstore.Open(filepath.Join(state, "grants"))
	if err != nil {
		return err
	}
	ctx := context.Background()
	keys := tokenstore.NewFile(filepath.Join(state, "keys"))
	if err := keys.Create(ctx); err != nil {
		return err
	}
	now := time.Now()
	manager := &account.Manager{Store: account.OnDisk(store), Keys: func(string) (tokenstore.Keys, error) { return keys, nil }}
	return manager.Save(ctx, &account.Grant{
		Account: address, Login: address, Provider: "google", Right: provider.Full,
		Client:    oauth.Client{ID: "bench", Auth: oauth.AuthNone},
		Endpoints: oauth.Endpoints{Issuer: "https://issuer.example", Token: "https://issuer.example/token"},
		Resources: []account.Resource{{Name: "mail", Purposes: []provider.Purpose{provider.IMAP, provider.SMTP}, Scopes: []string{"mail"}}},
		Refresh:   secret.New("1//" + strings.Repeat("r", 100)), SignedIn: now, Refreshed: now,
		Access: map[string]account.Access{"mail": {Token: secret.New(token), Issued: now, Expiry: now.Add(time.Hour)}},
	})
}

const helloSource = "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"hello\\n\") }\n"

// build compiles a small program.
func build(dir, name, text string) (string, error) {
	source, binary := filepath.Join(dir, name+".go"), filepath.Join(dir, name)
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return binary, cmd.Run()
}

// makeScript sets Debian's script up with a gpg key without passphrase and a token
// file whose token is valid, so that it decrypts, reads and prints.
func makeScript(dir, token string, env []string) (script, file string, err error) {
	script = "/usr/share/doc/mutt/examples/mutt_oauth2.py"
	text, err := os.ReadFile(script)
	if err != nil {
		return "", "", err
	}
	home := filepath.Join(dir, "gnupg")
	if err := os.Mkdir(home, 0o700); err != nil {
		return "", "", err
	}
	if err := gpg(env, nil, "--batch", "--passphrase", "", "--quick-generate-key", "bench", "rsa3072", "encrypt,sign"); err != nil {
		return "", "", err
	}
	copied := filepath.Join(dir, "mutt_oauth2.py")
	if err := os.WriteFile(copied, []byte(strings.ReplaceAll(string(text), "YOUR_GPG_IDENTITY", "bench")), 0o700); err != nil {
		return "", "", err
	}
	content, err := json.Marshal(map[string]string{"registration": "google", "authflow": "authcode", "email": address, "access_token": token,
		"access_token_expiration": time.Now().Add(24 * time.Hour).Format("2006-01-02T15:04:05.000000"), "refresh_token": "r"})
	if err != nil {
		return "", "", err
	}
	file = filepath.Join(dir, "mutt.tokens")
	if err := gpg(env, content, "--batch", "--trust-model", "always", "--encrypt", "--recipient", "bench", "--output", file); err != nil {
		return "", "", err
	}
	return copied, file, os.Chmod(file, 0o600)
}

func gpg(env []string, input []byte, args ...string) error {
	cmd := exec.Command("gpg", args...)
	cmd.Env = env
	cmd.Stdin = strings.NewReader(string(input))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("gpg: %w: %s", err, out)
	}
	return nil
}

func stopAgent(dir string) {
	cmd := exec.Command("gpgconf", "--kill", "all")
	cmd.Env = append(os.Environ(), "GNUPGHOME="+filepath.Join(dir, "gnupg"))
	_ = cmd.Run()
}

// once runs the command and takes its time; the uncounted first round weighs it.
func (c *contender) once(count bool) error {
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Env = c.env
	if !count {
		return c.weigh()
	}
	begin := time.Now()
	out, err := cmd.Output()
	wall := time.Since(begin)
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if string(out) != c.want {
		return fmt.Errorf("%s printed %d bytes, not what was wanted", c.name, len(out))
	}
	c.wall = append(c.wall, wall)
	c.cpu = append(c.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	return nil
}

// weigh takes the peak memory by a small parent: a child's figure begins with the
// memory of the process that forked it, and this one is larger than what it measures.
func (c *contender) weigh() error {
	cmd := exec.Command(c.scale, c.argv...)
	cmd.Env = c.env
	var kib strings.Builder
	cmd.Stderr = &kib
	out, err := cmd.Output()
	if err != nil || string(out) != c.want {
		return fmt.Errorf("weigh %s: %w: %s", c.name, err, kib.String())
	}
	_, err = fmt.Sscan(kib.String(), &c.rss)
	return err
}

// scaleSource runs its arguments and prints the child's peak memory in KiB.
const scaleSource = `package main

import (
	"os"
	"syscall"
)

func main() {
	p, err := os.StartProcess(os.Args[1], os.Args[1:], &os.ProcAttr{Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		panic(err)
	}
	state, err := p.Wait()
	if err != nil || !state.Success() {
		os.Exit(1)
	}
	println(state.SysUsage().(*syscall.Rusage).Maxrss)
}
`

func report(field []*contender, rounds int) {
	var hello, own, script time.Duration
	fmt.Printf("whole process, %d interleaved rounds, medians; %s, %d cores\n", rounds, runtime.Version(), runtime.NumCPU())
	fmt.Printf("%-22s %9s %9s %9s %9s\n", "command", "wall ms", "p90 ms", "cpu ms", "peak MB")
	for _, c := range field {
		wall := median(c.wall)
		fmt.Printf("%-22s %9.2f %9.2f %9.2f %9.1f\n", c.name, ms(wall), ms(quantile(c.wall, 0.9)), ms(median(c.cpu)), float64(c.rss)/1024)
		switch c.name {
		case "go hello world":
			hello = wall
		case "letterlock token":
			own = wall
		case "mutt_oauth2.py, gpg":
			script = wall
		}
	}
	fmt.Printf("letterlock token: %.2fx go hello world (goal 2.5), %.1fx faster than mutt_oauth2.py (goal 15)\n",
		float64(own)/float64(hello), float64(script)/float64(own))
}

func median(d []time.Duration) time.Duration { return quantile(d, 0.5) }

func quantile(d []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[int(float64(len(sorted)-1)*q)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

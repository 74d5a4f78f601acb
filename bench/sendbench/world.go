package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A world is one server and the peers that send to it.
type world struct {
	options
	sink    *sink
	ca      *lab.CA
	bundle  string // the system's authorities and ours
	message string // a file of 1.9 KB
	hello   string // the smallest Go program
	postfix *lab.Postfix
}

// token is as long as Google's.
func token() string { return "ya29." + strings.Repeat("a", 210) }

const recipient = "you@elsewhere.test"

func newWorld(ctx context.Context, o options) (*world, error) {
	w := &world{options: o, bundle: filepath.Join(o.work, "bundle.pem"), message: filepath.Join(o.work, "message")}
	var err error
	if w.ca, err = lab.NewCA(""); err != nil {
		return nil, err
	}
	cert, err := w.ca.Issue("localhost", "sink.bench.test", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	if w.sink, err = startSink(&tls.Config{Certificates: []tls.Certificate{cert.TLS}, MinVersion: tls.VersionTLS12}); err != nil {
		return nil, err
	}
	system, err1 := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	own, err2 := os.ReadFile(w.ca.File)
	text := "From: Bench <" + user + ">\nTo: " + recipient + "\nSubject: a bench\n\n" + strings.Repeat(strings.Repeat("0123456789", 7)+"\n", 26)
	if err := errors.Join(err1, err2, os.WriteFile(w.bundle, append(own, system...), 0o644), os.WriteFile(w.message, []byte(text), 0o644),
		w.buildHello(ctx), w.setUpMsmtp(), w.setUpDMA(), w.setUpNullmailer()); err != nil {
		return nil, err
	}
	return w, w.startPostfix(ctx)
}

func (w *world) close() {
	if w.postfix != nil {
		w.postfix.Stop()
	}
	w.sink.stop()
	w.ca.Stop()
}

func (w *world) port() string { _, port, _ := net.SplitHostPort(w.sink.address); return port }

func (w *world) buildHello(ctx context.Context) error {
	w.hello = filepath.Join(w.work, "hello")
	source := w.hello + ".go"
	if err := os.WriteFile(source, []byte("package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"hello\\n\") }\n"), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", w.hello, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build hello world: %w: %s", err, out)
	}
	return nil
}

// A home is a user of letterlock with an account whose token is valid.
type home struct{ folder string }

func (w *world) home(name string) (home, error) {
	h := home{filepath.Join(w.work, name)}
	conf, state := filepath.Join(h.folder, "config", "letterlock"), h.state()
	for _, folder := range []string{conf, state, filepath.Join(h.folder, "run")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return h, err
		}
	}
	text := fmt.Sprintf("[queue]\naccount = %q\n\n[account.%q]\nprovider = \"google\"\nkey = \"file\"\nsmtp = \"localhost:%s\"\nsmtp_security = \"starttls\"\n", user, user, w.port())
	if err := os.WriteFile(filepath.Join(conf, "config.toml"), []byte(text), 0o600); err != nil {
		return h, err
	}
	store, err := tokenstore.Open(filepath.Join(state, "grants"))
	if err != nil {
		return h, err
	}
	keys := tokenstore.NewFile(filepath.Join(state, "keys"))
	if err := keys.Create(context.Background()); err != nil {
		return h, err
	}
	now := time.Now()
	manager := &account.Manager{Store: account.OnDisk(store), Keys: func(string) (tokenstore.Keys, error) { return keys, nil }}
	return h, manager.Save(context.Background(), &account.Grant{
		Account: user, Login: user, Provider: "google", Right: provider.Full,
		Client:    oauth.Client{ID: "bench", Auth: oauth.AuthNone},
		Endpoints: oauth.Endpoints{Issuer: "https://issuer.example", Token: "https://issuer.example/token"},
		Resources: []account.Resource{{Name: "mail", Purposes: []provider.Purpose{provider.IMAP, provider.SMTP}, Scopes: []string{"mail"}}},
		Refresh:   secret.New("1//" + strings.Repeat("r", 100)), SignedIn: now, Refreshed: now,
		Access: map[string]account.Access{"mail": {Token: secret.New(token()), Issued: now, Expiry: now.Add(24 * time.Hour)}},
	})
}

func (h home) state() string   { return filepath.Join(h.folder, "state", "letterlock") }
func (h home) entries() string { return filepath.Join(h.state(), "queue", "entries") }

// env trusts the authorities in that file and no others. Go would read the folder of
// single certificates too, which GnuTLS and OpenSSL do not.
func (h home) env(roots string, folders bool) []string {
	env := []string{"HOME=" + h.folder, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "XDG_STATE_HOME=" + filepath.Join(h.folder, "state"),
		"XDG_CONFIG_HOME=" + filepath.Join(h.folder, "config"), "XDG_RUNTIME_DIR=" + filepath.Join(h.folder, "run"), "SSL_CERT_FILE=" + roots}
	if !folders {
		env = append(env, "SSL_CERT_DIR=/nonexistent")
	}
	return env
}

func plainEnv() []string {
	return []string{"HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
}

// setUpMsmtp writes one configuration with our authority and one with the bundle.
func (w *world) setUpMsmtp() error {
	if err := os.WriteFile(filepath.Join(w.work, "token"), []byte(token()+"\n"), 0o600); err != nil {
		return err
	}
	for name, roots := range map[string]string{"msmtp.one": w.ca.File, "msmtp.all": w.bundle} {
		text := fmt.Sprintf("account default\nhost localhost\nport %s\nfrom %s\nuser %s\ntls on\ntls_starttls on\ntls_trust_file %s\nauth xoauth2\npasswordeval cat %s\n",
			w.port(), user, user, roots, filepath.Join(w.work, "token"))
		if err := os.WriteFile(filepath.Join(w.work, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Where the peers look, compiled in. The mount namespace makes these ours.
const (
	dmaConf, dmaSpool               = "/etc/dma", "/var/spool/dma"
	nullmailerConf, nullmailerSpool = "/etc/nullmailer", "/var/spool/nullmailer"
)

func (w *world) setUpDMA() error {
	conf := fmt.Sprintf("SMARTHOST localhost\nPORT %s\nAUTHPATH %s/auth.conf\nSECURETRANSFER\nSTARTTLS\nDEFER\nMAILNAME bench.test\nNULLCLIENT\n", w.port(), dmaConf)
	return errors.Join(
		os.WriteFile(dmaConf+"/dma.conf", []byte(conf), 0o644),
		os.WriteFile(dmaConf+"/auth.conf", []byte(user+"|localhost:"+password+"\n"), 0o640),
		ofMail(dmaConf+"/auth.conf"), ofMail(dmaSpool), os.Chmod(dmaSpool, 0o2775))
}

func (w *world) setUpNullmailer() error {
	remote := fmt.Sprintf("localhost smtp --port=%s --starttls --insecure --user=%s --pass=%s\n", w.port(), user, password)
	faults := []error{
		os.WriteFile(nullmailerConf+"/remotes", []byte(remote), 0o600), ofMail(nullmailerConf + "/remotes"),
		os.WriteFile(nullmailerConf+"/me", []byte("bench.test\n"), 0o644),
		ofMail(nullmailerSpool),
	}
	for _, name := range []string{"queue", "tmp", "failed"} {
		path := filepath.Join(nullmailerSpool, name)
		faults = append(faults, os.MkdirAll(path, 0o750), ofMail(path))
	}
	trigger := filepath.Join(nullmailerSpool, "trigger")
	if _, err := os.Stat(trigger); err != nil {
		faults = append(faults, exec.Command("mkfifo", "-m", "622", trigger).Run(), ofMail(trigger))
	}
	return errors.Join(faults...)
}

// ofMail gives a file to the user that both peers run as.
func ofMail(path string) error {
	owner, err := lookUp("mail")
	if err != nil {
		return err
	}
	return os.Chown(path, owner.uid, owner.gid)
}

type owner struct{ uid, gid int }

func lookUp(name string) (owner, error) {
	found, err := osuser.Lookup(name)
	if err != nil {
		return owner{}, err
	}
	uid, err1 := strconv.Atoi(found.Uid)
	gid, err2 := strconv.Atoi(found.Gid)
	return owner{uid, gid}, errors.Join(err1, err2)
}

func (w *world) startPostfix(ctx context.Context) error {
	passwords := filepath.Join(w.work, "postfix.passwords")
	if err := os.WriteFile(passwords, []byte(fmt.Sprintf("[localhost]:%s %s:%s\n", w.port(), user, password)), 0o600); err != nil {
		return err
	}
	options := lab.PostfixOptions{CA: w.ca, Relay: "localhost:" + w.port(), Main: fmt.Sprintf(`smtp_tls_CAfile = %s
smtp_tls_verify_cert_match = hostname
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:%s
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = plain
smtp_tls_connection_reuse = yes
`, w.ca.File, passwords)}
	var err error
	if w.postfix, err = lab.StartPostfix(ctx, options); err != nil {
		return err
	}
	// With its own means to use a TLS connection again, which the lab does not need.
	service := exec.CommandContext(ctx, "postconf", "-Me", "tlsproxy/unix=tlsproxy unix - - n - 0 tlsproxy")
	service.Env = w.postfixEnv()
	if out, err := service.CombinedOutput(); err != nil {
		return fmt.Errorf("give postfix a tlsproxy: %w: %s", err, out)
	}
	// Replaced in the file and not written again at its end: Postfix would warn of each
	// at every start of a process, and its log socket holds ten lines.
	return w.setPostfix(ctx, "smtp_tls_security_level=verify", "queue_run_delay=300s", "minimal_backoff_time=300s", "maximal_backoff_time=4000s")
}

func (w *world) postfixEnv() []string { return append(plainEnv(), "MAIL_CONFIG="+w.postfix.Dir) }

// deferPostfix lets Postfix keep its mail, or send it from now on.
func (w *world) deferPostfix(ctx context.Context, keep bool) error {
	if keep {
		return w.setPostfix(ctx, "defer_transports=smtp")
	}
	return w.setPostfix(ctx, "defer_transports=")
}

func (w *world) setPostfix(ctx context.Context, settings ...string) error {
	for _, argv := range [][]string{append([]string{"postconf", "-e"}, settings...), {"postfix", "reload"}} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = w.postfixEnv()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", argv, err, out)
		}
	}
	return nil
}

//go:build unix

package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakeidp"
)

// A machineKey is what an administrator downloads or makes for a machine.
type machineKey struct {
	private *rsa.PrivateKey
	pem     string
	cert    *x509.Certificate
}

func newMachineKey(t *testing.T) machineKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(day)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return machineKey{key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), cert}
}

// machine signs in without a person: nothing is read from a terminal and no page opened.
func (w *world) machine(h *home, args ...string) result {
	h.t.Helper()
	return h.letterlock(append([]string{"login", "--ca-file", w.ca.File, "--key", "file"}, args...)...)
}

// keptAway looks for a key in everything that letterlock wrote, and in what it said.
func keptAway(t *testing.T, h *home, secret string, said ...result) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(secret), "\n")[1:3] {
		if files := h.holding(".local", line); files != nil {
			t.Errorf("the key is in %v", files)
		}
		if files := h.holding(".config", line); files != nil {
			t.Errorf("the key is in %v", files)
		}
		for _, r := range said {
			if strings.Contains(r.stdout+r.stderr, line) {
				t.Error("the key was shown")
			}
		}
	}
}

// holding lists the files below a folder of the home that have text in them.
func (h *home) holding(folder, text string) []string {
	h.t.Helper()
	var files []string
	err := filepath.WalkDir(h.path(folder), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), text) {
			files = append(files, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	return files
}

const (
	robot      = "robot@project.iam.gserviceaccount.com"
	workspace  = "you@corp.example"
	appDefault = "https://outlook.office365.com/"
)

// TestGoogleMachine: a service account with domain-wide delegation, from the key file
// to tokens that renew themselves, and each refusal with its remedy.
func TestGoogleMachine(t *testing.T) {
	t.Parallel()
	w, g := newGoogle(t)
	key := newMachineKey(t)
	file, err := json.Marshal(map[string]string{"type": "service_account", "client_email": robot, "private_key_id": "k1", "private_key": key.pem, "token_uri": "https://mallory.example/"})
	if err != nil {
		t.Fatal(err)
	}
	reset := func() {
		w.resetGoogle(g)
		g.With(func() {
			g.Machines = map[string]*fakeidp.ServiceAccount{robot: {Keys: map[string]crypto.PublicKey{"k1": key.private.Public()},
				Delegated: map[string][]string{"corp.example": {fakeidp.GoogleMail, fakeidp.GmailSend}}}}
		})
	}
	args := func(path string, more ...string) []string {
		return append([]string{workspace, "--provider", "google", "--flow", "assertion", "--client-key-file", path}, more...)
	}
	t.Run("life", func(t *testing.T) {
		reset()
		h := w.person(t)
		path := h.write("robot.json", string(file))
		said := w.machine(h, args(path)...)
		if said.code != 0 || !strings.Contains(said.stderr, "signed in "+workspace+", may read and send mail") || !strings.Contains(said.stderr, "each token is asked for with "+path) {
			t.Fatalf("login: %v", said)
		}
		first := h.token(workspace)
		h.expire(workspace)
		second := h.token(workspace, "--for", "smtp")
		if who, err := g.Check(second, fakeidp.GoogleMail); err != nil || who != workspace || first == second {
			t.Errorf("the renewed token is of %q: %v", who, err)
		}
		accounts := h.must("", "letterlock", "accounts")
		if !strings.Contains(accounts.stdout, "never: a machine") {
			t.Errorf("accounts: %v", accounts)
		}
		keptAway(t, h, key.pem, said, accounts)
		// A second sign-in finds flow and file again; a send-only right is another account.
		if r := w.machine(h, workspace); r.code != 0 {
			t.Errorf("again: %v", r)
		}
		if r := w.machine(h, args(path, "--account", "cron", "--send-only")...); r.code != 0 || !strings.Contains(r.stderr, "may send mail and cannot read it") {
			t.Errorf("send-only: %v", r)
		}
		if who, err := g.Check(h.token("cron", "--for", "send"), fakeidp.GmailSend); err != nil || who != workspace {
			t.Errorf("%q, %v", who, err)
		}
		h.letterlock("token", "cron", "--for", "imap").says(t, 77, "does not cover")
		// The file goes away, or is opened to others: nothing is asked, and it is said which.
		h.expire(workspace)
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		h.letterlock("token", workspace).says(t, 78, "key file "+path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		h.letterlock("token", workspace).says(t, 78, "key file "+path)
		h.letterlock("logout", workspace).says(t, 78, "key file "+path, "--local")
		h.must("", "letterlock", "logout", workspace, "--local")
	})
	for _, c := range []struct {
		refusal string
		change  func()
		code    int
		texts   []string
	}{
		{"assertion-delegation", func() { g.Machines[robot].Delegated = nil }, 77, []string{"Client is unauthorized", "Domain-wide delegation"}},
		{"assertion-subject", func() { delete(g.People, workspace) }, 78, []string{"Invalid email or User ID", "primary address"}},
		{"assertion-signature", func() { g.Machines[robot].Keys = nil }, 78, []string{"Invalid JWT Signature", "check the clock"}},
		{"assertion-disabled", func() { g.Machines[robot].Disabled = true }, 78, []string{"disabled_client", "look at the service account"}},
		{"assertion-account", func() { g.Machines = nil }, 78, []string{"account not found", "service account is there"}},
	} {
		t.Run(c.refusal, func(t *testing.T) {
			reset()
			h := w.person(t)
			path := h.write("robot.json", string(file))
			g.With(c.change)
			before := g.Fired()[c.refusal]
			r := w.machine(h, args(path)...)
			r.says(t, c.code, c.texts...)
			if g.Fired()[c.refusal] != before+1 {
				t.Errorf("refused for another reason: %v", g.Fired())
			}
			keptAway(t, h, key.pem, r)
		})
	}
	t.Run("faults of the person", func(t *testing.T) {
		reset()
		h := w.person(t)
		plain := h.write("plain.pem", key.pem)
		w.machine(h, args(plain)...).says(t, 78, "is not the key file of a service account")
		w.machine(h, workspace, "--provider", "google", "--flow", "client-credentials", "--client-key-file", plain).says(t, 78, "--flow assertion")
		w.machine(h, args(h.path("nowhere"))...).says(t, 78, "there is no file")
		w.machine(h, workspace, "--provider", "google", "--flow", "assertion").says(t, 78, "none is named")
		w.machine(h, workspace, "--provider", "google", "--client-key-file", plain).says(t, 64, "--flow")
	})
}

// TestMicrosoftMachine: an app of a directory, by secret and by certificate.
func TestMicrosoftMachine(t *testing.T) {
	t.Parallel()
	w, c := newMicrosoft(t)
	key := newMachineKey(t)
	certified := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: key.cert.Raw})) + key.pem
	reset := func(client fakeidp.MicrosoftClient) {
		w.resetMicrosoft(c)
		client.Audience, client.Roles = "all", []string{"IMAP.AccessAsApp", "SMTP.SendAsApp"}
		c.public.With(func() { c.public.Clients[microsoftID] = &client })
	}
	const appSecret = "app~secret-c4n4ry"
	args := func(more ...string) []string {
		return append([]string{workMail, "--provider", "microsoft", "--client-id", microsoftID}, more...)
	}
	for _, k := range []struct {
		name, flow, flag, file, text string
		client                       fakeidp.MicrosoftClient
	}{
		{"secret", "client-credentials", "--client-secret-file", "secret", appSecret + "\n", fakeidp.MicrosoftClient{Secret: appSecret}},
		{"certificate", "client-credentials", "--client-key-file", "app.pem", certified, fakeidp.MicrosoftClient{Certificates: []*x509.Certificate{key.cert}}},
		{"certificate, called assertion", "assertion", "--client-key-file", "app.pem", certified, fakeidp.MicrosoftClient{Certificates: []*x509.Certificate{key.cert}}},
	} {
		t.Run(k.name, func(t *testing.T) {
			reset(k.client)
			h := w.person(t)
			path := h.write(k.file, k.text)
			said := w.machine(h, args("--tenant", "corp.example", "--flow", k.flow, k.flag, path)...)
			if said.code != 0 {
				t.Fatalf("login: %v", said)
			}
			first := h.token(workMail)
			h.expire(workMail)
			second := h.token(workMail)
			who, err := c.public.Check(second, appDefault+"IMAP.AccessAsApp")
			if err != nil || who != "app:"+microsoftID || first == second {
				t.Errorf("%q, %v", who, err)
			}
			if grant := h.grant(workMail); !grant.Client.Secret.IsZero() || !grant.Refresh.IsZero() || grant.KeyFile != path {
				t.Errorf("the grant holds a secret, or not the path: %s", grant.KeyFile)
			}
			if strings.HasPrefix(k.name, "cert") {
				keptAway(t, h, key.pem, said)
			} else if files := h.holding(".config", appSecret); files != nil {
				t.Errorf("the secret is in %v", files)
			}
		})
	}
	for _, k := range []struct {
		refusal, tenant string
		client          fakeidp.MicrosoftClient
		code            int
		texts           []string
	}{
		{"7000215", "corp.example", fakeidp.MicrosoftClient{Secret: "other"}, 78, []string{"AADSTS7000215", "copy its value"}},
		{"7000222", "corp.example", fakeidp.MicrosoftClient{Secret: appSecret, Expired: true}, 78, []string{"AADSTS7000222"}},
		{"700025", "corp.example", fakeidp.MicrosoftClient{}, 78, []string{"AADSTS700025"}},
		{"90002", "nobody.example", fakeidp.MicrosoftClient{Secret: appSecret}, 78, []string{"AADSTS90002"}},
	} {
		t.Run(k.refusal, func(t *testing.T) {
			reset(k.client)
			h := w.person(t)
			path := h.write("secret", appSecret+"\n")
			before := c.public.Fired()[k.refusal]
			r := w.machine(h, args("--tenant", k.tenant, "--flow", "client-credentials", "--client-secret-file", path)...)
			r.says(t, k.code, k.texts...)
			if c.public.Fired()[k.refusal] != before+1 || strings.Contains(r.stderr, appSecret) {
				t.Errorf("refused for another reason, or the secret shown: %v %v", c.public.Fired(), r)
			}
		})
	}
	t.Run("faults of the person", func(t *testing.T) {
		reset(fakeidp.MicrosoftClient{Secret: appSecret})
		h := w.person(t)
		path := h.write("secret", appSecret+"\n")
		w.machine(h, args("--flow", "client-credentials", "--client-secret-file", path)...).says(t, 78, "one directory", "--tenant")
		w.machine(h, args("--flow", "client-credentials", "--tenant", "corp.example", "--send-only", "--client-secret-file", path)...).says(t, 69, "decided in the directory")
		w.machine(h, args("--flow", "client-credentials", "--tenant", "corp.example", "--client-secret-file", path, "--client-key-file", path)...).says(t, 64, "exclude each other")
	})
}

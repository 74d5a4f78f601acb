//go:build lab

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/lab"
)

// The tests of refresh*_test.go need to see and age what lies on disk, and so they
// alone link the rooms that keep it. The program under test is the binary all the same.

// A rotation is an account at a provider that rotates refresh tokens and revokes the
// grant when one comes twice, with a fault injector before it.
type rotation struct {
	t     *testing.T
	home  *home
	op    *lab.OP
	fault *lab.HTTPFault
	who   lab.Person
	state string

	before, after atomic.Pointer[func()] // called around each token request at the provider
}

// rotationOptions: CA makes everything speak https; front, when not nil, stands before
// the injector and returns its own address; state replaces the state folder.
type rotationOptions struct {
	ca    *lab.CA
	state string
	front func(*lab.HTTPFault) string
}

func newRotation(t *testing.T, o rotationOptions) *rotation {
	t.Helper()
	r := &rotation{t: t, who: lab.Alice()}
	r.fault = lab.RunHTTPFault(t, lab.HTTPFaultOptions{
		CA:     o.ca,
		Before: func(req *http.Request) { call(&r.before, req.URL.Path) },
		After:  func(req *http.Request, _ *http.Response) { call(&r.after, req.URL.Path) },
	})
	issuer := r.fault.URL
	if o.front != nil {
		issuer = o.front(r.fault)
	}
	r.op = lab.RunOP(t, lab.OPOptions{Issuer: issuer, IssuerCA: o.ca, RedirectURIs: []string{"http://127.0.0.1"}})
	if err := r.fault.SetTarget("http://" + r.op.Address); err != nil {
		t.Fatal(err)
	}
	r.home = newHome(t)
	r.state = r.home.path(".local/state")
	if o.state != "" {
		r.state = o.state
		r.home.env = append(r.home.env, "XDG_STATE_HOME="+o.state) // the last one counts
	}
	r.state = filepath.Join(r.state, "letterlock")
	var more []string
	if o.ca != nil {
		more = []string{"--ca-file", r.home.write("ca.pem", read(t, o.ca.File))}
	}
	r.login(more...)
	return r
}

func call(f *atomic.Pointer[func()], path string) {
	if hook := f.Load(); hook != nil && strings.HasSuffix(path, "/token") {
		(*hook)()
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// login signs in by pasting into a pipe.
func (r *rotation) login(more ...string) {
	r.t.Helper()
	ctx := within(r.t)
	args := []string{"login", r.who.Email, "--issuer", r.op.Issuer, "--client-id", lab.PublicClient, "--key", "file", "--flow", "paste"}
	cmd := r.home.command(ctx, "letterlock", append(args, more...)...)
	stdin, pipeErr := cmd.StdinPipe()
	stderr, err := cmd.StderrPipe()
	if err = errors.Join(pipeErr, err, cmd.Start()); err != nil {
		r.t.Fatal(err)
	}
	said := bufio.NewReader(stderr)
	begin, address := addressIn(said, r.op.AuthURL())
	if address == "" {
		r.t.Fatalf("letterlock showed no address: %v: %s", cmd.Wait(), begin)
	}
	back, err := r.op.SignIn(ctx, address, r.who)
	if err != nil {
		r.t.Fatal(err)
	}
	_, writing := io.WriteString(stdin, back.String()+"\n")
	rest, reading := io.ReadAll(said)
	if err := errors.Join(writing, stdin.Close(), reading, cmd.Wait()); err != nil {
		r.t.Fatalf("sign in: %v\n%s%s", err, begin, rest)
	}
}

// grants is the folder of grant files.
func (r *rotation) grants() string { return filepath.Join(r.state, "grants") }

// file is the account's grant, sealed.
func (r *rotation) file() string {
	r.t.Helper()
	return read(r.t, filepath.Join(r.grants(), r.who.Email+".age"))
}

// manager looks at the grant, and ages it, as no command does.
func (r *rotation) manager() *account.Manager {
	r.t.Helper()
	store, err := tokenstore.Open(r.grants())
	if err != nil {
		r.t.Fatal(err)
	}
	keys := tokenstore.NewFile(filepath.Join(r.state, "keys"))
	return &account.Manager{Store: account.OnDisk(store), Keys: func(string) (tokenstore.Keys, error) { return keys, nil }}
}

// grant opens the grant file; a torn one ends the test.
func (r *rotation) grant() *account.Grant {
	r.t.Helper()
	grant, err := r.manager().Grant(r.t.Context(), r.who.Email)
	if err != nil {
		r.t.Fatalf("the grant file is torn: %v", err)
	}
	return grant
}

// age moves the cached access token in time and returns the grant.
func (r *rotation) age(issued, expiry time.Duration) *account.Grant {
	r.t.Helper()
	grant := r.grant()
	now := time.Now()
	for name, access := range grant.Access {
		access.Issued, access.Expiry = now.Add(issued), now.Add(expiry)
		grant.Access[name] = access
	}
	if err := r.manager().Save(r.t.Context(), grant); err != nil {
		r.t.Fatal(err)
	}
	return grant
}

// expire makes a refresh due.
func (r *rotation) expire() *account.Grant {
	r.t.Helper()
	return r.age(-time.Hour, -time.Minute)
}

// token runs `letterlock token` to its end.
func (r *rotation) token(args ...string) result {
	r.t.Helper()
	return r.home.letterlock(append([]string{"token", r.who.Email}, args...)...)
}

// refreshes is how many the provider has granted.
func (r *rotation) refreshes() int {
	r.t.Helper()
	n, err := r.op.Refreshes(within(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

const crowdSize = 64

// A member is one process of a crowd.
type member struct {
	result
	answered time.Duration // since the first one was started
}

// crowd runs 64 `letterlock token` at once. With hold they are let go together: the
// test has the account's lock until each of them has said that it wants it.
func (r *rotation) crowd(hold bool) []member {
	r.t.Helper()
	ctx := within(r.t)
	unlock := func() {}
	args := []string{"token", r.who.Email}
	if hold {
		store, err := tokenstore.Open(r.grants())
		if err != nil {
			r.t.Fatal(err)
		}
		if unlock, err = store.Lock(ctx, r.who.Email); err != nil {
			r.t.Fatal(err)
		}
		args = append(args, "--verbose")
	}
	var group, waiting sync.WaitGroup
	members := make([]member, crowdSize)
	failures := make([]error, crowdSize)
	began := time.Now()
	for i := range members {
		cmd := r.home.command(ctx, "letterlock", args...)
		var stdout bytes.Buffer
		cmd.Stdout = &stdout
		stderr := &awaitLine{part: "locking the grant"}
		if hold {
			waiting.Add(1)
			stderr.seen = sync.OnceFunc(waiting.Done)
		}
		cmd.Stderr = stderr
		if err := cmd.Start(); err != nil {
			r.t.Fatal(err)
		}
		group.Go(func() {
			err := cmd.Wait()
			members[i].answered = time.Since(began)
			if cmd.ProcessState.ExitCode() < 0 {
				failures[i] = err
			}
			members[i].result = result{stdout.String(), stderr.text.String(), cmd.ProcessState.ExitCode()}
			if hold {
				stderr.seen() // nobody waits for a line that will never come
			}
		})
	}
	waiting.Wait()
	unlock()
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		r.t.Fatal(err)
	}
	return members
}

// awaitLine collects what a process says and tells when it has said something.
type awaitLine struct {
	part string
	seen func()
	text bytes.Buffer
}

func (a *awaitLine) Write(p []byte) (int, error) {
	a.text.Write(p)
	if a.seen != nil && strings.Contains(a.text.String(), a.part) {
		a.seen()
	}
	return len(p), nil
}

// A crowd on an expired grant makes one refresh and gets 64 times the same token: as
// fast as the machine starts them, and when all of them wait for the lock together.
func TestRefreshCrowd(t *testing.T) {
	r := newRotation(t, rotationOptions{})
	var asked time.Time
	var network, expired, valid []time.Duration
	before, after := func() { asked = time.Now() }, func() { network = append(network, time.Since(asked)) }
	r.before.Store(&before)
	r.after.Store(&after)
	const rounds = 5
	for round := range rounds + 1 {
		r.expire()
		count := r.refreshes()
		took := r.checkCrowd(round == rounds)
		if n := r.refreshes() - count; n != 1 {
			t.Errorf("%d refreshes", n)
		}
		if round < rounds {
			expired = append(expired, took)
			valid = append(valid, r.checkCrowd(false))
		}
	}
	if n := r.fault.Requests("/token"); n != 1+rounds+1 { // a sign-in, and the refreshes
		t.Errorf("%d requests", n)
	}
	t.Logf("last of %d answers, median of %d rounds: %v on an expired grant, %v with a valid token, network %v (goal: network + 3x valid)",
		crowdSize, rounds, middle(expired), middle(valid), middle(network))
}

func middle(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2].Round(100 * time.Microsecond)
}

// checkCrowd wants the same good answer from all, and returns when the last one came.
func (r *rotation) checkCrowd(hold bool) time.Duration {
	r.t.Helper()
	var last time.Duration
	members := r.crowd(hold)
	for i, m := range members {
		last = max(last, m.answered)
		if m.code != 0 || len(m.stdout) < 20 || m.stdout != members[0].stdout {
			r.t.Errorf("process %d: %v", i, m.result)
		}
	}
	return last
}

// On a dead grant, and at a provider that is down, a crowd asks once as well, and
// whoever comes later asks again.
func TestRefreshCrowdSharesFailure(t *testing.T) {
	tests := []struct {
		name string
		code int
		says string
		set  func(context.Context, *rotation) error
	}{
		{"provider down", 75, "500", func(_ context.Context, r *rotation) error {
			r.fault.Set(lab.Fault{Path: "/token", Status: http.StatusInternalServerError, Body: "oops"})
			return nil
		}},
		{"dead grant", 77, "invalid_grant", func(ctx context.Context, r *rotation) error {
			r.fault.Clear()
			_, err := r.op.Revoke(ctx, r.who.Email)
			return err
		}},
	}
	r := newRotation(t, rotationOptions{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			if err := test.set(within(t), r); err != nil {
				t.Fatal(err)
			}
			r.expire()
			file, count := r.file(), r.fault.Requests("/token")
			for i, m := range r.crowd(true) {
				if m.code != test.code || m.stdout != "" || !strings.Contains(m.stderr, test.says) || !strings.Contains(m.stderr, "letterlock: hint: ") {
					t.Errorf("process %d: %v", i, m.result)
				}
			}
			if n := r.fault.Requests("/token") - count; n != 1 {
				t.Errorf("%d requests", n)
			}
			if later := r.token(); later.code != test.code || r.fault.Requests("/token")-count != 2 {
				t.Errorf("a later one: %v", later)
			}
			if r.file() != file {
				t.Error("the grant file was changed")
			}
		})
	}
}

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	gosasl "github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"
)

// A postOffice is a submission server that takes the issuer's tokens and keeps what
// it is sent, or goes wrong in a way that a script chooses.
type postOffice struct {
	listener net.Listener
	server   *smtp.Server
	issuer   *issuer

	mu      sync.Mutex
	change  *sync.Cond
	fault   string // "", "full" (452 at RCPT), "never" (550 at RCPT), "later" (451 after the dot), "hang" and "lose" (at DATA, until another fault; then the letter is kept or not)
	letters []letter
	hanging int
	conns   []*smtp.Conn
}

type letter struct {
	from string
	to   []string
	text string
}

func newPostOffice(i *issuer) (*postOffice, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &postOffice{listener: listener, issuer: i}
	o.change = sync.NewCond(&o.mu)
	o.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.conns = append(o.conns, c)
		return &deposit{office: o}, nil
	}))
	o.server.Domain, o.server.AllowInsecureAuth, o.server.EnableSMTPUTF8 = "mail.test", true, true
	go func() { _ = o.server.Serve(listener) }()
	return o, nil
}

// A deposit is one connection.
type deposit struct {
	office   *postOffice
	signedIn bool
	letter   letter
}

func (d *deposit) AuthMechanisms() []string { return []string{gosasl.OAuthBearer} }

func (d *deposit) Auth(string) (gosasl.Server, error) {
	return says535{gosasl.NewOAuthBearerServer(func(o gosasl.OAuthBearerOptions) *gosasl.OAuthBearerError {
		if !d.office.issuer.good(o.Token) {
			return &gosasl.OAuthBearerError{Status: "invalid_token", Schemes: "bearer"}
		}
		d.signedIn = true
		return nil
	})}, nil
}

// says535 makes a refusal final; go-smtp takes any other error for a passing fault.
type says535 struct{ gosasl.Server }

func (s says535) Next(response []byte) ([]byte, bool, error) {
	challenge, done, err := s.Server.Next(response)
	if err != nil {
		err = smtp.ErrAuthFailed
	}
	return challenge, done, err
}

func (d *deposit) Reset() { d.letter = letter{} }

func (d *deposit) Logout() error { return nil }

func (d *deposit) Mail(from string, _ *smtp.MailOptions) error {
	if !d.signedIn {
		return smtp.ErrAuthRequired
	}
	d.letter = letter{from: from}
	return nil
}

func (d *deposit) Rcpt(to string, _ *smtp.RcptOptions) error {
	d.office.mu.Lock()
	defer d.office.mu.Unlock()
	switch {
	case d.office.fault == "full":
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "the mailbox is full"}
	case d.office.fault == "never", strings.HasPrefix(to, "nobody@"):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user here"}
	}
	d.letter.to = append(d.letter.to, to)
	return nil
}

func (d *deposit) Data(r io.Reader) error {
	d.office.mu.Lock()
	fault := d.office.fault
	for d.office.hanging++; d.office.fault == "hang" || d.office.fault == "lose"; {
		d.office.change.Broadcast()
		d.office.change.Wait()
	}
	d.office.hanging--
	d.office.mu.Unlock()
	if fault == "lose" {
		return errors.New("the letter is lost")
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	d.office.mu.Lock()
	defer d.office.mu.Unlock()
	if fault == "later" {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "come back later"}
	}
	d.letter.text = string(text)
	d.office.letters = append(d.office.letters, d.letter)
	d.office.change.Broadcast()
	return nil
}

// wait blocks until done says so under the office's lock, or it takes too long.
func (o *postOffice) wait(done func() bool) bool {
	over := false
	timer := time.AfterFunc(longest, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		over = true
		o.change.Broadcast()
	})
	defer timer.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for !done() && !over {
		o.change.Wait()
	}
	return done()
}

// office well | full | never | later | hang | lose | hung | hangup: how the server behaves
// from here on; hung waits until a client hangs at it, hangup ends all connections.
func officeCommand(ts *testscript.TestScript, _ bool, args []string) {
	o := worldOf(ts).office
	if args[0] == "hung" {
		if !o.wait(func() bool { return o.hanging > 0 }) {
			ts.Fatalf("nobody hangs")
		}
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if args[0] == "hangup" {
		for _, c := range o.conns {
			c.Close()
		}
		return
	}
	o.fault = strings.TrimPrefix(args[0], "well")
	o.change.Broadcast()
}

// arrived N: waits until N letters have arrived in all, and wants no more.
func arrivedCommand(ts *testscript.TestScript, _ bool, args []string) {
	o := worldOf(ts).office
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	count := 0
	if !o.wait(func() bool { count = len(o.letters); return count >= n }) || count != n {
		ts.Fatalf("%d letters arrived, want %d", count, n)
	}
}

// letter N FILE: writes envelope and text of the letter with that number (from 1; -1
// is the last).
func letterCommand(ts *testscript.TestScript, _ bool, args []string) {
	o := worldOf(ts).office
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	o.mu.Lock()
	defer o.mu.Unlock()
	if n < 0 {
		n = len(o.letters) + 1 + n
	}
	if n < 1 || n > len(o.letters) {
		ts.Fatalf("there are %d letters", len(o.letters))
	}
	l := o.letters[n-1]
	text := fmt.Sprintf("MAIL <%s>\nRCPT <%s>\n%s", l.from, strings.Join(l.to, "> <"), strings.ReplaceAll(l.text, "\r\n", "\n"))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// sendready: an account "cron" with a send-only right, signed in.
func sendReadyCommand(ts *testscript.TestScript, _ bool, _ []string) {
	pasteCommand(ts, false, []string{"login", "you@example.org", "--account", "cron", "--issuer", ts.Getenv("ISSUER"), "--client-id", "abc", "--flow", "paste",
		"--key", "file", "--send-only", "--smtp", ts.Getenv("SMTP"), "--smtp-security", "plain"})
	file, err := os.OpenFile(ts.Getenv("CONFIG"), os.O_APPEND|os.O_WRONLY, 0)
	ts.Check(err)
	_, err = fmt.Fprintf(file, "\n[queue]\naliases = %q\nroot = [\"ops@example.org\"]\n", ts.MkAbs("aliases"))
	ts.Check(errors.Join(err, file.Close()))
}

// until TEXT PROGRAM ARGS...: runs it until its output has TEXT: for what another
// process writes. A letter has arrived before its sender knows: who looks into the queue
// after it waits for that too.
func untilCommand(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(longest)
	for {
		cmd := exec.Command(lookIn(ts, args[1]), args[2:]...)
		cmd.Dir, cmd.Env = ts.Getenv("WORK"), environ(ts)
		out, _ := cmd.CombinedOutput()
		if strings.Contains(string(out), args[0]) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v: no %q in\n%s", args[1:], args[0], out)
		}
		<-time.After(20 * time.Millisecond)
	}
}

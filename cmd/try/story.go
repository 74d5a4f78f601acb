package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

const address = "you@try.test"

// Options shape a run of the story.
type Options struct {
	Once        bool   // click by itself
	Letterlock  string // paths of the programs
	Letterlockd string
	Servers     string // auto, builtin or dovecot
	Port        int    // wanted for the first page
	Out         io.Writer
	Terminal    bool // lines may be written over
	// Open shows a page to the person; an error means they have to do it by hand.
	Open func(ctx context.Context, url string) error
	// Temp is where the temporary folder goes; empty: the system's place.
	Temp string
}

// A story is one run: what it started and where it keeps things.
type story struct {
	Options
	lines   lines
	dir     string
	ca      *lab.CA
	front   *front
	daemon  *daemon
	servers mailServers
	program *program
	surfer  *surfer // signed in to the portal
	hashes  int     // of app passwords that were found on disk
}

// Run tells the story. Whatever it started is stopped, and its folder is gone, when
// it returns.
func Run(ctx context.Context, options Options) (err error) {
	s := &story{Options: options, lines: lines{out: options.Out, terminal: options.Terminal}}
	for name, path := range map[string]*string{"letterlock": &s.Letterlock, "letterlockd": &s.Letterlockd} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
		if _, err := os.Stat(*path); err != nil {
			return fmt.Errorf("the program %s is not there (make builds it): %w", name, err)
		}
	}
	if s.dir, err = os.MkdirTemp(options.Temp, "letterlock-try-"); err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() {
		if gone := os.RemoveAll(s.dir); err == nil && gone != nil {
			err = fmt.Errorf("remove temporary folder: %w", gone)
		}
	}()
	defer s.stop()
	if err := s.start(ctx); err != nil {
		return err
	}
	return s.tell(ctx)
}

// start brings up letterlockd and the mail servers beside it.
func (s *story) start(ctx context.Context) (err error) {
	// Dovecot's processes read below it, as users of their own.
	if err := os.Chmod(s.dir, 0o711); err != nil {
		return err
	}
	folder := filepath.Join(s.dir, "ca")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	if s.ca, err = lab.NewCA(folder); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	if s.program, err = newProgram(s.Letterlock, filepath.Join(s.dir, "home")); err != nil {
		return err
	}
	if s.front, err = startFront(s.Port); err != nil {
		return err
	}
	if s.daemon, err = newDaemon(s.Letterlockd, filepath.Join(s.dir, "letterlockd")); err != nil {
		return err
	}
	s.daemon.gateBehind(s.Port)
	s.servers, err = startServers(ctx, s.Servers, s.ca, s.daemon)
	return err
}

// stop ends what has been started so far.
func (s *story) stop() {
	if s.servers != nil {
		s.servers.stop()
	}
	if s.daemon != nil {
		s.daemon.stop()
	}
	if s.front != nil {
		s.front.stop()
	}
}

// tell prints the lines, each when it is proven.
func (s *story) tell(ctx context.Context) error {
	for _, line := range []func(context.Context) error{s.signIn, s.token, s.mail, s.cronMail, s.appPassword, s.webMail, s.revoke, s.noPasswords} {
		if err := line(ctx); err != nil {
			return err
		}
	}
	s.lines.say("Your own mail:  letterlock register google && letterlock login you@gmail.com")
	return nil
}

// signIn is line 1: the person signs in, or the clicker does.
func (s *story) signIn(ctx context.Context) error {
	s.lines.begin("1 Sign in", s.front.url+"  ", !s.Once)
	login := s.program.login(ctx, append([]string{
		"login", address, "--issuer", s.daemon.url, "--flow", "browser", "--no-browser",
		"--key", "file", "--ca-file", s.ca.File,
	}, s.servers.flags()...))
	defer login.stop()
	// The front page leads on to the address that letterlock prints: what people see
	// is a short address, and what they follow is the real one.
	url, err := login.url(ctx, s.daemon.url)
	if err != nil {
		return fmt.Errorf("letterlock login: %w", err)
	}
	s.front.lead(url)
	var clicked <-chan error
	if s.Once {
		clicked = s.clickAway(ctx)
	} else {
		_ = s.Open(ctx, s.front.url) // the address is on the screen
	}
	if err := login.wait(ctx, clicked); err != nil {
		return fmt.Errorf("letterlock login: %w", err)
	}
	// That login says so proves little: what it kept must be good for a token of this
	// person.
	if _, _, err := s.goodToken(ctx, "token", address); err != nil {
		return err
	}
	return s.lines.end("signed in as " + address)
}

// goodToken runs a command that prints a token; the provider must know it as this
// person's.
func (s *story) goodToken(ctx context.Context, command ...string) (token string, left time.Duration, err error) {
	out, err := s.program.run(ctx, command...)
	if err == nil {
		token, err = oneToken(out)
	}
	if err != nil {
		return "", 0, fmt.Errorf("letterlock token: %w", err)
	}
	left, err = s.daemon.introspect(ctx, token)
	return token, left, err
}

func (s *story) clickAway(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() { done <- click(ctx, s.front.url) }()
	return done
}

// token is line 2: the command that `setup` gives to mutt prints a token, and no file
// holds it.
func (s *story) token(ctx context.Context) error {
	s.lines.begin("2 Token", "mutt's command prints ", false)
	config, err := s.program.run(ctx, "setup", "mutt", address)
	if err != nil {
		return fmt.Errorf("letterlock setup mutt: %w", err)
	}
	command, err := muttCommand(config)
	if err != nil {
		return fmt.Errorf("letterlock setup mutt: %w", err)
	}
	token, left, err := s.goodToken(ctx, command...)
	if err != nil {
		return err
	}
	if err := onlyEncrypted(s.program.home, token); err != nil {
		return err
	}
	return s.lines.end(fmt.Sprintf("%s…  valid %d min, on disk only encrypted", token[:len("llat_")], int(left/time.Minute)))
}

// mail is line 3: letterlock logs in to the servers by both mechanisms.
func (s *story) mail(ctx context.Context) error {
	s.lines.begin("3 IMAP, SMTP", "", false)
	out, err := s.program.run(ctx, "test", address, "--json")
	if err != nil {
		return fmt.Errorf("letterlock test: %w", err)
	}
	result, err := proven(out)
	if err != nil {
		return fmt.Errorf("letterlock test: %w", err)
	}
	return s.lines.end(fmt.Sprintf("%s (%s)", result, s.servers.name()))
}

// noPasswords proves the last line: nothing that was stored opens anything by itself.
func (s *story) noPasswords(context.Context) error {
	s.lines.say(fmt.Sprintf("Passwords stored: none. App passwords: %d, as Argon2id.", s.hashes))
	return nil
}

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

const address = "you@try.test"

// Options shape a run of the story.
type Options struct {
	Once       bool   // click by itself
	Letterlock string // path of the program
	Servers    string // auto, builtin or dovecot
	Port       int    // wanted for the sign-in page
	Out        io.Writer
	Terminal   bool // lines may be written over
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
	site    *site
	servers mailServers
	program *program
}

// Run tells the story. Whatever it started is stopped, and its folder is gone, when
// it returns.
func Run(ctx context.Context, options Options) (err error) {
	s := &story{Options: options, lines: lines{out: options.Out, terminal: options.Terminal}}
	if options.Letterlock, err = filepath.Abs(options.Letterlock); err != nil {
		return err
	}
	if _, err := os.Stat(options.Letterlock); err != nil {
		return fmt.Errorf("the letterlock program is not there (make builds it): %w", err)
	}
	if s.dir, err = os.MkdirTemp(options.Temp, "letterlock-try-"); err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() {
		if gone := os.RemoveAll(s.dir); err == nil && gone != nil {
			err = fmt.Errorf("remove temporary folder: %w", gone)
		}
	}()
	if err := s.start(ctx, options.Letterlock); err != nil {
		return err
	}
	defer s.stop()
	return s.tell(ctx)
}

// start brings up provider and mail servers.
func (s *story) start(ctx context.Context, letterlock string) (err error) {
	folder := filepath.Join(s.dir, "ca")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	if s.ca, err = lab.NewCA(folder); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	if s.site, err = startSite(s.Port, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if s.servers, err = startServers(ctx, s.Servers, s.ca, s.site); err != nil {
		s.site.stop()
		return err
	}
	if s.program, err = newProgram(letterlock, filepath.Join(s.dir, "home")); err != nil {
		s.stop()
		return err
	}
	return nil
}

func (s *story) stop() {
	s.servers.stop()
	s.site.stop()
}

// tell prints the lines, each when it is proven.
func (s *story) tell(ctx context.Context) error {
	if err := s.signIn(ctx); err != nil {
		return err
	}
	if err := s.token(ctx); err != nil {
		return err
	}
	if err := s.mail(ctx); err != nil {
		return err
	}
	if err := s.cronMail(ctx); err != nil {
		return err
	}
	if err := s.noPasswords(ctx); err != nil {
		return err
	}
	s.lines.say("Your own mail:  letterlock register google && letterlock login you@gmail.com")
	return nil
}

// signIn is line 1: the person signs in, or the clicker does.
func (s *story) signIn(ctx context.Context) error {
	s.lines.begin("1 Sign in", s.site.url+"  ", !s.Once)
	login := s.program.login(ctx, append([]string{
		"login", address, "--issuer", s.site.url, "--client-id", clientID, "--flow", "browser", "--no-browser",
		"--key", "file", "--ca-file", s.ca.File,
	}, s.servers.flags()...))
	defer login.stop()
	// The front page leads on to the address that letterlock prints: what people see
	// is a short address, and what they follow is the real one.
	url, err := login.url(ctx, s.site.url)
	if err != nil {
		return fmt.Errorf("letterlock login: %w", err)
	}
	s.site.lead(url)
	var clicked <-chan error
	if s.Once {
		clicked = s.clickAway(ctx)
	} else {
		_ = s.Open(ctx, s.site.url) // the address is on the screen
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
	left, err = s.site.introspect(ctx, token)
	return token, left, err
}

func (s *story) clickAway(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() { done <- click(ctx, s.site.url) }()
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

// noPasswords proves the last line: the servers take none, not even the token as one.
func (s *story) noPasswords(ctx context.Context) error {
	if err := refusesPasswords(ctx, s.servers, s.ca); err != nil {
		return err
	}
	s.lines.say("Passwords stored: none.")
	return nil
}

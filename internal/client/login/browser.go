package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// ErrNobody is in the error of a flow whose time ran out before the person had
// signed in.
var ErrNobody = errors.New("nobody signed in in time")

// tellLimit bounds the remarks on refused answers: a hostile page can make many.
const tellLimit = 3

// Browser signs in through a browser that comes back to a loopback listener
// (RFC 8252): 127.0.0.1 and ::1 on one port. Where the client's redirect URI cannot
// be listened on, it explains that and goes on as [Paste].
func Browser(ctx context.Context, req Request, person Person) (oauth.Token, error) {
	return browser(ctx, req, person, listenBoth)
}

func browser(ctx context.Context, req Request, person Person, listen func(context.Context, int) ([]net.Listener, error)) (oauth.Token, error) {
	to, err := parseTarget(req.Redirect)
	if err != nil {
		return oauth.Token{}, err
	}
	if why := to.unlistenable(); why != "" {
		person.Tell(why + "; copy the address of that page back here")
		return paste(ctx, req, person, to, true)
	}
	listeners, err := listen(ctx, to.port)
	switch {
	case to.port != 0 && errors.Is(err, fs.ErrPermission):
		person.Tell(fmt.Sprintf("port %d of this client's redirect URI needs administrator rights; copy the address of the page you end on back here", to.port))
		return paste(ctx, req, person, to, true)
	case err != nil:
		return oauth.Token{}, listenFault(to, err)
	}
	return browse(ctx, req, person, to, listeners)
}

func listenFault(to target, err error) error {
	if to.port == 0 {
		return &cli.Fault{Code: cli.TempFail, What: "no port on this computer's loopback address could be opened",
			Hint: "sign in with --flow paste or --flow device", Err: err}
	}
	return &cli.Fault{Code: cli.TempFail, What: fmt.Sprintf("port %d, where this client's sign-in ends, is in use by another program", to.port),
		Hint: "stop that program for a moment, or sign in with --flow paste", Err: err}
}

// browse owns the listeners.
func browse(ctx context.Context, req Request, person Person, to target, listeners []net.Listener) (oauth.Token, error) {
	port := portOf(listeners[0])
	try := newAttempt(req, to.at(port))
	hits := newCallback(req.app(), to.host(port), to.path(), try.check)
	door := openDoor(listeners, hits, cmp.Or(req.patience, hitPatience))
	answer, err := await(ctx, try, person, hits)
	// The door closes before anything else happens: nobody comes in while the code
	// is exchanged.
	if closeErr := door.close(); err == nil && closeErr != nil {
		person.Tell(closeErr.Error())
	}
	if err != nil {
		return oauth.Token{}, err
	}
	return try.finish(ctx, answer)
}

// await shows the way and waits for the one good answer.
func await(ctx context.Context, try attempt, person Person, hits *callback) (oauth.Callback, error) {
	address, err := try.url()
	if err != nil {
		return oauth.Callback{}, err
	}
	person.ShowURL(address)
	if err := person.OpenBrowser(address); err != nil {
		person.Tell("the browser did not start (" + cli.Line(err.Error()) + "): open the address by hand")
	}
	timer := time.NewTimer(try.req.timeout())
	defer timer.Stop()
	told := 0
	for {
		select {
		case answer := <-hits.answers:
			return answer, nil
		case err := <-hits.refusals:
			if told++; told <= tellLimit {
				person.Tell("an answer that came to this computer was refused: " + cli.Line(err.Error()) + "; still waiting")
			}
		case <-timer.C:
			return oauth.Callback{}, lateFault(try.req.timeout())
		case <-ctx.Done():
			return oauth.Callback{}, fmt.Errorf("wait for the browser: %w", ctx.Err())
		}
	}
}

func lateFault(after time.Duration) error {
	return &cli.Fault{Code: cli.NoPerm, What: fmt.Sprintf("no answer of the provider came back within %s", after),
		Hint: "start the sign-in again; if the browser runs on another computer, use --flow paste or --flow device", Err: ErrNobody}
}

package login

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

const (
	maxQuery   = 16 << 10 // the longest code seen is under 2 KiB
	maxHeaders = 100
)

var errDone = errors.New("an answer has arrived already")

// A callback answers hits on the door. One hit that brings this attempt's state and
// the right issuer ends the flow; no other hit changes anything. No answer repeats
// a byte of the request, redirects, or sets a cookie.
type callback struct {
	app        string
	host, path string // as the redirect URI has them
	check      func(query string) (oauth.Callback, error)

	mu   sync.Mutex
	done bool
	// answers takes the one accepted response. refusals takes why a response was
	// not accepted, for the person to see, as long as somebody reads it.
	answers  chan oauth.Callback
	refusals chan error
}

func newCallback(app, host, path string, check func(string) (oauth.Callback, error)) *callback {
	return &callback{
		app: app, host: host, path: path, check: check,
		answers:  make(chan oauth.Callback, 1),
		refusals: make(chan error, 1),
	}
}

// ServeHTTP implements http.Handler.
func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if status := c.screen(r); status != http.StatusOK {
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodGet)
		}
		c.write(w, r, status, strayMessage)
		return
	}
	answer, err := c.accept(r.URL.RawQuery)
	switch {
	case errors.Is(err, oauth.ErrNoResponse):
		c.write(w, r, http.StatusNotFound, strayMessage)
	case errors.Is(err, errDone):
		c.write(w, r, http.StatusGone, lateMessage)
	case err != nil:
		c.write(w, r, http.StatusForbidden, refusedMessage)
		select {
		case c.refusals <- err:
		default: // the person has one such remark in front of them already
		}
	case answer.Err != nil:
		c.write(w, r, http.StatusOK, deniedMessage)
		c.answers <- answer
	default:
		// The answer is on its way to the browser before the flow goes on, and so
		// before the door closes.
		c.write(w, r, http.StatusOK, arrivedMessage)
		c.answers <- answer
	}
}

// screen is what needs no look at the answer.
func (c *callback) screen(r *http.Request) int {
	switch {
	case r.Method != http.MethodGet:
		return http.StatusMethodNotAllowed
	case len(r.Header) > maxHeaders:
		return http.StatusRequestHeaderFieldsTooLarge
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return http.StatusBadRequest // no browser sends a body with GET
	case r.URL.IsAbs() || r.URL.Host != "":
		return http.StatusBadRequest // a proxy's form: we are none
	case strings.ToLower(r.Host) != c.host:
		// DNS rebinding: a page of another name that now resolves to this computer.
		return http.StatusMisdirectedRequest
	case r.URL.EscapedPath() != c.path:
		return http.StatusNotFound
	case len(r.URL.RawQuery) > maxQuery:
		return http.StatusRequestURITooLong
	}
	return http.StatusOK
}

// accept takes the first good answer and no second one.
func (c *callback) accept(query string) (oauth.Callback, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return oauth.Callback{}, errDone
	}
	answer, err := c.check(query)
	if err != nil {
		return oauth.Callback{}, err
	}
	c.done = true
	return answer, nil
}

func (c *callback) write(w http.ResponseWriter, r *http.Request, status int, say message) {
	body := page(c.app, say)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush()
}

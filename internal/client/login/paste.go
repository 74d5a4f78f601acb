package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

const (
	pasteTries = 5
	maxPaste   = maxQuery
	maxCode    = 4 << 10
	minCode    = 4
)

// Paste signs in by pasting the whole redirect URL, or the bare code, back.
//
// A whole URL is held to state and issuer like any redirect. A bare code carries
// neither, and is accepted since some providers show nothing else: PKCE binds it to
// this attempt, so that a code slipped to the person from somebody else's sign-in
// fails at the token endpoint (RFC 9700 section 2.1.1). What that does not stop is
// a hostile provider posing for another one (mix-up, RFC 9207); the issuer pinned by
// the caller, and client ids that are the person's own, stand against it.
func Paste(ctx context.Context, req Request, person Person) (oauth.Token, error) {
	to, err := parseTarget(req.Redirect)
	if err != nil {
		return oauth.Token{}, err
	}
	return paste(ctx, req, person, to, false)
}

func paste(ctx context.Context, req Request, person Person, to target, open bool) (oauth.Token, error) {
	try := newAttempt(req, to.unheard())
	address, err := try.url()
	if err != nil {
		return oauth.Token{}, err
	}
	person.ShowURL(address)
	if open {
		if err := person.OpenBrowser(address); err != nil {
			person.Tell("the browser did not start (" + cli.Line(err.Error()) + "): open the address by hand")
		}
	}
	person.Tell("after the sign-in the browser ends at an address beginning with " + cli.Line(try.redirectURI) +
		"; the page may fail to load, which does no harm")
	answer, err := askAnswer(ctx, try, person)
	if err != nil {
		return oauth.Token{}, err
	}
	return try.finish(ctx, answer)
}

// askAnswer asks until something usable was pasted, or patience or pipe have ended.
func askAnswer(ctx context.Context, try attempt, person Person) (oauth.Callback, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, try.req.timeout(), ErrNobody)
	defer cancel()
	var last *refusal
	begun := "" // an address that lacked its end: the paste was wrapped
	for range pasteTries {
		line, err := person.Ask(waiting, "paste that whole address here (or only the code, if the page shows one): ")
		if err != nil && strings.TrimSpace(line) == "" {
			return oauth.Callback{}, askFault(waiting, try, err, last)
		}
		var answer oauth.Callback
		if answer, last = try.read(begun, line); last == nil {
			return answer, nil
		}
		begun = last.begun
		person.Tell(last.Error())
	}
	return oauth.Callback{}, pasteFault(last)
}

func askFault(ctx context.Context, try attempt, err error, last *refusal) error {
	switch {
	case errors.Is(context.Cause(ctx), ErrNobody):
		return lateFault(try.req.timeout())
	case errors.Is(err, io.EOF) && last != nil:
		return pasteFault(last)
	case errors.Is(err, io.EOF):
		return &cli.Fault{Code: cli.NoPerm, What: "the input ended before an address or a code was pasted",
			Hint: "run the sign-in in a terminal, or write the address to its standard input", Err: ErrNobody}
	}
	return fmt.Errorf("read the pasted answer: %w", err)
}

func pasteFault(last *refusal) error {
	return &cli.Fault{Code: cli.DataError, What: "the sign-in was not completed: " + last.Error(),
		Hint: "start it again and paste the whole address of the last page", Err: last}
}

// A refusal is why a pasted text is not the answer.
type refusal struct {
	why   string
	begun string // the text so far, when more may come; no longer than maxPaste
}

// Error implements error.
func (r *refusal) Error() string { return r.why }

func refuse(format string, args ...any) *refusal { return &refusal{why: fmt.Sprintf(format, args...)} }

// read takes what was pasted, after the beginning that an earlier line brought.
func (a attempt) read(begun, line string) (oauth.Callback, *refusal) {
	text := clean(line)
	if begun == "" || strings.Contains(text, "://") || holds(begun, text) {
		return a.readOne(text)
	}
	// The rest of a wrapped address, and not a code: it would be spent in vain.
	return a.readOne(begun + text)
}

// holds reports whether text is the code out of the address pasted before.
func holds(begun, text string) bool {
	decoded, err := url.QueryUnescape(begun)
	return strings.Contains(begun, text) || err == nil && strings.Contains(decoded, text)
}

func (a attempt) readOne(text string) (oauth.Callback, *refusal) {
	if why := unusable(text); why != nil {
		return oauth.Callback{}, why
	}
	query, found, why := a.queryOf(text)
	switch {
	case why != nil:
		return oauth.Callback{}, why
	case !found:
		return bareCode(text)
	}
	values, err := url.ParseQuery(query)
	switch {
	case err != nil:
		// A wrap inside a percent sign's digits looks like this too.
		return oauth.Callback{}, &refusal{why: "that address is damaged; copy it once more", begun: text}
	case !values.Has("code") && !values.Has("error"):
		return oauth.Callback{}, refuse("that address holds no code; finish the sign-in and copy the address of the last page")
	case !values.Has("state"):
		return oauth.Callback{}, &refusal{why: "that is a part of the address only; paste all of it, in one line", begun: text}
	}
	answer, err := a.check(query)
	if err == nil {
		return answer, nil
	}
	no := refuse("that answer was refused: %s", cli.Line(err.Error()))
	if state := values.Get("state"); strings.HasPrefix(a.state, state) {
		no.begun = text // the wrap was inside the state, or in iss behind it
	}
	return oauth.Callback{}, no
}

// clean undoes what terminals, mail programs and quoting do to an address: line
// wraps, bracketed-paste marks, quotes, angle brackets.
func clean(text string) string {
	if len(text) > maxPaste {
		return text // refused by its length
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\x1b[200~", ""), "\x1b[201~", "")
	var joined strings.Builder
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		joined.WriteString(strings.TrimSpace(line))
	}
	text = strings.Trim(joined.String(), " \t\"'`\ufeff\u200b“”‘’«»")
	if strings.HasPrefix(text, "<") && strings.HasSuffix(text, ">") && strings.Contains(text, "://") && !strings.Contains(text, "><") {
		text = strings.TrimSpace(text[1 : len(text)-1])
	}
	return text
}

func unusable(text string) *refusal {
	start := strings.ToLower(text[:min(len(text), 2048)])
	switch {
	case text == "":
		return refuse("nothing was pasted")
	case strings.HasPrefix(start, "<"), strings.Contains(start, "<html"), strings.Contains(start, "<!doctype"), strings.Contains(start, "<body"):
		return refuse("that is a page, not its address; copy what stands in the browser's address bar")
	case len(text) > maxPaste:
		return refuse("that is too long for an address; copy what stands in the browser's address bar")
	}
	return nil
}

// queryOf finds the query of a pasted address. A text that is none is a bare code.
func (a attempt) queryOf(text string) (query string, found bool, why *refusal) {
	address := text
	scheme, _, _ := strings.Cut(a.redirectURI, ":")
	switch {
	case strings.Contains(text, "://"), strings.HasPrefix(text, scheme+":"):
		// Spaces are what a wrap with indentation leaves behind: no address has any.
		address = strings.Join(strings.Fields(text), "")
	case strings.HasPrefix(text, "?"):
		return text[1:], true, nil
	case !hasParameter(text):
		return "", false, nil
	case !strings.Contains(text, "?"):
		return text, true, nil
	default: // some browsers leave out the scheme
		address = scheme + "://" + text
	}
	pasted, err := url.Parse(address)
	if err != nil {
		return "", false, refuse("that address is damaged; copy it once more")
	}
	if !sameTarget(pasted, a.redirectURI) {
		return "", false, a.elsewhere(pasted)
	}
	return pasted.RawQuery, true, nil
}

func hasParameter(text string) bool {
	for _, name := range []string{"code=", "state=", "error="} {
		if strings.HasPrefix(text, name) || strings.Contains(text, "?"+name) || strings.Contains(text, "&"+name) {
			return true
		}
	}
	return false
}

// sameTarget compares an address with the redirect URI but for the query; browsers
// write an empty path as "/".
func sameTarget(pasted *url.URL, redirectURI string) bool {
	want, err := url.Parse(redirectURI)
	if err != nil || pasted.User != nil {
		return false
	}
	return strings.EqualFold(pasted.Scheme, want.Scheme) && strings.EqualFold(pasted.Host, want.Host) &&
		pasted.Opaque == want.Opaque &&
		strings.TrimSuffix(pasted.EscapedPath(), "/") == strings.TrimSuffix(want.EscapedPath(), "/")
}

func (a attempt) elsewhere(pasted *url.URL) *refusal {
	page, err := url.Parse(a.req.Conn.Endpoints.Authorization)
	if err == nil && page.Host != "" && strings.EqualFold(page.Host, pasted.Host) {
		return refuse("that is an address of the sign-in itself; finish it, and copy the address of the page after it")
	}
	return refuse("that is not where the sign-in ends: the address has to begin with %s", cli.Line(a.redirectURI))
}

// bareCode takes a code as a page shows it. Copied out of an address it may still be
// percent-encoded.
func bareCode(text string) (oauth.Callback, *refusal) {
	if decoded, err := url.PathUnescape(text); err == nil {
		text = decoded
	}
	if len(text) < minCode || len(text) > maxCode {
		return oauth.Callback{}, refuse("that is neither an address nor a code")
	}
	for _, r := range text {
		// RFC 6749 appendix A.11 has the space too; no provider uses it, and prose does.
		if r <= ' ' || r > '~' {
			return oauth.Callback{}, refuse("that is neither an address nor a code")
		}
	}
	return oauth.Callback{Code: secret.New(text)}, nil
}

package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// An answer is what an endpoint said, read to its end.
type answer struct {
	endpoint string
	status   int
	header   http.Header
	body     []byte
	scrub    scrubber
}

// postForm sends a form with the client's authentication.
func (c *Conn) postForm(ctx context.Context, endpoint, place string, form url.Values) (answer, error) {
	if place == "" {
		return answer{}, fmt.Errorf("%s endpoint: %w", endpoint, ErrNoEndpoint)
	}
	if _, err := parseURL(place); err != nil {
		return answer{}, fmt.Errorf("%s endpoint: %w", endpoint, err)
	}
	header, err := c.authenticate(form)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, place, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, fmt.Errorf("%s endpoint: not a URL", endpoint)
	}
	if header != "" {
		req.Header.Set("Authorization", header)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return send(c.HTTP, req, endpoint, scrubForm(form, c.Client))
}

// send does one request and reads the whole answer.
func send(hc *http.Client, req *http.Request, endpoint string, scrub scrubber) (answer, error) {
	if hc == nil {
		hc = NewHTTPClient(HTTPOptions{}) // never http.DefaultClient, which follows redirects
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "Letterlock")
	res, err := hc.Do(req)
	if err != nil {
		var wrapped *url.Error // repeats the whole URL
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return answer{}, &Error{Endpoint: endpoint, Err: inTime(scrub.err(err))}
	}
	defer func() { _ = res.Body.Close() }()
	a := answer{endpoint: endpoint, status: res.StatusCode, header: res.Header, scrub: scrub}
	a.body, err = io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err == nil && len(a.body) > maxBody {
		err = errTooLarge
	}
	if err != nil {
		return answer{}, &Error{Endpoint: endpoint, Status: a.status, RetryAfter: retryAfter(a.header), Err: inTime(scrub.err(err))}
	}
	return a, nil
}

// inTime gives one text to what net/http says in four ways when the time is over. A
// *net.OpError keeps its own, which tells the address that does not answer.
func inTime(err error) error {
	var timeout net.Error
	var op *net.OpError
	if errors.As(err, &timeout) && timeout.Timeout() && !errors.As(err, &op) {
		return &cleanError{text: "the server gave no complete answer in time", cause: err}
	}
	return err
}

// ok reports whether the answer is a 2xx.
func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// malformed is the error for an answer that is not what the endpoint must say.
func (a answer) malformed(err error) *Error {
	return &Error{Endpoint: a.endpoint, Status: a.status, RetryAfter: retryAfter(a.header), Err: a.scrub.err(err)}
}

// object reads the body as a JSON object.
func (a answer) object() (object, error) {
	o, err := parseObject(a.body)
	if err == nil {
		return o, nil
	}
	if len(bytes.TrimSpace(a.body)) == 0 {
		return nil, a.malformed(errors.New("empty answer"))
	}
	kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	if errors.Is(err, errNotJSON) && kind != "" && !strings.Contains(kind, "json") {
		return nil, a.malformed(fmt.Errorf("the answer is %s, not JSON", kind))
	}
	return nil, a.malformed(err)
}

// fault turns an answer into the error it reports. It always returns an error: call it
// when the answer is not a success.
func (a answer) fault() *Error {
	o, err := a.object()
	if err != nil {
		var fault *Error
		errors.As(err, &fault)
		return fault
	}
	fault := o.fault()
	if fault == nil {
		return a.malformed(errors.New("neither a result nor an OAuth error"))
	}
	fault.Endpoint, fault.Status, fault.RetryAfter = a.endpoint, a.status, retryAfter(a.header)
	for _, text := range []*string{&fault.Code, &fault.Subcode, &fault.Description, &fault.URI, &fault.CorrelationID} {
		*text = a.scrub.text(*text)
	}
	if a.status >= 500 && !temporaryCode(fault.Code) {
		fault.Description = strings.TrimSuffix(fault.Code+": "+fault.Description, ": ")
		fault.Code = ""
	}
	return fault
}

// fault reads the members of an error answer, or returns nil when there is no error.
func (o object) fault() *Error {
	fault := &Error{}
	fault.Code = o.lenient("error")
	fault.Description = o.lenient("error_description")
	if inner, err := parseObject(o["error"]); err == nil {
		// Google's APIs and gateways: {"error": {"code": 403, "message": …, "status": …}}
		fault.Code = inner.lenient("status")
		if fault.Code == "" {
			fault.Code = inner.lenient("code")
		}
		fault.Description = inner.lenient("message")
	}
	if fault.Code == "" {
		return nil
	}
	fault.URI = o.lenient("error_uri")
	fault.CorrelationID = o.lenient("correlation_id")
	fault.Subcode = o.lenient("suberror")
	if fault.Subcode == "" {
		fault.Subcode = o.lenient("error_subtype")
	}
	_ = json.Unmarshal(o["error_codes"], &fault.Numbers)
	if len(fault.Numbers) > 16 {
		fault.Numbers = fault.Numbers[:16]
	}
	return fault
}

// retryAfter reads the header of RFC 9110 section 10.2.3 in its form as seconds; a
// date would need the server's clock to be ours.
func retryAfter(header http.Header) time.Duration {
	const limit = 24 * 60 * 60
	seconds, err := strconv.Atoi(strings.TrimSpace(header.Get("Retry-After")))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, limit)) * time.Second
}

// An object is a JSON object whose member names have been checked to be unique.
// Names are compared exactly; encoding/json into a struct would take "Access_Token".
type object map[string]json.RawMessage

const maxDepth = 16

var errNotJSON = errors.New("not JSON")

func parseObject(body []byte) (object, error) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")) // some servers send a byte order mark
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := checkValue(dec, 0); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	var o object
	if err := json.Unmarshal(body, &o); err != nil || o == nil {
		return nil, errors.New("not a JSON object")
	}
	return o, nil
}

// checkValue reads one value and refuses deep nesting, and objects that name a member
// twice: two readers would take two different tokens for the true one.
func checkValue(dec *json.Decoder, depth int) error {
	if depth > maxDepth {
		return errors.New("JSON nested too deeply")
	}
	token, err := dec.Token()
	if err != nil {
		return errNotJSON
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if open == '{' {
			name, err := dec.Token()
			key, isText := name.(string)
			if err != nil || !isText {
				return errNotJSON
			}
			if seen[key] {
				return errors.New("JSON object names a member twice")
			}
			seen[key] = true
		}
		if err := checkValue(dec, depth+1); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return errNotJSON
	}
	return nil
}

// text returns a member that must be a string; absent and null are "".
func (o object) text(name string) (string, error) {
	raw, present := o[name]
	if !present || string(raw) == "null" {
		return "", nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return text, nil
}

// lenient returns a member as text, numbers and booleans as they are written;
// anything else is "".
func (o object) lenient(name string) string {
	if text, err := o.text(name); err == nil {
		return text
	}
	raw := string(o[name])
	if strings.HasPrefix(raw, "{") || strings.HasPrefix(raw, "[") {
		return ""
	}
	return raw
}

// list returns an array of strings, or the words of one string; nil when absent or
// something else.
func (o object) list(name string) []string {
	var list []string
	if err := json.Unmarshal(o[name], &list); err == nil {
		return list
	}
	if text, err := o.text(name); err == nil && text != "" {
		return strings.Fields(text)
	}
	return nil
}

// flag reads a boolean, also one written as a string.
func (o object) flag(name string) bool { return o.lenient(name) == "true" }

// seconds reads a span written as a number, a fraction or a string. What cannot be
// read counts as not said; longer than ten years is ten years.
func (o object) seconds(name string) (span time.Duration, said bool) {
	const limit = 10 * 365 * 24 * 60 * 60
	number, err := strconv.ParseFloat(strings.TrimSpace(o.lenient(name)), 64)
	if errors.Is(err, strconv.ErrRange) && !math.IsNaN(number) {
		err = nil // ±Inf, cut below
	}
	if err != nil || math.IsNaN(number) {
		return 0, false
	}
	number = math.Max(-limit, math.Min(limit, number))
	return time.Duration(number * float64(time.Second)), true
}

package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// An api is what differs between Google and Microsoft.
type api struct {
	name    string // to show
	base    string
	limit   int // octets of the largest message
	request func(base string, raw []byte) (url, kind string, body []byte)
	// judge makes an answer of a refusal.
	judge func(status int, text []byte) answer
}

// maxAPIRecipients is Gmail's and Exchange's limit for one message.
const maxAPIRecipients = 500

// maxAPIReply bounds what is read of an answer.
const maxAPIReply = 64 << 10

// apiTime bounds a request: a message of 35 MB has to go up a slow line.
const apiTime = 10 * time.Minute

// newHTTPClient returns a client that follows no redirect: it would carry the token to
// whoever is named there. net/http repeats a POST only when nothing of it was written,
// so keeping connections cannot send twice.
func newHTTPClient(network func(context.Context, string, string) (net.Conn, error)) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 4
	transport.ResponseHeaderTimeout = apiTime
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.DisableCompression = true // nothing to gain, and no bombs
	if network != nil {
		transport.DialContext = network
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// apiBase checks a base URL: tokens travel under TLS, or on this machine.
func apiBase(given, standard string) (string, error) {
	if given == "" {
		return standard, nil
	}
	u, err := url.Parse(given)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%w: the API's address is no base URL", ErrRoute)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopbackName(u.Hostname())) {
		return "", fmt.Errorf("%w: the API's address must begin with https://", ErrRoute)
	}
	return strings.TrimSuffix(given, "/"), nil
}

// viaAPI sends the message in one request: there is one verdict for all recipients.
func (c *Carrier) viaAPI(ctx context.Context, r Route, a api, j *job) {
	open := j.open()
	if len(open) == 0 {
		return
	}
	if len(open) > maxAPIRecipients {
		j.settle(answer{verdict: queue.Refused, status: "5.5.3", server: a.name, closed: true,
			reply: fmt.Sprintf("the API takes %d recipients at most", maxAPIRecipients)})
		return
	}
	raw, err := expressed(j.message, open)
	if err != nil {
		j.settle(answer{verdict: queue.Refused, status: "5.6.0", server: a.name, reply: err.Error(), closed: true})
		return
	}
	if len(raw) > a.limit {
		j.settle(answer{verdict: queue.Refused, status: "5.3.4", server: a.name, closed: true,
			reply: fmt.Sprintf("the message has %d octets, the API takes %d", len(raw), a.limit)})
		return
	}
	// The queue hands over more at a time than there are connections.
	key := "api\x00" + j.envelope.Account
	if _, err := c.pool.enter(ctx, key); err != nil {
		j.settle(lost("wait for a connection", a.name, err).answer)
		return
	}
	defer c.pool.leave(key, nil)
	j.settle(c.post(ctx, r, a, j, raw))
}

// post sends, and once more with a renewed token when the first was refused: 401 says
// that nothing was done.
func (c *Carrier) post(ctx context.Context, r Route, a api, j *job, raw []byte) answer {
	l := &login{tokens: r.Tokens}
	given, f := l.given(ctx, a.name, secret.String{})
	if f != nil {
		return f.answer
	}
	open := j.open()
	if err := j.journal.commit(open); err != nil {
		return deferred("4.3.0", err.Error(), a.name, err).answer
	}
	got, again := c.postOnce(ctx, a, given, raw)
	if !again {
		return got
	}
	j.settle(got)
	j.journal.takeBack(open)
	for _, to := range open {
		to.answer = nil
	}
	renewed, f := l.given(ctx, a.name, given)
	if f != nil {
		return f.answer
	}
	if renewed.Equal(given) {
		return got
	}
	if err := j.journal.commit(open); err != nil {
		return deferred("4.3.0", err.Error(), a.name, err).answer
	}
	got, _ = c.postOnce(ctx, a, renewed, raw)
	return got
}

func (c *Carrier) postOnce(ctx context.Context, a api, token secret.String, raw []byte) (got answer, again bool) {
	ctx, cancel := context.WithTimeout(ctx, apiTime)
	defer cancel()
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) { wrote.Store(info.Err == nil) },
	})
	address, kind, body := a.request(a.base, raw)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return deferred("4.3.0", err.Error(), a.name, err).answer, false
	}
	request.Header.Set("Content-Type", kind)
	request.Header.Set("Authorization", "Bearer "+token.Reveal())
	request.Header.Set("User-Agent", "letterlock")
	response, err := c.options.HTTP.Do(request)
	if err != nil {
		f := unconnected(a.name, err)
		if wrote.Load() {
			// The whole request is out and nobody knows what became of it.
			f.verdict, f.status, f.retry = queue.Unknown, "4.4.2", false
		}
		return f.answer, false
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxAPIReply)) // half an answer is still one
	var hidden secret.Veil
	hidden.Hide(token.Reveal())
	got = c.judged(a, response, []byte(hidden.Text(string(text))))
	return got, response.StatusCode == http.StatusUnauthorized
}

// judged makes an answer of a response.
func (c *Carrier) judged(a api, response *http.Response, text []byte) answer {
	status := response.StatusCode
	said := answer{server: a.name, reply: strings.TrimSpace(fmt.Sprintf("HTTP %d %s", status, apiText(text)))}
	switch {
	case status >= 200 && status < 300:
		said.verdict, said.status = queue.Delivered, "2.0.0"
		return said
	case status == http.StatusUnauthorized:
		said.verdict, said.status = queue.SignIn, "5.7.8"
		return said
	case status == http.StatusTooManyRequests:
		said.verdict, said.status = queue.Deferred, "4.7.0"
		return said
	case status == http.StatusRequestEntityTooLarge:
		said.verdict, said.status, said.closed = queue.Refused, "5.3.4", true
		return said
	case status == http.StatusBadGateway || status == http.StatusGatewayTimeout:
		// The front lost sight of what stands behind it, which may have sent.
		said.verdict, said.status = queue.Unknown, "4.4.2"
		return said
	case status < 400 || status >= 500:
		said.verdict, said.status = queue.Deferred, "4.3.0"
		return said
	}
	judged := a.judge(status, text)
	judged.server, judged.reply = said.server, said.reply
	return judged
}

// apiText is the message of an error answer, or the beginning of whatever came.
func apiText(text []byte) string {
	var e struct {
		Error struct {
			Code    any    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(text, &e) == nil && e.Error.Message != "" {
		if code, ok := e.Error.Code.(string); ok {
			return code + ": " + e.Error.Message
		}
		return e.Error.Message
	}
	return string(text[:min(len(text), 300)])
}

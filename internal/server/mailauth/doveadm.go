package mailauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	maxDoveadm = 1 << 20
	// exitNobody is EX_NOUSER: no session of that user.
	exitNobody = 68
)

// A doveadmAnswer is what the API says to one command.
type doveadmAnswer struct {
	ok   bool
	kind string // of an error: "exitCode", "unknownMethod", …
	code int
}

func doveadmTransport() *http.Transport {
	return &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: false,
	}
}

// callDoveadm posts commands to a node and returns the answers by tag. It goes through
// the transport itself: a client would follow a redirect and take the key along.
func callDoveadm(ctx context.Context, transport http.RoundTripper, n Node, commands [][]any) (map[string]doveadmAnswer, error) {
	body, err := json.Marshal(commands)
	if err != nil {
		return nil, fmt.Errorf("write doveadm request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask doveadm at %s: bad address", n.Name)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "X-Dovecot-API "+base64.StdEncoding.EncodeToString([]byte(n.Key.Reveal())))
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("ask doveadm: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxDoveadm+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read doveadm's answer: %w", err)
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("ask doveadm: the key was refused (status %d)", response.StatusCode)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("ask doveadm: status %d", response.StatusCode)
	}
	return parseDoveadm(answer)
}

// parseDoveadm reads [["doveadmResponse", …, "tag"], ["error", {"type":…}, "tag"]].
func parseDoveadm(text []byte) (map[string]doveadmAnswer, error) {
	var list [][]json.RawMessage
	if len(text) > maxDoveadm {
		return nil, fmt.Errorf("read doveadm's answer: over %d bytes", maxDoveadm)
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read doveadm's answer: not the JSON of an API answer")
	}
	answers := make(map[string]doveadmAnswer, len(list))
	for _, item := range list {
		if len(item) != 3 {
			return nil, fmt.Errorf("read doveadm's answer: an item of %d parts", len(item))
		}
		var kind, tag string
		if json.Unmarshal(item[0], &kind) != nil || json.Unmarshal(item[2], &tag) != nil {
			return nil, fmt.Errorf("read doveadm's answer: no kind or tag")
		}
		var a doveadmAnswer
		switch kind {
		case "doveadmResponse":
			a.ok = true
		case "error":
			var fault struct {
				Type string `json:"type"`
				Code int    `json:"exitCode"`
			}
			_ = json.Unmarshal(item[1], &fault) // an error of another form is an error still
			a.kind, a.code = printable(fault.Type), fault.Code
		default:
			return nil, fmt.Errorf("read doveadm's answer: unknown kind")
		}
		if _, twice := answers[tag]; twice {
			return nil, fmt.Errorf("read doveadm's answer: a tag twice")
		}
		answers[tag] = a
	}
	return answers, nil
}

// printable keeps of a peer's word what belongs into a log line.
func printable(word string) string {
	word = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, word)
	return word[:min(len(word), 40)]
}

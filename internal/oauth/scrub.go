package oauth

import (
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A scrubber takes the secrets of one request out of texts that came back: servers
// repeat parameters in error_description, and net/http repeats the first bytes of an
// answer that is not HTTP.
type scrubber struct{ veil secret.Veil }

// scrubForm knows the secrets of a form and of the client that sends it.
func scrubForm(form url.Values, client Client) scrubber {
	var s scrubber
	for name, values := range form {
		if secretParameter(name) {
			s.add(values...)
		}
	}
	if id, key := url.QueryEscape(client.ID), client.Secret.Reveal(); key != "" {
		s.add(key, base64.StdEncoding.EncodeToString([]byte(id+":"+url.QueryEscape(key))))
	}
	return s
}

// scrubSecrets knows the secrets it is given.
func scrubSecrets(secrets ...secret.String) scrubber {
	var s scrubber
	for _, value := range secrets {
		s.add(value.Reveal())
	}
	return s
}

// secretParameter reports whether a request parameter carries a secret. None of them
// ever belongs into an authorization URL.
func secretParameter(name string) bool {
	switch name {
	case "client_secret", "client_assertion", "assertion", "password",
		"code", "code_verifier", "device_code", "token",
		"access_token", "refresh_token", "id_token", "id_token_hint",
		"subject_token", "actor_token":
		return true
	}
	return false
}

func (s *scrubber) add(words ...string) { s.veil.Hide(words...) }

// text returns one clean line. Besides the known secrets it hides whatever is as long
// as a token: a server may repeat a part of one, or mention one of its own.
func (s scrubber) text(text string) string {
	return oneLine(hideLong(s.veil.Text(text)))
}

// hideLong replaces runs of 64 and more token characters. Slash and colon end a run,
// so that the addresses in Microsoft's messages stay readable.
func hideLong(text string) string {
	const limit = 64
	var b strings.Builder
	for text != "" {
		run := strings.IndexFunc(text, func(r rune) bool { return !tokenRune(r) })
		if run < 0 {
			run = len(text)
		}
		if run >= limit {
			b.WriteString(secret.Redacted)
		} else {
			b.WriteString(text[:run])
		}
		rest := strings.IndexFunc(text[run:], tokenRune)
		if rest < 0 {
			rest = len(text) - run
		}
		b.WriteString(text[run : run+rest])
		text = text[run+rest:]
	}
	return b.String()
}

func tokenRune(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-_.~+=", r)
}

// err returns a transport error whose text is clean. The cause stays reachable for
// errors.Is unless its own text held a secret: then nothing of it is handed on.
func (s scrubber) err(err error) error {
	raw := err.Error()
	held := s.veil.Text(raw) != raw
	clean := &cleanError{text: s.text(raw)}
	if !held {
		clean.cause = err
	}
	return clean
}

type cleanError struct {
	text  string
	cause error
}

func (e *cleanError) Error() string { return e.text }

func (e *cleanError) Unwrap() error { return e.cause }

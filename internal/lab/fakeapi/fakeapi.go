// Package fakeapi stands for the sending APIs of Google and Microsoft. It is written
// from their documentation and refuses what they refuse, strictly and by a list: a test
// changes the client until each refusal has fired. It delivers like they do: to whom
// the header names, with Bcc taken out.
//
// It proves that a client keeps to the documentation. What the services do beyond it
// can only be seen live; see Live of each service.
package fakeapi

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"sync"
)

// A Grant is what a token stands for.
type Grant struct {
	Address  string
	Scopes   []string
	Audience string // Microsoft only
	SendAs   []string
}

// A Sent is a message that was taken.
type Sent struct {
	To     []string // out of To, Cc and Bcc, each once
	Data   []byte   // as the recipients see it: without Bcc
	Upload bool
}

// A Service is one API. Make one with NewGmail or NewGraph.
type Service struct {
	// Refusals are the names of everything it refuses; Live is what only a live
	// account can tell.
	Refusals, Live []string

	serve func(s *Service, w http.ResponseWriter, r *http.Request)

	mu     sync.Mutex
	grants map[string]Grant
	fired  map[string]int
	sent   []Sent
	armed  []func(w http.ResponseWriter) // answers to the next requests
}

// Grant makes token good.
func (s *Service) Grant(token string, g Grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants[token] = g
}

// Arm has the next good request answered with this instead.
func (s *Service) Arm(status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = append(s.armed, func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// Sent returns what was taken so far.
func (s *Service) Sent() []Sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// Fired returns how often each refusal was given.
func (s *Service) Fired() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.fired)
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serve(s, w, r)
}

func newService(serve func(*Service, http.ResponseWriter, *http.Request)) *Service {
	return &Service{serve: serve, grants: map[string]Grant{}, fired: map[string]int{}}
}

// refuse answers with an error in the service's own form.
func (s *Service) refuse(w http.ResponseWriter, name string, status int, body any) {
	if !slices.Contains(s.Refusals, name) {
		panic("a refusal that is not in the list: " + name)
	}
	s.fired[name]++
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// bearer returns the request's token. There is one form (RFC 6750 section 2.1).
func bearer(r *http.Request) string {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	token, ok := strings.CutPrefix(values[0], "Bearer ")
	if !ok || strings.ContainsAny(token, " \t") {
		return ""
	}
	return token
}

// take delivers, or says why not: "mime", "recipient-invalid", "recipient-missing".
func (s *Service) take(raw []byte, upload bool) (problem string) {
	message, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return "mime"
	}
	var to []string
	for _, name := range []string{"To", "Cc", "Bcc"} {
		for _, value := range message.Header[name] {
			list, err := mail.ParseAddressList(value)
			if err != nil {
				return "recipient-invalid"
			}
			for _, one := range list {
				if !strings.Contains(one.Address, "@") {
					return "recipient-invalid"
				}
				if key := strings.ToLower(one.Address); !slices.Contains(to, key) {
					to = append(to, key)
				}
			}
		}
	}
	if len(to) == 0 {
		return "recipient-missing"
	}
	s.sent = append(s.sent, Sent{To: to, Data: withoutBcc(raw), Upload: upload})
	return ""
}

func withoutBcc(raw []byte) []byte {
	header, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	var out bytes.Buffer
	skip := false
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		if len(line) > 0 && line[0] != ' ' && line[0] != '\t' {
			skip = len(line) > 4 && strings.EqualFold(string(line[:4]), "bcc:")
		}
		if !skip {
			out.Write(line)
			out.WriteString("\r\n")
		}
	}
	out.WriteString("\r\n")
	out.Write(body)
	return out.Bytes()
}

func (s *Service) answerArmed(w http.ResponseWriter) bool {
	if len(s.armed) == 0 {
		return false
	}
	next := s.armed[0]
	s.armed = s.armed[1:]
	next(w)
	return true
}

package trymail

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2/imapserver"
)

// sessions are the open ones, by who signed in.
type sessions struct {
	mu   sync.Mutex
	open map[*imapserver.Conn]string
}

func (s *sessions) add(user string, conn *imapserver.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*imapserver.Conn]string{}
	}
	s.open[conn] = strings.ToLower(user)
}

func (s *sessions) remove(conn *imapserver.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
}

// kick ends the sessions of a user and returns how many there were.
func (s *sessions) kick(user string) int {
	s.mu.Lock()
	var theirs []*imapserver.Conn
	for conn, who := range s.open {
		if who == strings.ToLower(user) {
			theirs = append(theirs, conn)
		}
	}
	s.mu.Unlock()
	for _, conn := range theirs {
		_ = conn.NetConn().Close()
	}
	return len(theirs)
}

// startDoveadm serves the two commands of doveadm's HTTP API that take something away.
func (s *Servers) startDoveadm() error {
	if s.checker.DoveadmKey.IsZero() {
		return nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for doveadm: %w", err)
	}
	s.Doveadm = listener.Addr().(*net.TCPAddr)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /doveadm/v1", s.command)
	s.doveadm = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	s.done.Go(func() { _ = s.doveadm.Serve(listener) })
	return nil
}

// exitNobody is what doveadm says when there was nobody to end.
const exitNobody = 68

func (s *Servers) command(w http.ResponseWriter, r *http.Request) {
	want := "X-Dovecot-API " + base64.StdEncoding.EncodeToString([]byte(s.checker.DoveadmKey.Reveal()))
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) != 1 {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var commands [][3]json.RawMessage
	if err != nil || json.Unmarshal(data, &commands) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answers := [][]any{}
	for _, c := range commands {
		answers = append(answers, s.obey(c))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answers)
}

func (s *Servers) obey(command [3]json.RawMessage) []any {
	var name string
	var arguments struct {
		Mask []string `json:"mask"`
	}
	if json.Unmarshal(command[0], &name) != nil || json.Unmarshal(command[1], &arguments) != nil {
		name = ""
	}
	switch name {
	case "authCacheFlush": // nothing is cached here
		return []any{"doveadmResponse", []any{map[string]any{"entries": 0}}, command[2]}
	case "kick":
		ended := 0
		for _, user := range arguments.Mask {
			ended += s.sessions.kick(user)
		}
		if ended == 0 {
			return []any{"error", map[string]any{"type": "exitCode", "exitCode": exitNobody}, command[2]}
		}
		return []any{"doveadmResponse", []any{map[string]any{"result": "ok"}}, command[2]}
	}
	return []any{"error", map[string]any{"type": "unknownMethod"}, command[2]}
}

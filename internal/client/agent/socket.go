package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/peercred"
)

// Version is that of the protocol. A peer of another version is told so and leaves.
const Version = 1

// Bounds of a conversation.
const (
	lineLimit = 64 << 10
	askTime   = 10 * time.Second
)

// A Request is one line from a client.
type Request struct {
	Version int    `json:"version"`
	Do      string `json:"do"`

	Recipient string `json:"recipient,omitempty"` // doKey: whose private half
	Identity  []byte `json:"identity,omitempty"`  // doHold
}

// What a request can ask for.
const (
	doPing   = "ping"
	doStatus = "status"
	doKey    = "key"
	doHold   = "hold"
	doLock   = "lock"
)

// An Answer is one line back.
type Answer struct {
	Version  int                     `json:"version"`
	Error    string                  `json:"error,omitempty"`
	PID      int                     `json:"pid,omitempty"`
	Started  *time.Time              `json:"started,omitempty"`
	Accounts map[string]AccountState `json:"accounts,omitempty"`
	Keys     int                     `json:"keys,omitempty"`     // held; of doLock: forgotten
	Identity []byte                  `json:"identity,omitempty"` // of doKey
}

// ErrVersion means that the agent speaks another version of the protocol.
var ErrVersion = errors.New("the agent is of another version: restart it")

// SocketPath is where the agent of the caller listens: in the runtime folder, or in
// the state folder where there is none. Sockets live below about 100 bytes of path.
func SocketPath(getenv func(string) string, state string, uid int) string {
	folder := getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(folder) {
		folder = fmt.Sprintf("/run/user/%d", uid)
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			return filepath.Join(state, "agent.sock")
		}
	}
	return filepath.Join(folder, "letterlock", "agent.sock")
}

// Listen makes the socket, private to its owner. A socket whose agent has died is
// replaced; one whose agent lives is an error.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the agent's socket: %w", err)
	}
	if _, err := Ask(ctx, path, "ping"); err == nil || errors.Is(err, ErrVersion) {
		return nil, fmt.Errorf("an agent is already listening on %s", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("make the agent's socket: %w", err)
		}
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("make the agent's socket: %w", err)
	}
	// The folder is private; this is for one that was there before us.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("make the agent's socket: %w", err), listener.Close())
	}
	return listener, nil
}

// Ask sends one request to the agent at path.
func Ask(ctx context.Context, path, do string) (Answer, error) {
	return exchange(ctx, path, Request{Do: do})
}

func exchange(ctx context.Context, path string, r Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return Answer{}, fmt.Errorf("ask the agent: %w", err)
	}
	defer conn.Close()
	if err := checkServer(conn, r); err != nil {
		return Answer{}, fmt.Errorf("ask the agent: %w", err)
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Answer{}, fmt.Errorf("ask the agent: %w", err)
	}
	r.Version = Version
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return Answer{}, fmt.Errorf("ask the agent: %w", err)
	}
	var answer Answer
	line, err := readLine(bufio.NewReader(conn))
	defer clear(line)
	if err == nil {
		err = json.Unmarshal(line, &answer)
	}
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("ask the agent: %w", err)
	case answer.Version != Version:
		return Answer{}, ErrVersion
	case answer.Error != "":
		return Answer{}, fmt.Errorf("ask the agent: %s", answer.Error)
	}
	return answer, nil
}

// readLine reads one line of at most lineLimit.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case len(line) > lineLimit:
			return nil, errors.New("line too long")
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// serve answers until ctx ends. It returns an error only when no more can be served.
func (a *Agent) serve(ctx context.Context) error {
	var conversations sync.WaitGroup
	defer conversations.Wait()
	stop := context.AfterFunc(ctx, func() { a.o.Listener.Close() })
	defer stop()
	for {
		conn, err := a.o.Listener.Accept()
		if ctx.Err() != nil {
			if err == nil { // who came just now must not wait until the process has ended
				conn.Close()
			}
			return nil
		}
		if err != nil {
			var temporary net.Error
			if errors.As(err, &temporary) && temporary.Timeout() || isExhausted(err) {
				a.o.Log.Warn("accept", "error", err)
				if !pause(ctx, time.Second) {
					return nil
				}
				continue
			}
			return fmt.Errorf("serve the agent's socket: %w", err)
		}
		conversations.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			a.converse(conn)
		})
	}
}

func (a *Agent) converse(conn net.Conn) {
	// Real time: it bounds a peer, and has nothing to do with tokens.
	if conn.SetDeadline(time.Now().Add(askTime)) != nil {
		return
	}
	if peer, err := peercred.Of(conn); err != nil || peer.UID != os.Getuid() {
		a.o.Log.Warn("refused a peer", "uid", peer.UID, "error", err)
		return
	}
	in := bufio.NewReader(conn)
	for {
		line, err := readLine(in)
		if err != nil {
			if err != io.EOF {
				a.o.Log.Debug("read a request", "error", err)
			}
			return
		}
		answer := a.answer(line)
		err = json.NewEncoder(conn).Encode(answer)
		clear(line)
		clear(answer.Identity)
		if err != nil {
			return
		}
	}
}

func (a *Agent) answer(line []byte) Answer {
	answer := Answer{Version: Version}
	var r Request
	defer func() { clear(r.Identity) }()
	switch err := json.Unmarshal(line, &r); {
	case err != nil:
		answer.Error = "no request"
	case r.Version != Version:
		answer.Error = ErrVersion.Error()
	case r.Do == doPing:
		answer.PID = os.Getpid()
	case r.Do == doStatus:
		a.mu.Lock()
		defer a.mu.Unlock()
		started := a.started
		answer.PID, answer.Started, answer.Accounts = os.Getpid(), &started, maps.Clone(a.states)
		if a.o.Keys != nil {
			answer.Keys = a.o.Keys.Count()
		}
	case r.Do == doKey, r.Do == doHold, r.Do == doLock:
		if err := a.keys(r, &answer); err != nil {
			answer.Error = err.Error()
		}
	default:
		answer.Error = "unknown request"
	}
	return answer
}

// Listens says whether an agent of ours listens at path. It exchanges no word: a front
// end that has just queued a message only wants to know whether it must do more. Another
// user's process there sends nothing of ours, so it is as good as none.
func Listens(ctx context.Context, path string) bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	defer conn.Close()
	return checkPeer(conn) == nil
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/peercred"
)

// keyTime bounds a question about a key. An agent that is stopped or stuck must not
// use up the five seconds in which a command without a person has to end.
const keyTime = 2 * time.Second

// Keys is the way to the keys that the agent at Path holds. It implements
// tokenstore.Keyholder.
type Keys struct{ Path string }

var _ tokenstore.Keyholder = Keys{}

// Key asks for the private half of recipient; nil when the agent does not hold it.
func (k Keys) Key(ctx context.Context, recipient string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTime)
	defer cancel()
	answer, err := exchange(ctx, k.Path, Request{Do: doKey, Recipient: recipient})
	return answer.Identity, err
}

// Hold gives an identity to the agent.
func (k Keys) Hold(ctx context.Context, identity []byte) error {
	ctx, cancel := context.WithTimeout(ctx, keyTime)
	defer cancel()
	_, err := exchange(ctx, k.Path, Request{Do: doHold, Identity: identity})
	return err
}

// Lock has the agent forget all keys, and says how many it held.
func (k Keys) Lock(ctx context.Context) (int, error) {
	answer, err := exchange(ctx, k.Path, Request{Do: doLock})
	return answer.Keys, err
}

// checkServer refuses to speak of keys with anybody but our own agent, or root's
// service manager, which opens the socket before it starts one.
func checkServer(conn net.Conn, r Request) error {
	if r.Do == doPing || r.Do == doStatus {
		return nil
	}
	return checkPeer(conn)
}

// checkPeer wants our own uid at the other end, or root's.
func checkPeer(conn net.Conn) error {
	peer, err := peercred.Of(conn)
	if err != nil {
		return err
	}
	if peer.UID != os.Getuid() && peer.UID != 0 {
		return fmt.Errorf("the socket belongs to uid %d: %w", peer.UID, os.ErrPermission)
	}
	return nil
}

var errNoKeys = errors.New("this agent holds no keys")

// keys answers the requests about keys.
func (a *Agent) keys(r Request, answer *Answer) error {
	if a.o.Keys == nil {
		return errNoKeys
	}
	switch r.Do {
	case doKey:
		identity, err := a.o.Keys.Key(context.Background(), r.Recipient)
		answer.Identity = identity
		return err
	case doHold:
		if err := a.o.Keys.Hold(context.Background(), r.Identity); err != nil {
			return err
		}
		a.o.Log.Info("a key was unlocked")
		a.unlocked()
	case doLock:
		answer.Keys = a.o.Keys.Forget()
		a.o.Log.Info("keys were forgotten", "count", answer.Keys)
	}
	return nil
}

// unlocked has what waited for a key go on at once.
func (a *Agent) unlocked() {
	select {
	case a.wake <- struct{}{}:
	default: // it is awake already
	}
}

package factor

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A challenge is 16 random bytes, the second it ends, and the first half of an HMAC over
// both, the purpose, the browser and the person.
const (
	nonceLength     = 16
	challengeLength = nonceLength + 8 + 16
	challengeLife   = 15 * time.Minute
	spentKind       = "factor.challenge"
)

func (k *Keeper) challenge(purpose, browser, person string) ([]byte, error) {
	c := make([]byte, nonceLength, challengeLength)
	if _, err := io.ReadFull(k.o.Random, c); err != nil {
		return nil, fmt.Errorf("make challenge: %w", err)
	}
	c = binary.BigEndian.AppendUint64(c, uint64(k.o.Now().Add(challengeLife).Unix()))
	return append(c, k.mark(c, purpose, browser, person)...), nil
}

func (k *Keeper) mark(head []byte, parts ...string) []byte {
	mac := hmac.New(sha256.New, k.o.ChallengeKey)
	mac.Write(head)
	for _, part := range parts {
		// Lengths keep ("ab","c") and ("a","bc") apart.
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		mac.Write(length[:])
		mac.Write([]byte(part))
	}
	return mac.Sum(nil)[:challengeLength-nonceLength-8]
}

// ours reports whether we made the challenge for this, a short while ago.
func (k *Keeper) ours(c []byte, purpose, browser, person string) bool {
	if browser == "" || len(c) != challengeLength {
		return false
	}
	head := c[:nonceLength+8]
	ends := binary.BigEndian.Uint64(head[nonceLength:])
	return hmac.Equal(c[nonceLength+8:], k.mark(head, purpose, browser, person)) && uint64(k.o.Now().Unix()) < ends
}

// spend writes down that the challenge was answered: the same answer is worth nothing again.
func (k *Keeper) spend(ctx context.Context, c []byte) error {
	err := k.o.Store.PutOnce(ctx, identity.DigestOf(string(c)), spentKind, nil, k.o.Now().Add(challengeLife+time.Minute))
	if errors.Is(err, identity.ErrExists) {
		return ErrSpent
	}
	if err != nil {
		return fmt.Errorf("spend challenge: %w", err)
	}
	return nil
}

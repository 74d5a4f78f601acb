package credential

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// A Cost is what one Argon2id hash takes (RFC 9106 section 3.1).
type Cost struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

// DefaultCost is the least that OWASP names. App passwords have 130 random bits, which
// no hash needs to protect: more would only slow Dovecot, which hashes in one process.
func DefaultCost() Cost { return Cost{Memory: 19 * 1024, Time: 2, Threads: 1} }

// The most that a stored hash may cost. Hashes come from backups and from databases
// that others write to: without a cap, one row could take all memory. Dovecot's
// standard vsz_limit ends a little below 256 MiB.
const (
	maxMemory  = 256 * 1024
	maxTime    = 16
	maxThreads = 16
	maxPHC     = 256
	minSalt    = 8
	maxSalt    = 64
	minTag     = 16
	maxTag     = 64

	saltLength = 16
	tagLength  = 32
)

// errHash is a stored hash that is not one. It does not say more: the text would end
// in logs, and the hash with it.
var errHash = errors.New("not an Argon2id hash within the limits")

// Check reports a cost that is not possible or above what is accepted back.
func (c Cost) Check() error {
	// RFC 9106 section 3.1: at least eight blocks for each lane.
	if c.Threads < 1 || c.Threads > maxThreads || c.Time < 1 || c.Time > maxTime ||
		c.Memory < 8*uint32(c.Threads) || c.Memory > maxMemory {
		return fmt.Errorf("cost m=%d,t=%d,p=%d: want m of %d KiB for each of p to %d, t to %d, p to %d",
			c.Memory, c.Time, c.Threads, 8, maxMemory, maxTime, maxThreads)
	}
	return nil
}

type phc struct {
	cost      Cost
	salt, tag []byte
}

// hash makes the PHC string of a password. Dovecot reads it behind "{ARGON2ID}".
func (c Cost) hash(random io.Reader, password string) (string, error) {
	if err := c.Check(); err != nil {
		return "", err
	}
	salt := make([]byte, saltLength)
	if _, err := io.ReadFull(random, salt); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	tag := argon2.IDKey([]byte(password), salt, c.Time, c.Memory, c.Threads, tagLength)
	return phc{c, salt, tag}.String(), nil
}

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.cost.Memory, p.cost.Time, p.cost.Threads,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(p.tag))
}

// matches computes the one slow hash of a sign-in.
func matches(hash, password string) (bool, error) {
	want, err := parsePHC(hash)
	if err != nil {
		return false, err
	}
	tag := argon2.IDKey([]byte(password), want.salt, want.cost.Time, want.cost.Memory, want.cost.Threads, uint32(len(want.tag)))
	return subtle.ConstantTimeCompare(tag, want.tag) == 1, nil
}

// parsePHC reads exactly the form that String writes: one spelling for each hash,
// parameters in their order, base64 without padding and without stray bits.
func parsePHC(text string) (phc, error) {
	if len(text) > maxPHC {
		return phc{}, errHash
	}
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return phc{}, errHash
	}
	numbers := strings.Split(parts[3], ",")
	if len(numbers) != 3 {
		return phc{}, errHash
	}
	memory, ok1 := parameter(numbers[0], "m=", maxMemory)
	passes, ok2 := parameter(numbers[1], "t=", maxTime)
	threads, ok3 := parameter(numbers[2], "p=", maxThreads)
	read := phc{cost: Cost{Memory: memory, Time: passes, Threads: uint8(threads)}}
	if !ok1 || !ok2 || !ok3 || read.cost.Check() != nil {
		return phc{}, errHash
	}
	var err error
	if read.salt, err = field(parts[4], minSalt, maxSalt); err != nil {
		return phc{}, errHash
	}
	if read.tag, err = field(parts[5], minTag, maxTag); err != nil {
		return phc{}, errHash
	}
	return read, nil
}

func parameter(text, name string, most uint32) (uint32, bool) {
	digits, ok := strings.CutPrefix(text, name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	// Formatted again it must be the same: no sign, no leading zero.
	if err != nil || strconv.FormatUint(n, 10) != digits || n > uint64(most) {
		return 0, false
	}
	return uint32(n), true
}

func field(text string, least, most int) ([]byte, error) {
	// The decoder skips line ends, which no hash has.
	if strings.ContainsAny(text, "\r\n") {
		return nil, errHash
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < least || len(raw) > most {
		return nil, errHash
	}
	return raw, nil
}

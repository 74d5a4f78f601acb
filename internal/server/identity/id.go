package identity

import (
	"fmt"
	"io"
	"time"
)

// NewID returns a UUID of version 7 (RFC 9562 section 5.7) for a person, credential or
// grant. Its first 48 bits are the time, which keeps index pages of new rows together; it
// orders nothing, and it is no secret.
func NewID(random io.Reader, now time.Time) (string, error) {
	var id [16]byte
	if _, err := io.ReadFull(random, id[6:]); err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	milli := uint64(now.UnixMilli())
	for i := range 6 {
		id[i] = byte(milli >> (8 * (5 - i)))
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), nil
}

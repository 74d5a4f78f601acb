package identity

import (
	"bytes"
	"testing"
	"testing/iotest"
	"time"
)

func TestNewID(t *testing.T) {
	now := time.UnixMilli(0x0198_0000_0001)
	id, err := NewID(bytes.NewReader(bytes.Repeat([]byte{0xff}, 10)), now)
	if err != nil || id != "01980000-0001-7fff-bfff-ffffffffffff" {
		t.Errorf("got %q, %v", id, err)
	}
	if _, err := NewID(iotest.ErrReader(iotest.ErrTimeout), now); err == nil {
		t.Error("an id without randomness")
	}
}

package secret

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// TestMaster: one key for each use, always the same, none of them the master.
func TestMaster(t *testing.T) {
	raw := bytes.Repeat([]byte("k"), MasterLength)
	m, err := NewMaster(raw)
	if err != nil {
		t.Fatal(err)
	}
	throttle, err1 := m.For("throttle")
	again, err2 := m.For("throttle")
	totp, err3 := m.For("totp seeds")
	if err1 != nil || err2 != nil || err3 != nil || !bytes.Equal(throttle, again) || bytes.Equal(throttle, totp) || bytes.Equal(throttle, raw) || len(throttle) != 32 {
		t.Errorf("%x %x %x, %v %v %v", throttle, again, totp, err1, err2, err3)
	}
	// HKDF-SHA256 of these inputs, computed with Python's hmac: stored things hang on it.
	if want := "cdb0cce908ca3f979458c3e9cba1633161a716179522241fa88ef8180571be53"; hex.EncodeToString(throttle) != want {
		t.Errorf("derived %x, want %s: what was sealed before would not open", throttle, want)
	}
	if text := fmt.Sprintf("%v %+v %#v", m, m, m); strings.Contains(text, "kkk") || strings.Contains(text, "6b6b") {
		t.Errorf("prints itself: %s", text)
	}
	for _, bad := range [][]byte{nil, raw[:31], append(raw, 'k')} {
		if _, err := NewMaster(bad); err == nil {
			t.Errorf("%d bytes are taken", len(bad))
		}
	}
	if _, err := (Master{}).For("throttle"); err == nil {
		t.Error("a key of nothing")
	}
	if _, err := m.For(""); err == nil {
		t.Error("a key for nothing")
	}
}

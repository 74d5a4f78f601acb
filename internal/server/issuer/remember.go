package issuer

import (
	"crypto/sha256"
	"strings"
	"sync"
	"time"
)

const (
	// noLife is how long a token that an issuer does not know is not shown to it again: one
	// guess that comes many times costs one question. It is short, for an issuer may learn
	// late of what another machine of its own has issued.
	noLife = 15 * time.Second
	// mineLife is how long it is remembered whose a token is, so that it is shown to nobody
	// else. The issuer is asked about it all the same, each time.
	mineLife = time.Hour
	// maxMemory bounds what one issuer remembers: some 100 bytes each.
	maxMemory = 4096
)

// memory is what an issuer is known to have said of tokens. It holds no token, and no yes:
// only whom to ask.
type memory struct {
	mu   sync.Mutex
	said map[[sha256.Size]byte]said
}

type said struct {
	mine  bool
	until time.Time
}

// note keeps what the issuer said of a token.
func (m *memory) note(token string, mine bool, now time.Time) {
	life := noLife
	if mine {
		life = mineLife
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.said == nil {
		m.said = map[[sha256.Size]byte]said{}
	}
	m.room(now)
	m.said[sha256.Sum256([]byte(token))] = said{mine, now.Add(life)}
}

// room forgets what is over among a few entries, and where that makes none, one of them: a
// flood costs no more than a question to be asked again.
func (m *memory) room(now time.Time) {
	looked := 0
	for key, entry := range m.said {
		if len(m.said) < maxMemory && looked >= 4 {
			return
		}
		looked++
		if !now.Before(entry.until) || len(m.said) >= maxMemory && looked >= 4 {
			delete(m.said, key)
		}
	}
}

// recall tells what the issuer said of a token a short while ago.
func (m *memory) recall(token string, now time.Time) (mine, no bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	entry, there := m.said[sha256.Sum256([]byte(token))]
	if !there || !now.Before(entry.until) {
		return false, false
	}
	return entry.mine, !entry.mine
}

// introspecting are the issuers that a token which names none is shown to. One whose tokens
// begin like this one gets it alone; those who have not said how theirs begin get the others,
// unless it is known whose it is.
func (l List) introspecting(token string) []*Issuer {
	var all []*Issuer
	best := 0
	for _, one := range l {
		if one.o.Introspection == "" || !strings.HasPrefix(token, one.o.Prefix) || len(one.o.Prefix) < best {
			continue
		}
		if len(one.o.Prefix) > best {
			best, all = len(one.o.Prefix), nil
		}
		all = append(all, one)
	}
	for _, one := range all {
		if mine, _ := one.memory.recall(token, one.o.Now()); mine {
			return []*Issuer{one}
		}
	}
	return all
}

package throttle

import "time"

// known remembers for each account the networks that it signed in from. Only who has
// signed in can put something here.
type known struct {
	accounts *table[digest, places]
}

// places are the networks of one account, those used last.
type places struct {
	used   uint16 // day
	number uint8
	at     [placesEach]place
	days   [placesEach]uint16
}

const (
	placesEach = 16
	knownDays  = 60
)

func newKnown(limit int) *known {
	return &known{newTable[digest](limit, func(p *places) uint32 { return uint32(p.used) })}
}

// day counts days, which is all the precision this needs.
func day(at time.Time) uint16 { return uint16(max(at.Unix(), 0) / 86_400) }

// add is true when this is news for today.
func (k *known) add(account digest, p place, today uint16) bool {
	entry := k.accounts.get(account)
	entry.used = max(entry.used, today)
	// Used last comes first; a new one pushes out the last.
	news, end := true, min(int(entry.number), placesEach-1)
	for i := range int(entry.number) {
		if entry.at[i] == p {
			news, end = entry.days[i] < today, i
			today = max(today, entry.days[i])
			break
		}
	}
	if end == int(entry.number) {
		entry.number++
	}
	copy(entry.at[1:end+1], entry.at[:end])
	copy(entry.days[1:end+1], entry.days[:end])
	entry.at[0], entry.days[0] = p, today
	return news
}

// has reports whether anybody signed in to the account, and whether from there.
func (k *known) has(account digest, p place) (familiar, here bool) {
	entry := k.accounts.find(account)
	if entry == nil {
		return false, false
	}
	for i := range int(entry.number) {
		if entry.at[i] == p && entry.days[i]+knownDays >= entry.used {
			return true, true
		}
	}
	return true, false
}

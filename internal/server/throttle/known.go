package throttle

import "time"

// known remembers for each account the networks that it signed in from. Only who has
// signed in can put something here.
type known struct {
	limit    int
	accounts map[digest]*places
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

func newKnown(limit int) *known { return &known{limit: limit, accounts: map[digest]*places{}} }

// day counts days, which is all the precision this needs.
func day(at time.Time) uint16 { return uint16(max(at.Unix(), 0) / 86_400) }

// add is true when this is news for today.
func (k *known) add(account digest, p place, today uint16) bool {
	entry, ok := k.accounts[account]
	if !ok {
		if len(k.accounts) >= k.limit {
			k.drop()
		}
		entry = &places{}
		k.accounts[account] = entry
	}
	entry.used = max(entry.used, today)
	slot := 0
	for i := range int(entry.number) {
		if entry.at[i] == p {
			news := entry.days[i] < today
			entry.days[i] = max(entry.days[i], today)
			return news
		}
		if entry.days[i] < entry.days[slot] {
			slot = i
		}
	}
	if entry.number < placesEach {
		slot = int(entry.number)
		entry.number++
	}
	entry.at[slot], entry.days[slot] = p, today
	return true
}

// has reports whether anybody signed in to the account, and whether from there.
func (k *known) has(account digest, p place) (familiar, here bool) {
	entry, ok := k.accounts[account]
	if !ok {
		return false, false
	}
	for i := range int(entry.number) {
		if entry.at[i] == p && entry.days[i]+knownDays >= entry.used {
			return true, true
		}
	}
	return true, false
}

// drop forgets the account among some that was longest not used.
func (k *known) drop() {
	var found digest
	tried, lowest := 0, uint16(0)
	for account, entry := range k.accounts {
		if tried == 0 || entry.used < lowest {
			found, lowest = account, entry.used
		}
		if tried++; tried == samples {
			break
		}
	}
	delete(k.accounts, found)
}

package main

import (
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/peercred"
)

// A caller is a user of this machine, as kernel and user database have it.
type caller struct {
	uid    int
	user   string // "" for a uid without a name
	name   string
	groups []string // by name and by number
}

// callerOf asks the user database about a peer. One that it does not know is known by
// his number alone.
func callerOf(peer peercred.Peer) caller {
	c := caller{uid: peer.UID}
	ids := []string{strconv.Itoa(peer.GID)}
	if who, err := user.LookupId(strconv.Itoa(peer.UID)); err == nil {
		c.user, c.name = who.Username, sendmail.NameOf(who)
		if more, err := who.GroupIds(); err == nil {
			ids = append(ids, more...)
		}
	}
	for _, id := range ids {
		c.groups = append(c.groups, id)
		if group, err := user.LookupGroupId(id); err == nil {
			c.groups = append(c.groups, group.Name)
		}
	}
	return c
}

func (c caller) login() string {
	if c.user == "" {
		return "uid" + strconv.Itoa(c.uid)
	}
	return c.user
}

// How an account may be a caller's, the nearest first.
const (
	byName = iota
	byGroup
	byDefault
	notHis
)

// claim says how the account may be the caller's.
func (c caller) claim(a config.Account) int {
	if a.Users == nil {
		return byDefault
	}
	best := notHis
	for _, word := range a.Users {
		group, isGroup := strings.CutPrefix(word, "@")
		switch {
		case word == "":
		case !isGroup && (word == strconv.Itoa(c.uid) || word == c.user):
			return byName
		case isGroup && slices.Contains(c.groups, group):
			best = byGroup
		}
	}
	return best
}

// ways are the accounts that may send what the caller submits. With account that one
// only. Else those that name him; else those of a group of his; else those that name
// nobody, among which [queue] account is the one. Who is named may use an account that
// could read mail too: whoever wrote his name there decided that.
func (c caller) ways(conf *config.Config, account string) (ways []sendmail.Way, byItself string) {
	nearest := notHis
	for _, name := range sortedNames(conf.Accounts) {
		if claim := c.claim(conf.Accounts[name]); claim < nearest && (account == "" || account == name) {
			nearest = claim
		}
	}
	for _, name := range sortedNames(conf.Accounts) {
		a := conf.Accounts[name]
		if nearest == notHis || c.claim(a) != nearest || account != "" && account != name {
			continue
		}
		w := wayOf(name, a)
		if nearest < byDefault {
			w.SendOnly = true // chosen among as if it were
		}
		ways = append(ways, w)
	}
	switch {
	case nearest < byDefault && len(ways) == 1:
		byItself = ways[0].Account
	case nearest != notHis && slices.ContainsFunc(ways, func(w sendmail.Way) bool { return w.Account == conf.Queue.Account }):
		byItself = conf.Queue.Account
	}
	// One that can read mail and names nobody is for who asks for nothing narrower.
	if nearest == byDefault && account != "" && account != conf.Queue.Account && !ways[0].SendOnly {
		return nil, ""
	}
	return ways, byItself
}

// systemUser owns what --system works on.
const systemUser = "letterlock"

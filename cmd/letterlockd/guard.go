package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
)

// throttle wires the counting of wrong secrets.
func (l *plan) throttle(random io.Reader) (*throttle.Throttle, error) {
	o := throttle.Options{Store: l.db, Log: l.log, Now: l.now}
	// Instances that share a database read each other's counts only with one key. One that
	// is alone, and has no pages, needs no key on disk.
	if l.conf.Web.PublicURL != "" || l.conf.Database.Shared() {
		master, err := masterKey(l.conf.Web.MasterKeyFile, random)
		if err != nil {
			return nil, err
		}
		if o.Key, err = master.For("throttle"); err != nil {
			return nil, err
		}
	}
	for _, path := range l.conf.Throttle.Deny {
		o.Sources = append(o.Sources, throttle.Source{Name: path, File: path})
	}
	t := throttle.New(o)
	if len(l.conf.Throttle.Allow) > 0 {
		list, err := allowList(l.conf)
		if err != nil {
			return nil, err
		}
		t.SetList(list)
	}
	l.add("throttle", t.Run)
	return t, nil
}

func allowList(conf *config.Daemon) (*throttle.List, error) {
	var text strings.Builder
	for _, network := range conf.Throttle.Allow {
		fmt.Fprintln(&text, network)
	}
	list, err := throttle.ParseList("allow in [throttle]", strings.NewReader(text.String()))
	if err != nil {
		return nil, err
	}
	list.Allow = true
	return list, nil
}

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
)

// throttle wires the counting of wrong secrets.
func (l *plan) throttle(random io.Reader) (*throttle.Throttle, error) {
	o := throttle.Options{Store: l.db}
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
	return l.scale("throttle", o)
}

// scale makes a throttle with the lists of [throttle], whatever else it counts.
func (l *plan) scale(service string, o throttle.Options) (*throttle.Throttle, error) {
	o.Log, o.Now = l.log, l.now
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
	l.add(service, t.Run)
	return t, nil
}

// byNetwork counts by network alone: many in ten minutes of one address, four and ten
// times that of the networks around it.
func byNetwork(name string, many int) []throttle.Rule {
	return []throttle.Rule{
		{Name: name + ", address", Kind: throttle.Network, V4: 32, V6: 64, Span: 10 * time.Minute, Slow: many, Stop: many},
		{Name: name + ", network", Kind: throttle.Network, V4: 24, V6: 56, Span: 10 * time.Minute, Slow: 4 * many, Stop: 4 * many},
		{Name: name + ", site", Kind: throttle.Network, V6: 48, Span: 10 * time.Minute, Slow: 10 * many, Stop: 10 * many},
	}
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

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// NSD is a running name server. It reads zone files as any name server does, and answers
// for its zones and nothing else.
type NSD struct {
	Addr string // IP:PORT, by UDP and TCP

	dir     string
	process *Process
}

// NSDOptions describe a name server.
type NSDOptions struct {
	Addr string // default: a free port of 127.0.0.1
	// Zones are the lines of zone files, by the zone's name. Full names; SOA and NS are
	// there already.
	Zones map[string]string
}

// StartNSD starts it; about a tenth of a second.
func StartNSD(ctx context.Context, o NSDOptions) (*NSD, error) {
	n, err := startRetry(func() (*NSD, error) { return startNSD(ctx, o) })
	if err != nil {
		return nil, fmt.Errorf("start nsd: %w", err)
	}
	return n, nil
}

func startNSD(ctx context.Context, o NSDOptions) (*NSD, error) {
	path, err := find("nsd", "nsd")
	if err != nil {
		return nil, err
	}
	n := &NSD{Addr: o.Addr}
	if n.Addr == "" {
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		n.Addr = loopback(ports[0])
	}
	host, port, err := net.SplitHostPort(n.Addr)
	if err != nil {
		return nil, err
	}
	if n.dir, err = newFolder("nsd"); err != nil {
		return nil, err
	}
	conf := filepath.Join(n.dir, "nsd.conf")
	text := strings.NewReplacer("FOLDER", n.dir, "HOST", host, "PORT", port).Replace(
		"server:\n ip-address: HOST@PORT\n username: \"\"\n chroot: \"\"\n zonesdir: FOLDER\n database: \"\"\n pidfile: \"\"\n xfrdfile: \"\"\n" +
			" zonelistfile: FOLDER/zonelist\n xfrdir: FOLDER\n server-count: 1\nremote-control:\n control-enable: no\n")
	for name, lines := range o.Zones {
		text += fmt.Sprintf("zone:\n name: %s\n zonefile: %s.zone\n", name, name)
		zone := fmt.Sprintf("%[1]s. 60 IN SOA ns.%[1]s. postmaster.%[1]s. 1 3600 600 86400 60\n%[1]s. 60 IN NS ns.invalid.\n%[2]s", name, lines)
		err = errors.Join(err, os.WriteFile(filepath.Join(n.dir, name+".zone"), []byte(zone), 0o644))
	}
	err = errors.Join(err, os.WriteFile(conf, []byte(text), 0o644))
	if err == nil {
		n.process, err = StartProcess(ProcessOptions{Name: "nsd", Path: path, Args: []string{"-d", "-c", conf}})
	}
	if err == nil {
		err = n.ready(ctx)
	}
	if err != nil {
		n.Stop()
		return nil, err
	}
	return n, nil
}

// ready waits until it serves. A zone that it cannot read it would serve without.
func (n *NSD) ready(ctx context.Context) error {
	line, err := n.process.WaitLog(ctx, func(line string) bool {
		return strings.Contains(line, "nsd started") || bindConflict(line)
	})
	switch {
	case err != nil:
		return err
	case bindConflict(line):
		return errPortTaken
	}
	for _, line := range n.process.Log() {
		if strings.Contains(line, "error:") {
			return errors.New(line)
		}
	}
	return nil
}

// Log is what it has said.
func (n *NSD) Log() []string { return n.process.Log() }

// Stop ends it.
func (n *NSD) Stop() {
	if n.process != nil {
		n.process.Stop()
	}
	os.RemoveAll(n.dir)
}

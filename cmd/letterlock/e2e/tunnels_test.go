//go:build lab

package e2e

// tunnels are the programs that fetch through letterlock tunnel without anybody at a
// keyboard; alpine and mutt are among the interactive ones.
func tunnels() []client {
	any := []string{"OAUTHBEARER"} // what letterlock prefers
	return []client{
		{program: "mbsync", via: "tunnel", methods: any, run: runMbsync},
		{program: "mbsync", via: "tunnel", startTLS: true, methods: any, run: runMbsync},
		{program: "offlineimap", via: "tunnel", methods: any, run: runOfflineimap},
		{program: "fetchmail", via: "tunnel", methods: any, run: runFetchmail},
		{program: "fetchmail", via: "tunnel", startTLS: true, methods: any, run: runFetchmail},
	}
}

// runFetchmail hands the message to a program instead of to a local mail server.
func runFetchmail(d *desk) {
	d.program("", "fetchmail", "--mda", "/usr/bin/tee "+d.path("~/fetched"))
	d.fetchedFile(d.path("~/fetched"))
}

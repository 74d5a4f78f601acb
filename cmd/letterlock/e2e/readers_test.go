//go:build lab

package e2e

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"time"
)

// readers are the programs that fetch without anybody at a keyboard.
func readers() []client {
	oauthbearer, xoauth2 := []string{"OAUTHBEARER"}, []string{"XOAUTH2"}
	return []client{
		{program: "mpop", via: "token", methods: oauthbearer, run: runMpop},
		{program: "mpop", via: "token", startTLS: true, methods: oauthbearer, run: runMpop},
		{program: "mbsync", via: "token", methods: xoauth2, run: runMbsync},
		{program: "mbsync", via: "token", startTLS: true, methods: xoauth2, run: runMbsync},
		{program: "offlineimap", via: "token", methods: xoauth2, run: runOfflineimap},
		{program: "offlineimap", via: "token", startTLS: true, methods: xoauth2, run: runOfflineimap},
		{program: "getmail", via: "token", methods: xoauth2, run: runGetmail},
		{program: "imapfilter", via: "token", methods: xoauth2, run: runImapfilter},
		{program: "imapfilter", via: "token", startTLS: true, methods: xoauth2, run: runImapfilter},
		{program: "curl", via: "token", methods: oauthbearer, run: runCurl},
		{program: "curl", via: "token", startTLS: true, methods: oauthbearer, run: runCurl},
		{program: "python", via: "token", methods: xoauth2, run: runPython},
		{program: "python", via: "token", startTLS: true, methods: xoauth2, run: runPython},
	}
}

func runMpop(d *desk) {
	dir := d.maildir()
	d.program("", "mpop")
	d.fetched(dir)
}

func runMbsync(d *desk) {
	d.folders("~/Mail/" + d.who.Email)
	d.program("", "mbsync", "-a")
	d.fetched(d.path("~/Mail/" + d.who.Email))
}

func runOfflineimap(d *desk) {
	d.program("", "offlineimap", "-o", "-u", "basic")
	d.fetched(d.path("~/Mail/" + d.who.Email))
}

// runGetmail goes by the message and not by the exit: getmail 6.18 delivers in a child
// process and installs its SIGCHLD handler after it has started that, so that on a busy
// machine it now and then waits forever, or dies, when all is done
// (getmailcore/baseclasses.py, forkchild).
func runGetmail(d *desk) {
	dir := d.maildir()
	ctx, cancel := context.WithCancel(within(d))
	defer cancel()
	go func() { // once the mail is there it gets some time to end
		for ctx.Err() == nil {
			if there, _ := filepath.Glob(dir + "/new/*"); len(there) > 0 {
				<-time.After(10 * time.Second)
				cancel()
			}
			<-time.After(20 * time.Millisecond)
		}
	}()
	out, err := d.command(ctx, "getmail").CombinedOutput()
	if err != nil && ctx.Err() == nil && !bytes.Contains(out, []byte("__orig_handler")) {
		d.Fatalf("getmail: %v: %s", err, out)
	}
	if err != nil {
		d.Logf("getmail ran into its own race: %v", err)
	}
	d.fetched(dir)
}

// runImapfilter adds rules, as a person does, below what setup printed.
func runImapfilter(d *desk) {
	d.append(`
for _, found in ipairs(account.INBOX:select_all()) do
  local mailbox, uid = table.unpack(found)
  local file = io.open(os.getenv("HOME") .. "/fetched", "w")
  file:write(mailbox[uid]:fetch_message())
  file:close()
end
`)
	d.program("", "imapfilter", "-t", d.site.ca.File) // as the comment says
	d.fetchedFile(d.path("~/fetched"))
}

// runCurl runs the printed lines as they are: they fetch by IMAP and POP3, and send
// message.eml to TO@example.org.
func runCurl(d *desk) {
	d.sentTo = "TO@example.org"
	d.write("message.eml", d.letter())
	text := d.program("", "sh", "-e", d.file).stdout
	first, second, ok := strings.Cut(text, "..and two")
	if !ok {
		d.Fatalf("curl printed %q", text)
	}
	d.same([]byte(first + "..and two\n"))
	_, second, _ = strings.Cut(second, "From: ")
	d.same([]byte("From: " + second))
	d.sent()
}

// runPython adds what a script does with the connections that it was given.
func runPython(d *desk) {
	d.append(`
import email, os
status, parts = imap.fetch("1", "(RFC822)")
open(os.environ["HOME"] + "/fetched", "wb").write(parts[0][1])
message = email.message_from_file(open("message.eml"))
smtp.send_message(message)
smtp.quit()
imap.logout()
`)
	d.write("message.eml", d.letter())
	d.program("", "python3", d.file)
	d.fetchedFile(d.path("~/fetched"))
	d.sent()
}

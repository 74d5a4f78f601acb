//go:build lab

package e2e

// senders are the programs that send without anybody at a keyboard.
func senders() []client {
	oauthbearer, xoauth2 := []string{"OAUTHBEARER"}, []string{"XOAUTH2"}
	return []client{
		{program: "msmtp", via: "token", methods: oauthbearer, run: runMsmtp},
		{program: "msmtp", via: "token", startTLS: true, methods: oauthbearer, run: runMsmtp},
		{program: "git", via: "token", methods: oauthbearer, run: runGit},
		{program: "s-nail", via: "token", methods: xoauth2, run: runSnail},
		{program: "s-nail", via: "token", startTLS: true, methods: xoauth2, run: runSnail},
		{program: "emacs", via: "token", methods: xoauth2, run: runEmacs},
		{program: "emacs", via: "token", startTLS: true, methods: xoauth2, run: runEmacs},
	}
}

func runMsmtp(d *desk) {
	d.program(d.letter(), "msmtp", d.sentTo)
	d.sent()
}

// runGit sends a commit; its message is the text, and the patch follows.
func runGit(d *desk) {
	d.setup("msmtp", "token")
	d.program("", "git", "init", "-q", "work")
	d.write("work/file", "content\n")
	d.program("", "git", "-C", "work", "add", "file")
	d.program("", "git", "-C", "work", "config", "user.name", "Somebody")
	d.program("", "git", "-C", "work", "config", "user.email", d.who.Email)
	d.program("", "git", "-C", "work", "commit", "-q", "-m", d.subject(), "-m", d.text())
	d.program("", "git", "-C", "work", "send-email", "--to", d.sentTo, "--confirm=never", "--suppress-cc=all", "-1")
	d.sentPatch()
}

// runSnail reads and sends.
func runSnail(d *desk) {
	d.program(d.text(), "s-nail", "-s", d.subject(), d.sentTo)
	d.sent()
	d.program("copy 1 fetched\nexit\n", "s-nail", "-R", "-f", "%")
	d.fetchedFile(d.path("~/fetched"))
}

// runEmacs sends as C-c C-c in a mail buffer does.
func runEmacs(d *desk) {
	d.write("message.eml", "From: "+d.who.Email+"\nTo: "+d.sentTo+"\nSubject: "+d.subject()+"\n--text follows this line--\n"+d.text())
	d.program("", "emacs", "--batch", "-l", d.file, "--eval", `(progn (require 'message) (find-file "message.eml") (message-mode) (message-send))`)
	d.sent()
}

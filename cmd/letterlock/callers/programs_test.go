//go:build lab && linux

package callers

import "slices"

// A program is one that calls sendmail or mail.
type program struct {
	name   string
	user   string // who runs it; empty: root
	as     string // whose account sends; empty: that of user
	script string
	// after ends what script left running, when the mail is there.
	after string
	// args are those that the program calls with; a part of them.
	args string
	// wants are the messages that have to come, in the order of the mailboxes.
	wants []want
	// sample: also tried at Dovecot's submission server.
	sample bool
}

// A want is what a person would look for in the mailbox.
type want struct {
	mailbox string
	name    string // shown with the author's address
	subject string // a part of it
	to      string // the To field
	body    string // a part of it
}

// programs are Debian 12's callers, each run as it is on a computer: daemons as
// daemons, in the foreground only where they would need systemd.
func programs() []program {
	return slices.Concat(schedulers(), mailers(), watchers(), languages())
}

func schedulers() []program {
	return []program{
		{
			// @reboot: the daemon runs it at once and no test waits for the minute.
			name: "cron, system crontab", args: "-FCronDaemon -i -B8BITMIME -oem root", sample: true,
			script: `printf '@reboot root printf "Gr\\303\\274\\303\\237e\\n.\\nafter the dot\\n"\n' >/etc/crontab; env -i PATH=$PATH cron`,
			after:  `kill $(cat /run/crond.pid); while pgrep -x cron >/dev/null; do :; done; rm -f /etc/crontab /run/crond.reboot`,
			wants:  []want{{"ops", "Cron Daemon", `Cron <root@box> printf`, "root", "Grüße\n.\nafter the dot\n"}},
		}, {
			// The daemon has root's HOME here, as in a container, and so has its sendmail.
			name: "cron, a user's crontab", as: "joe", args: "-FCronDaemon -i -B8BITMIME -oem carol@try.test",
			script: `printf 'MAILTO=carol@try.test\n@reboot echo of joe; echo trouble >&2\n' | crontab -u joe -; env -i HOME=/root PATH=$PATH cron`,
			after:  `kill $(cat /run/crond.pid); while pgrep -x cron >/dev/null; do :; done; crontab -u joe -r; rm -f /run/crond.reboot`,
			wants:  []want{{"carol", "Cron Daemon", "Cron <joe@box> echo of joe", "carol@try.test", "of joe\ntrouble\n"}},
		}, {
			name: "at", args: "-i root", sample: true,
			script: `env -i PATH=$PATH atd; echo 'echo at your service' | at now`,
			after:  `kill $(cat /run/atd.pid); while pgrep -x atd >/dev/null; do :; done`,
			wants:  []want{{"ops", "", "Output from your job", "root", "at your service\n"}},
		}, {
			name: "at -m by a user", as: "joe", args: "-i joe",
			script: `env -i PATH=$PATH atd; cd /home/joe; echo true | setpriv --reuid joe --regid joe --init-groups env HOME=/home/joe USER=joe LOGNAME=joe at -m now`,
			after:  `kill $(cat /run/atd.pid); while pgrep -x atd >/dev/null; do :; done`,
			wants:  []want{{"ops", "", "Output from your job", "joe", ""}},
		}, {
			name: "sudo", user: "joe", args: "-t",
			script: `sudo -n id && exit 1 || true`,
			wants:  []want{{"ops", "", "*** SECURITY information for box.try.test ***", "root", "joe : user NOT in sudoers"}},
		}, {
			// A report of a service over files that are there.
			name: "logwatch", args: "-t", sample: true,
			script: `mkdir -p /var/cache/logwatch; printf '%s box sshd[1]: Invalid user eve from 192.0.2.7 port 1\n' "$(LC_ALL=C date '+%b %e %H:%M:%S')" >/var/log/auth.log
				logwatch --output mail --mailto root --range all --service sshd`,
			wants: []want{{"ops", "", "Logwatch for box", "root", "192.0.2.7"}},
		},
	}
}

func mailers() []program {
	return []program{
		{
			name: "mail -s < file", args: "-s Betreff ü root", sample: true,
			script: `printf 'a line\n.\n~! no escape\n' >file; mail -s 'Betreff ü' root <file`,
			wants:  []want{{"ops", "root", "Betreff ü", "root", "a line\n.\n~! no escape\n"}},
		}, {
			name: "mail with header, copies and another sender", args: "-a X-Test: yes",
			script: `echo text | mail -s headers -a 'X-Test: yes' -a 'Content-Type: text/plain; charset=UTF-8' -c carol@try.test -b blind@try.test -r alice@try.test dave@try.test`,
			wants: []want{
				{"blind", "", "headers", "dave@try.test", "text\n"}, {"carol", "", "headers", "dave@try.test", "text\n"}, {"dave", "", "headers", "dave@try.test", "text\n"},
			},
		}, {
			name: "mail with attachments", args: "-A data.bin", sample: true,
			script: `printf 'one\0two' >data.bin; echo text | mail -s attached -A data.bin -a data.bin team`,
			wants: []want{
				{"carol", "", "attached", "team", "b25lAHR3bw=="}, {"dave", "", "attached", "team", "b25lAHR3bw=="},
			},
		}, {
			name: "bsd-mailx", args: "-i -t",
			script: `echo 'body ä' | bsd-mailx -s 'by bsd-mailx' -b blind@try.test team`,
			wants: []want{
				{"blind", "", "by bsd-mailx", "team", "body ä\n"}, {"carol", "", "by bsd-mailx", "team", "body ä\n"}, {"dave", "", "by bsd-mailx", "team", "body ä\n"},
			},
		}, {
			name: "s-nail", args: "-i -- carol@try.test blind@try.test",
			script: `echo 'body ä' | s-nail -:/ -S ttycharset=utf-8 -S v15-compat -s 'by s-nail' -b blind@try.test carol@try.test`,
			wants:  []want{{"blind", "", "by s-nail", "carol@try.test", ""}, {"carol", "", "by s-nail", "carol@try.test", "body"}},
		}, {
			name: "mutt", args: "-oem -oi", sample: true,
			script: `printf 'data\0' >file.bin; echo 'text ü' | mutt -n -F /dev/null -e 'set dsn_notify=failure,delay dsn_return=hdrs' -s 'by mutt' -a file.bin -b blind@try.test -- carol@try.test`,
			wants:  []want{{"blind", "", "by mutt", "carol@try.test", "file.bin"}, {"carol", "", "by mutt", "carol@try.test", "file.bin"}},
		}, {
			name: "neomutt", args: "-oem -oi -f alice@try.test -- carol@try.test",
			script: `echo text | neomutt -n -F /dev/null -e 'set from=alice@try.test use_envelope_from=yes' -s 'by neomutt' -- carol@try.test`,
			wants:  []want{{"carol", "", "by neomutt", "carol@try.test", "text\n"}},
		}, {
			name: "Emacs", args: "-oi -oep -odi -t",
			script: `cat >message.eml <<'END'
From: alice@try.test
To: carol@try.test
Subject: by Emacs
--text follows this line--
text ü
.
end
END
				emacs --batch -l message -l sendmail --eval '(progn (setq user-mail-address "alice@try.test" send-mail-function (quote sendmail-send-it) message-send-mail-function (quote sendmail-send-it)) (find-file "message.eml") (message-mode) (message-send))'`,
			wants: []want{{"carol", "", "by Emacs", "carol@try.test", ""}},
		}, {
			name: "git send-email", args: "-i carol@try.test dave@try.test", sample: true,
			script: `rm -rf work; git init -q work; cd work; git config user.name 'Jörg Git'; git config user.email alice@try.test; echo x >f; git add f; git commit -qm 'add f'
				git send-email --quiet --confirm=never --suppress-cc=all --to=carol@try.test --cc=dave@try.test -1`,
			wants: []want{{"carol", "Jörg Git", "[PATCH] add f", "carol@try.test", "+x\n"}, {"dave", "Jörg Git", "[PATCH] add f", "carol@try.test", "+x\n"}},
		},
	}
}

func watchers() []program {
	return []program{
		{
			// The server itself, told of an address by fail2ban-client: the jail's action
			// runs as at any ban. Starting and stopping a jail are mailed too.
			name: "fail2ban, sendmail action", args: `-f fail2ban root`, sample: true,
			script: jail("sendmail") + `fail2ban-client set lab banip 192.0.2.66; fail2ban-client stop; while pgrep fail2ban-server >/dev/null; do :; done`,
			wants: []want{
				{"ops", "Fail2Ban", "[Fail2Ban] lab: started on", "root", "The jail lab has been started"},
				{"ops", "Fail2Ban", "[Fail2Ban] lab: banned 192.0.2.66", "root", "The IP 192.0.2.66 has just been banned"},
				{"ops", "Fail2Ban", "[Fail2Ban] lab: stopped on", "root", "The jail lab has been stopped"},
			},
		}, {
			name: "fail2ban, mail action", args: "-E set escape -s [Fail2Ban] lab:",
			script: jail("mail") + `fail2ban-client set lab banip 192.0.2.66; fail2ban-client stop; while pgrep fail2ban-server >/dev/null; do :; done`,
			wants: []want{
				{"ops", "root", "[Fail2Ban] lab: started", "root", "The jail lab has been started"},
				{"ops", "root", "[Fail2Ban] lab: banned 192.0.2.66", "root", "The IP 192.0.2.66 has just been banned"},
				{"ops", "root", "[Fail2Ban] lab: stopped", "root", "The jail lab has been stopped"},
			},
		}, {
			// smartd itself; the disk it finds is testdata/disk.c.
			name: "smartd", args: "-s SMART error (EmailTest) detected on host: box root", sample: true,
			script: smartd(""),
			wants:  []want{{"ops", "root", "SMART error (EmailTest) detected on host: box", "root", "TEST EMAIL from smartd for device: /dev/sda"}},
		}, {
			// There is no md driver here for mdadm --monitor --test: this is the command
			// that it gives to popen (it can be read in the binary), and what it writes.
			name: "mdadm", args: "-t", sample: true,
			script: `strings -n 8 /sbin/mdadm | grep -qx '/usr/sbin/sendmail -t' && env -i sh -c '/usr/sbin/sendmail -t' <<'END'
From: mdadm monitoring <root@box.try.test>
To: root
Subject: TestMessage event on /dev/md0:box.try.test

This is an automatically generated mail message from mdadm
running on box.try.test

A TestMessage event had been detected on md device /dev/md0.

Faithfully yours, etc.

P.S. The /proc/mdstat file currently contains the following:

Personalities : [raid1]
md0 : active raid1 sdb1[1] sda1[0]
      1047552 blocks [2/2] [UU]
END`,
			wants: []want{{"ops", "mdadm monitoring", "TestMessage event on /dev/md0", "root", "Faithfully yours, etc.\n"}},
		}, {
			// As Debian's smartd.conf has it.
			name: "smartd-runner", args: "-s SMART error (EmailTest)",
			script: smartd("-M exec /usr/share/smartmontools/smartd-runner"),
			wants:  []want{{"ops", "root", "SMART error (EmailTest)", "root", "TEST EMAIL from smartd for device: /dev/sda"}},
		},
	}
}

// jail is a running fail2ban with one jail and one action. It needs a log file and no
// firewall.
func jail(action string) string {
	return `: >/var/log/lab.log; mkdir -p /run/fail2ban
printf '[Definition]\nfailregex = ^bad <HOST>$\n' >/etc/fail2ban/filter.d/lab.conf
printf '[DEFAULT]\nallowipv6 = auto\n[sshd]\nenabled = false\n[lab]\nenabled = true\nfilter = lab\nbackend = polling\nlogpath = /var/log/lab.log\naction = ` + action + `[name=lab]\n' >/etc/fail2ban/jail.local
rm -f /etc/fail2ban/jail.d/*; printf '[Definition]\nlogtarget = /var/log/fail2ban.log\ndbfile = None\n' >/etc/fail2ban/fail2ban.local
fail2ban-client start
`
}

// smartd is one round of checks with a test mail.
func smartd(more string) string {
	return `[ -e /dev/sda ] || mknod /dev/sda c 1 3; gcc -shared -fPIC -o disk.so disk.c
echo '/dev/sda -d scsi -H -m root -M test ` + more + `' >/etc/smartd.conf; LD_PRELOAD=$PWD/disk.so smartd -q onecheck
`
}

func languages() []program {
	return []program{
		{
			name: "PHP mail()", args: "-t -i", sample: true,
			script: `php -r 'exit(mail("root", "by PHP", "line one\r\nline ü\r\n.\r\nend\r\n", "X-Mailer: PHP\r\nBcc: blind@try.test") ? 0 : 1);'`,
			wants:  []want{{"blind", "root", "by PHP", "root", "line one\nline ü\n.\nend\n"}, {"ops", "root", "by PHP", "root", "line one\nline ü\n.\nend\n"}},
		}, {
			name: "PHP mail() with -f", user: "joe", args: "-t -i -fbob@try.test",
			script: `php -r 'exit(mail("carol@try.test", "by PHP", "text", ["From" => "Shop <shop@try.test>", "MIME-Version" => "1.0"], "-fbob@try.test") ? 0 : 1);'`,
			wants:  []want{{"carol", "Shop", "by PHP", "carol@try.test", "text"}},
		}, {
			name: "Perl, a pipe without -i", args: "-t",
			script: `perl -e 'open my $p, "|-", "/usr/sbin/sendmail -t" or die; print $p "From: perl\nTo: root\nSubject: by Perl\n\nbefore\n.\nafter\n"; close $p or die'`,
			wants:  []want{{"ops", "", "by Perl", "root", "before\n.\nafter\n"}},
		}, {
			name: "Perl, MIME::Lite", args: "-t -oi -oem",
			script: `perl -MMIME::Lite -e 'MIME::Lite->new(From => "alice\@try.test", To => "root", Bcc => "blind\@try.test", Subject => "by MIME::Lite", Data => "h\xe9\n.\n", Type => "text/plain; charset=iso-8859-1")->send or die'`,
			wants:  []want{{"blind", "", "by MIME::Lite", "root", "h\xe9\n.\n"}, {"ops", "", "by MIME::Lite", "root", ""}},
		}, {
			name: "Perl, Email::Sender", args: "-i -f alice@try.test -- carol@try.test",
			script: `perl -MEmail::Simple -MEmail::Sender::Simple=sendmail -MEmail::Sender::Transport::Sendmail -e 'sendmail(Email::Simple->create(header => [From => "alice\@try.test", To => "carol\@try.test", Subject => "by Email::Sender"], body => "text\n"), { transport => Email::Sender::Transport::Sendmail->new })'`,
			wants:  []want{{"carol", "", "by Email::Sender", "carol@try.test", "text\n"}},
		}, {
			name: "Perl, Mail::Mailer", args: "-t",
			script: `perl -MMail::Mailer -e 'my $m = Mail::Mailer->new("sendmail"); $m->open({From => "root", To => "team", Subject => "by Mail::Mailer"}); print $m "text\n"; $m->close or die'`,
			wants:  []want{{"carol", "", "by Mail::Mailer", "team", "text\n"}, {"dave", "", "by Mail::Mailer", "team", "text\n"}},
		}, {
			name: "Python", args: "-t -oi", sample: true,
			script: `python3 -c '
import subprocess
from email.message import EmailMessage
m = EmailMessage()
m["From"], m["To"], m["Bcc"], m["Subject"] = "Jürgen <alice@try.test>", "webmaster", "blind@try.test", "Grüße von Python"
m.set_content("hällo\n.\n")
m.add_attachment(b"\0\1", maintype="application", subtype="octet-stream", filename="ü.bin")
subprocess.run(["/usr/sbin/sendmail", "-t", "-oi"], input=bytes(m), check=True)'`,
			wants: []want{{"blind", "Jürgen", "Grüße von Python", "webmaster", ""}, {"carol", "Jürgen", "Grüße von Python", "webmaster", ""}},
		},
	}
}

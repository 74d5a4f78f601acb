package recipe

import (
	"strings"

	"github.com/letterlock-mail/letterlock/internal/provider"
)

func msmtp(t *text, f Facts, _ Via) {
	if !t.needs("smtp", f.SMTP) {
		return
	}
	t.line("account %s", f.Account)
	t.line("host %s", f.SMTP.Host)
	t.line("port %d", f.SMTP.Port)
	tlsLines(t, f, f.SMTP)
	t.line("user %s", f.User)
	t.line("from %s", f.From)
	t.line("auth %s", f.best())
	t.line(`passwordeval "%s"`, f.token(provider.SMTP))
	t.line("account default : %s", f.Account)
}

func git(t *text, f Facts, _ Via) {
	t.line("# sends with msmtp: letterlock setup msmtp %s", f.Account)
	t.line("# git's user.email should be %s, or one that the server lets it send as", f.From)
	t.line("[sendemail]")
	t.line("\tenvelopeSender = %s", f.From)
	t.line("\tsendmailCmd = msmtp -a %s", f.Account)
}

func curl(t *text, f Facts, _ Via) {
	if f.IMAP.IsZero() && f.SMTP.IsZero() && f.POP3.IsZero() {
		t.missing = "imap"
		return
	}
	authority := ""
	if f.CAFile != "" {
		authority = " --cacert " + f.CAFile
	}
	t.line("# the token goes through a pipe, so that ps does not show it")
	if !f.IMAP.IsZero() {
		t.line("%s | curl -K -%s '%s/INBOX;MAILINDEX=1'", f.token(provider.IMAP, "--curl"), curlTLS(f.IMAP)+authority, curlURL("imap", f.IMAP))
	}
	if !f.POP3.IsZero() {
		t.line("%s | curl -K -%s '%s/1'", f.token(provider.POP3, "--curl"), curlTLS(f.POP3)+authority, curlURL("pop3", f.POP3))
	}
	if !f.SMTP.IsZero() {
		t.line("# --crlf: curl would send bare line feeds from a file that has them")
		t.line("%s | curl -K -%s --crlf --mail-from %s --mail-rcpt TO@example.org --upload-file message.eml '%s'", f.token(provider.SMTP, "--curl"), curlTLS(f.SMTP)+authority, f.From, curlURL("smtp", f.SMTP))
	}
}

func curlURL(scheme string, s provider.MailServer) string {
	if isTLS(s) {
		scheme += "s"
	}
	return scheme + "://" + address(s)
}

func curlTLS(s provider.MailServer) string {
	if isSTARTTLS(s) {
		return " --ssl-reqd"
	}
	return ""
}

func aerc(t *text, f Facts, _ Via) {
	if !t.needs("imap", f.IMAP) {
		return
	}
	scheme := map[provider.Security]string{provider.ImplicitTLS: "imaps", provider.STARTTLS: "imap", provider.Plain: "imap+insecure"}[f.IMAP.Security]
	t.line("[%s]", f.Account)
	t.line("source = %s+%s://%s@%s", scheme, f.best(), f.escaped(), address(f.IMAP))
	t.line("source-cred-cmd = %s", f.token(provider.IMAP))
	if !f.SMTP.IsZero() {
		scheme := map[provider.Security]string{provider.ImplicitTLS: "smtps", provider.STARTTLS: "smtp", provider.Plain: "smtp+insecure"}[f.SMTP.Security]
		t.line("outgoing = %s+%s://%s@%s", scheme, f.best(), f.escaped(), address(f.SMTP))
		t.when(isSTARTTLS(f.SMTP), "smtp-starttls = yes")
		t.line("outgoing-cred-cmd = %s", f.token(provider.SMTP))
	}
	t.line("from = %s", f.From)
	t.line("default = INBOX")
	t.when(f.CAFile != "", "# the server's authority: start aerc with SSL_CERT_FILE=%s", f.CAFile)
}

func snail(t *text, f Facts, _ Via) {
	if f.IMAP.IsZero() && f.SMTP.IsZero() {
		t.missing = "smtp"
		return
	}
	if !f.offers("XOAUTH2") {
		t.cannot("letterlock setup msmtp "+f.Account+" for sending", "s-nail can only do XOAUTH2, and the servers of %s do not offer it", f.Account)
		return
	}
	t.line("set v15-compat")
	t.line("set from=%s", f.From)
	t.line("# s-nail cuts what it reads from there at about 250 bytes: short tokens only")
	t.line("set netrc-lookup netrc-pipe='%s token %s --netrc'", f.command(), f.Account)
	t.line("# what s-nail calls oauthbearer below is XOAUTH2 on the wire")
	t.line("set tls-verify=strict")
	t.line("# wait for the server's answer, so that a refusal is an error")
	t.line("set sendwait")
	t.when(f.CAFile != "", "set tls-ca-file=%s", f.CAFile)
	if !f.SMTP.IsZero() {
		scheme := "smtp"
		if isTLS(f.SMTP) {
			scheme = "smtps"
		}
		t.line("set smtp-auth=oauthbearer")
		t.when(isSTARTTLS(f.SMTP), "set smtp-use-starttls")
		t.line("set mta=%s://%s@%s", scheme, f.escaped(), address(f.SMTP))
	}
	if !f.IMAP.IsZero() {
		scheme := "imap"
		if isTLS(f.IMAP) {
			scheme = "imaps"
		}
		t.line("set imap-auth=oauthbearer")
		t.when(isSTARTTLS(f.IMAP), "set imap-use-starttls")
		t.line("set folder=%s://%s@%s", scheme, f.escaped(), address(f.IMAP))
		t.line("set inbox=%s://%s@%s/INBOX", scheme, f.escaped(), address(f.IMAP))
	}
}

func emacs(t *text, f Facts, _ Via) {
	if !t.needs("smtp", f.SMTP) {
		return
	}
	if !f.offers("XOAUTH2") {
		t.cannot("letterlock setup msmtp "+f.Account+", and message-send-mail-with-sendmail", "smtpmail can only do XOAUTH2, and the server of %s does not offer it", f.Account)
		return
	}
	stream := map[provider.Security]string{provider.ImplicitTLS: "'ssl", provider.STARTTLS: "'starttls", provider.Plain: "'plain"}[f.SMTP.Security]
	for _, line := range []string{
		`(require 'smtpmail)`,
		`(require 'auth-source)`,
		`(require 'subr-x)`,
		`;; a source of secrets that asks letterlock each time`,
		`(defun letterlock-search (&rest spec)`,
		`  (let ((host (plist-get spec :host)))`,
	} {
		t.line("%s", line)
	}
	t.line("    (when (member %q (if (listp host) host (list host)))", f.SMTP.Host)
	t.line("      (list (list :host %q :port \"%d\" :user %q", f.SMTP.Host, f.SMTP.Port, f.User)
	t.line("                  :secret (lambda ()")
	words := strings.Fields(f.token(provider.SMTP))
	t.line("                            (with-temp-buffer")
	t.line("                              ;; standard output only: an error message is no token")
	t.line("                              (call-process %q nil '(t nil) nil", words[0])
	t.line("                                            %s)", strings.ReplaceAll(pythonList(strings.Join(words[1:], " "), "", ""), ",", ""))
	t.line("                              (string-trim (buffer-string)))))))))")
	for _, line := range []string{
		`(add-hook 'auth-source-backend-parser-functions`,
		`          (lambda (entry)`,
		`            (when (eq entry 'letterlock)`,
		`              (auth-source-backend :type 'letterlock :source "."`,
		`                                   :search-function #'letterlock-search))))`,
		`(push 'letterlock auth-sources)`,
		`(setq auth-source-do-cache nil)`,
		`(push 'xoauth2 smtpmail-auth-supported)`,
	} {
		t.line("%s", line)
	}
	t.line("(setq user-mail-address %q", f.From)
	t.line("      send-mail-function 'smtpmail-send-it")
	t.line("      message-send-mail-function 'smtpmail-send-it")
	t.line("      smtpmail-smtp-server %q", f.SMTP.Host)
	t.line("      smtpmail-smtp-service %d", f.SMTP.Port)
	t.line("      smtpmail-smtp-user %q", f.User)
	t.line("      smtpmail-stream-type %s)", stream)
	t.when(f.CAFile != "", "(with-eval-after-load 'gnutls (push %q gnutls-trustfiles))", f.CAFile)
}

func python(t *text, f Facts, _ Via) {
	if f.IMAP.IsZero() && f.SMTP.IsZero() {
		t.missing = "imap"
		return
	}
	t.line("import imaplib, smtplib, ssl, subprocess")
	t.line("")
	t.line("def response(purpose):")
	t.line(`    """What XOAUTH2 wants to hear, with a token that is valid now."""`)
	t.line("    token = subprocess.run(%s, \"token\", %q, \"--for\", purpose],", pythonList(f.command(), "[", ""), f.Account)
	t.line("                           check=True, capture_output=True, text=True).stdout.strip()")
	t.line(`    return f"user=%s\x01auth=Bearer {token}\x01\x01"`, f.User)
	t.line("")
	t.when(f.CAFile != "", "tls = ssl.create_default_context(cafile=%q)", f.CAFile)
	t.when(f.CAFile == "", "tls = ssl.create_default_context()")
	pythonIMAP(t, f)
	pythonSMTP(t, f)
}

func pythonIMAP(t *text, f Facts) {
	if f.IMAP.IsZero() {
		return
	}
	t.line("")
	if isTLS(f.IMAP) {
		t.line("imap = imaplib.IMAP4_SSL(%q, %d, ssl_context=tls)", f.IMAP.Host, f.IMAP.Port)
	} else {
		t.line("imap = imaplib.IMAP4(%q, %d)", f.IMAP.Host, f.IMAP.Port)
	}
	t.when(isSTARTTLS(f.IMAP), "imap.starttls(ssl_context=tls)")
	t.line(`imap.authenticate("XOAUTH2", lambda challenge: response("imap").encode() if not challenge else b"")`)
	t.line(`imap.select("INBOX", readonly=True)`)
}

func pythonSMTP(t *text, f Facts) {
	if f.SMTP.IsZero() {
		return
	}
	t.line("")
	if isTLS(f.SMTP) {
		t.line("smtp = smtplib.SMTP_SSL(%q, %d, context=tls)", f.SMTP.Host, f.SMTP.Port)
	} else {
		t.line("smtp = smtplib.SMTP(%q, %d)", f.SMTP.Host, f.SMTP.Port)
	}
	t.when(isSTARTTLS(f.SMTP), "smtp.starttls(context=tls)")
	t.line("smtp.ehlo()")
	t.line(`smtp.auth("XOAUTH2", lambda challenge=None: "" if challenge else response("smtp"), initial_response_ok=False)`)
	t.line("# smtp.send_message(message)")
}

package recipe

import (
	"strings"

	"github.com/letterlock-mail/letterlock/internal/provider"
)

func mutt(t *text, f Facts, via Via) {
	if f.IMAP.IsZero() && f.SMTP.IsZero() {
		t.missing = "imap"
		return
	}
	authenticators := "oauthbearer:xoauth2"
	if len(f.Mechanisms) > 0 {
		authenticators = strings.ToLower(strings.Join(f.Mechanisms, ":"))
	}
	t.line(`set from="%s"`, f.From)
	if via == Tunnel {
		if t.needs("imap", f.IMAP) {
			t.line(`set imap_user="%s"`, f.User)
			t.line(`set tunnel="%s"`, f.tunnel("imap"))
			t.line(`# the tunnel is encrypted by letterlock; the pipe to it stays on this computer`)
			t.line(`set tunnel_is_secure=yes`)
			t.line(`set folder="imap://%s/"`, f.IMAP.Host)
			t.line(`set spoolfile="+INBOX"`)
		}
		return
	}
	if !f.IMAP.IsZero() {
		scheme := "imap"
		if isTLS(f.IMAP) {
			scheme = "imaps"
		}
		t.line(`set imap_user="%s"`, f.User)
		t.line(`set imap_authenticators="%s"`, authenticators)
		t.line(`set imap_oauth_refresh_command="%s"`, f.token(provider.IMAP))
		t.line(`set folder="%s://%s/"`, scheme, address(f.IMAP))
		t.line(`set spoolfile="+INBOX"`)
	}
	if !f.SMTP.IsZero() {
		scheme := "smtp"
		if isTLS(f.SMTP) {
			scheme = "smtps"
		}
		t.line(`set smtp_url="%s://%s@%s/"`, scheme, f.escaped(), address(f.SMTP))
		t.line(`set smtp_authenticators="%s"`, authenticators)
		t.line(`set smtp_oauth_refresh_command="%s"`, f.token(provider.SMTP))
	}
	t.when(isSTARTTLS(f.IMAP) || isSTARTTLS(f.SMTP), `set ssl_starttls=yes`)
	t.when(f.IMAP.Security != provider.Plain && f.SMTP.Security != provider.Plain, `set ssl_force_tls=yes`)
	t.when(f.CAFile != "", `set ssl_ca_certificates_file="%s"`, f.CAFile)
}

func mpop(t *text, f Facts, _ Via) {
	if !t.needs("pop3", f.POP3) {
		return
	}
	t.line("account %s", f.Account)
	t.line("host %s", f.POP3.Host)
	t.line("port %d", f.POP3.Port)
	tlsLines(t, f, f.POP3)
	t.line("user %s", f.User)
	t.line("auth %s", f.best())
	t.line(`passwordeval "%s"`, f.token(provider.POP3))
	t.line("# a folder with cur, new and tmp in it")
	t.line("delivery maildir ~/Mail/%s", f.Account)
	t.line("keep on")
	t.line("account default : %s", f.Account)
}

// tlsLines are the same in msmtp and mpop.
func tlsLines(t *text, f Facts, s provider.MailServer) {
	if s.Security == provider.Plain {
		t.line("tls off")
		return
	}
	t.line("tls on")
	t.when(isSTARTTLS(s), "tls_starttls on")
	t.when(!isSTARTTLS(s), "tls_starttls off")
	t.when(f.CAFile != "", "tls_trust_file %s", f.CAFile)
	t.when(f.CAFile == "", "tls_trust_file system")
}

func mbsync(t *text, f Facts, via Via) {
	if !t.needs("imap", f.IMAP) {
		return
	}
	t.line("IMAPAccount %s", f.Account)
	if via == Tunnel {
		t.line(`Tunnel "%s"`, f.tunnel("imap"))
	} else {
		if !f.offers("XOAUTH2") {
			t.cannot("letterlock setup mbsync "+f.Account+" --via tunnel", "mbsync can only do XOAUTH2, and the server of %s does not offer it", f.Account)
			return
		}
		t.line("Host %s", f.IMAP.Host)
		t.line("Port %d", f.IMAP.Port)
		t.line("User %s", f.User)
		t.line(`PassCmd "%s"`, f.token(provider.IMAP))
		t.line("# wants Debian's libsasl2-modules-kdexoauth2, or another SASL plug-in for XOAUTH2")
		t.line("AuthMechs XOAUTH2")
		t.line("# from isync 1.5 on this is called TLSType")
		switch {
		case isTLS(f.IMAP):
			t.line("SSLType IMAPS")
		case isSTARTTLS(f.IMAP):
			t.line("SSLType STARTTLS")
		default:
			t.line("SSLType None")
		}
		t.when(f.CAFile != "", "CertificateFile %s", f.CAFile)
	}
	t.line("")
	t.line("IMAPStore %s-remote", f.Account)
	t.line("Account %s", f.Account)
	t.line("")
	t.line("# the folder of Path has to be there")
	t.line("MaildirStore %s-local", f.Account)
	t.line("Path ~/Mail/%s/", f.Account)
	t.line("Inbox ~/Mail/%s/INBOX", f.Account)
	t.line("SubFolders Verbatim")
	t.line("")
	t.line("Channel %s", f.Account)
	t.line("Far :%s-remote:", f.Account)
	t.line("Near :%s-local:", f.Account)
	t.line("Patterns *")
	t.line("Create Near")
	t.line("SyncState *")
}

func offlineimap(t *text, f Facts, via Via) {
	if !t.needs("imap", f.IMAP) {
		return
	}
	t.line("[general]")
	t.line("accounts = %s", f.Account)
	t.line("")
	t.line("[Account %s]", f.Account)
	t.line("localrepository = %s-local", f.Account)
	t.line("remoterepository = %s-remote", f.Account)
	t.line("")
	t.line("[Repository %s-local]", f.Account)
	t.line("type = Maildir")
	t.line("localfolders = ~/Mail/%s", f.Account)
	t.line("")
	t.line("[Repository %s-remote]", f.Account)
	t.line("type = IMAP")
	t.line("remotehost = %s", f.IMAP.Host)
	t.line("remoteuser = %s", f.User)
	if via == Tunnel {
		t.line("preauthtunnel = %s", f.tunnel("imap"))
		return
	}
	if !f.offers("XOAUTH2") {
		t.cannot("letterlock setup offlineimap "+f.Account+" --via tunnel", "offlineimap can only do XOAUTH2, and the server of %s does not offer it", f.Account)
		return
	}
	t.line("remoteport = %d", f.IMAP.Port)
	t.when(isTLS(f.IMAP), "ssl = yes")
	t.when(!isTLS(f.IMAP), "ssl = no")
	t.when(isSTARTTLS(f.IMAP), "starttls = yes")
	t.when(f.IMAP.Security == provider.Plain, "starttls = no")
	t.when(f.CAFile != "", "sslcacertfile = %s", f.CAFile)
	t.when(f.CAFile == "", "sslcacertfile = OS-DEFAULT")
	t.line("auth_mechanisms = XOAUTH2")
	t.line(`oauth2_access_token_eval = __import__("subprocess").run(%s, check=True, capture_output=True, text=True).stdout.strip()`, pythonList(f.token(provider.IMAP), "[", "]"))
}

// pythonList writes a command as Python takes it without a shell.
func pythonList(command, open, shut string) string {
	words := strings.Fields(command)
	for i, word := range words {
		words[i] = `"` + word + `"`
	}
	return open + strings.Join(words, ", ") + shut
}

func getmail(t *text, f Facts, _ Via) {
	if !t.needs("imap", f.IMAP) {
		return
	}
	if !isTLS(f.IMAP) {
		t.cannot("configure the server's port with implicit TLS, usually 993", "getmail wants implicit TLS for tokens")
		return
	}
	if !f.offers("XOAUTH2") {
		t.cannot("letterlock setup fetchmail "+f.Account+" gets in through a tunnel", "getmail can only do XOAUTH2, and the server of %s does not offer it", f.Account)
		return
	}
	t.line("[retriever]")
	t.line("type = SimpleIMAPSSLRetriever")
	t.line("server = %s", f.IMAP.Host)
	t.line("port = %d", f.IMAP.Port)
	t.line("username = %s", f.User)
	t.line("use_xoauth2 = True")
	t.line("password_command = %s", pythonList(f.token(provider.IMAP), "(", ")"))
	t.line(`mailboxes = ("INBOX",)`)
	t.when(f.CAFile != "", "ca_certs = %s", f.CAFile)
	t.line("")
	t.line("# a folder with cur, new and tmp in it")
	t.line("[destination]")
	t.line("type = Maildir")
	t.line("path = ~/Mail/%s/", f.Account)
	t.line("")
	t.line("[options]")
	t.line("read_all = false")
}

func imapfilter(t *text, f Facts, _ Via) {
	if !t.needs("imap", f.IMAP) {
		return
	}
	if !f.offers("XOAUTH2") {
		t.cannot("letterlock setup mutt "+f.Account, "imapfilter can only do XOAUTH2, and the server of %s does not offer it", f.Account)
		return
	}
	t.line("local function token()")
	t.line("  local pipe = io.popen(%q)", f.token(provider.IMAP, "--sasl", "xoauth2"))
	t.line(`  local line = pipe:read("*l")`)
	t.line("  pipe:close()")
	t.line("  return line")
	t.line("end")
	t.line("")
	t.when(f.CAFile != "", "-- the server's authority: start imapfilter with -t %s", f.CAFile)
	t.line("account = IMAP {")
	t.line("  server = %q,", f.IMAP.Host)
	t.line("  port = %d,", f.IMAP.Port)
	t.line("  username = %q,", f.User)
	t.line("  oauth2 = token(),")
	t.when(isTLS(f.IMAP), `  ssl = "auto",`)
	t.line("}")
}

func fetchmail(t *text, f Facts, _ Via) {
	if !t.needs("imap", f.IMAP) {
		return
	}
	t.line("poll %s", f.IMAP.Host)
	t.line("  protocol imap")
	t.line("  auth ssh")
	t.line("  plugin %q", f.tunnel("imap"))
	t.line("  username %q", f.User)
	t.line("  # the tunnel is encrypted by letterlock")
	t.line("  sslproto ''")
	t.line("  keep")
}

func alpine(t *text, f Facts, _ Via) {
	if !t.needs("imap", f.IMAP) {
		return
	}
	// Alpine runs the file itself: no shell, no search in PATH. Of its format only the
	// first %s is used, the path.
	path, rest, _ := strings.Cut(f.tunnel("imap"), " ")
	if f.Path != "" {
		path = f.Path
	}
	t.line("ssh-path=%s", path)
	t.line("ssh-command=%%s %s", rest)
	t.line("ssh-open-timeout=30")
	t.line("inbox-path={%s/user=%s}INBOX", f.IMAP.Host, f.User)
	if name, domain, ok := strings.Cut(f.From, "@"); ok {
		t.line("user-id=%s", name)
		t.line("user-domain=%s", domain)
	}
}

package config

import "time"

// Portal is the [portal] section: what the pages tell people, and what they ask for.
type Portal struct {
	Name string // of the service, for people and mail programs
	// Servers of mail programs, HOST:PORT; empty: not told.
	IMAP, POP3, Submission, Sieve string
	// Fresh is how long a sign-in is good for making app passwords, for allowing programs and for
	// admin pages.
	Fresh time.Duration
	// AdminAtProvider: the provider's sign-in is enough for admin pages.
	AdminAtProvider bool
}

func portalFields() []field[Portal] {
	type p = Portal
	return []field[p]{
		{"name", "what the mail service is called, for people and mail programs; default: the first of domains", `"Example Project"`, text(func(v *p) *string { return &v.Name }, filled)},
		{"imap", "where mail programs read mail, HOST:PORT; TLS from the first byte on ports 993, 995 and 465, else STARTTLS", `"imap.example.org:993"`, text(func(v *p) *string { return &v.IMAP }, hostPort)},
		{"pop3", "where they fetch it", `"pop.example.org:995"`, text(func(v *p) *string { return &v.POP3 }, hostPort)},
		{"submission", "where they send it", `"smtp.example.org:465"`, text(func(v *p) *string { return &v.Submission }, hostPort)},
		{"sieve", "where they change filters (ManageSieve)", `"imap.example.org:4190"`, text(func(v *p) *string { return &v.Sieve }, hostPort)},
		{"fresh", "how long a sign-in is good for making app passwords, for allowing programs and for admin pages; default: \"15m\"", `"15m"`, duration(func(v *p) *time.Duration { return &v.Fresh }, time.Minute, 24*time.Hour)},
		{"admin_at_provider", "a fresh sign-in at the provider is enough for admin pages, because it asks for a second factor itself; default: false, which wants a second factor here", `false`, boolean(func(v *p) *bool { return &v.AdminAtProvider })},
	}
}

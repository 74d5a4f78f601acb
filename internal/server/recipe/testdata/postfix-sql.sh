#!/bin/sh
# Postfix 3.7.11 goes on without letterlockd, by SQL: sign-in and senders at submission/inet and submissions/inet, aliases and
# recipients everywhere.
# Run this as root; the way back stands at its end.
#
# By SQL alone Postfix cannot know, and so:
#   - Nobody looks at the From field: only the envelope's sender is held to its owner.
#     MAIL FROM:<> is open to everybody who signed in.
#   - App passwords with recipients or messages an hour of their own do not sign in here at
#     all, whether letterlockd runs or not. Limits of networks, protocols, senders and
#     expiry hold.
#   - People whom letterlockd does not know send as the name they sign in by, nothing else.
#   - Guesses are slowed by Dovecot's own penalty alone while letterlockd is away.
#   - While letterlockd is away ann@example.org is the oldest of Ann's app passwords, and
#     each of them signs in as ann+label@example.org. Revocations are felt at once.
#   - Postfix says 535 (wrong password), not 454 (later), while Dovecot cannot ask: so set
#     up Dovecot by "config dovecot --sql" or "--sql-only".
# "config postfix" without --sql has none of these gaps, and needs letterlockd running.
set -e

# The tables. proxymap, which opens them, runs as postfix and outside the chroot.
umask 077
cat >'/etc/postfix/letterlock-senders.cf' <<'EOF'
# Letterlock: who may send as an address.
hosts = db.example.org:5432
dbname = letterlock
user = postfix
password = hush
query = SELECT login FROM postfix_sender_login WHERE address = '%s' UNION SELECT '%s' WHERE '%u' NOT LIKE '%%+%%' AND NOT EXISTS (SELECT 1 FROM postfix_sender_login WHERE address IN ('%s', '@%d'))
domain = example.org, example.net
EOF
chgrp postfix '/etc/postfix/letterlock-senders.cf'
chmod 640 '/etc/postfix/letterlock-senders.cf'
cat >'/etc/postfix/letterlock-senders-catchall.cf' <<'EOF'
# Letterlock: who may send as an address, for whole domains.
hosts = db.example.org:5432
dbname = letterlock
user = postfix
password = hush
query = SELECT login FROM postfix_sender_login WHERE address = '%s' AND address LIKE '@%%'
EOF
chgrp postfix '/etc/postfix/letterlock-senders-catchall.cf'
chmod 640 '/etc/postfix/letterlock-senders-catchall.cf'
cat >'/etc/postfix/letterlock-aliases.cf' <<'EOF'
# Letterlock: where mail for an address goes.
hosts = db.example.org:5432
dbname = letterlock
user = postfix
password = hush
query = SELECT target FROM postfix_alias WHERE address = '%s'
domain = example.org, example.net
EOF
chgrp postfix '/etc/postfix/letterlock-aliases.cf'
chmod 640 '/etc/postfix/letterlock-aliases.cf'
cat >'/etc/postfix/letterlock-aliases-catchall.cf' <<'EOF'
# Letterlock: where mail for an address goes, for whole domains.
hosts = db.example.org:5432
dbname = letterlock
user = postfix
password = hush
query = SELECT target FROM postfix_alias WHERE address = '%s' AND address LIKE '@%%'
EOF
chgrp postfix '/etc/postfix/letterlock-aliases-catchall.cf'
chmod 640 '/etc/postfix/letterlock-aliases-catchall.cf'
cat >'/etc/postfix/letterlock-recipients.cf' <<'EOF'
# Letterlock: the mailboxes there are.
hosts = db.example.org:5432
dbname = letterlock
user = postfix
password = hush
query = SELECT mailbox FROM postfix_recipient WHERE address = '%s'
domain = example.org, example.net
EOF
chgrp postfix '/etc/postfix/letterlock-recipients.cf'
chmod 640 '/etc/postfix/letterlock-recipients.cf'
# Aliases: what is there is asked first.
postconf -e 'virtual_alias_maps=proxy:pgsql:/etc/postfix/letterlock-aliases.cf, proxy:pgsql:/etc/postfix/letterlock-aliases-catchall.cf'
# Recipients: the mailboxes that were there stay.
postconf -e 'virtual_mailbox_maps=inline:{{a@b=c, d}}, proxy:pgsql:/etc/postfix/letterlock-recipients.cf'
# What a service of master.cf names is not among those that proxymap opens by itself.
postconf -e 'proxy_read_maps=$local_recipient_maps $virtual_alias_maps, proxy:pgsql:/etc/postfix/letterlock-senders.cf, proxy:pgsql:/etc/postfix/letterlock-senders-catchall.cf, proxy:pgsql:/etc/postfix/letterlock-aliases.cf, proxy:pgsql:/etc/postfix/letterlock-aliases-catchall.cf, proxy:pgsql:/etc/postfix/letterlock-recipients.cf'

# submission/inet
# What is set there today:
#   -o milter_macro_daemon_name=ORIGINATING               kept
#   -o smtpd_client_restrictions=                         kept
#   -o smtpd_helo_restrictions=                           kept
#   -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject kept
#   -o smtpd_reject_unlisted_recipient=no                 kept
#   -o smtpd_relay_restrictions=                          kept
#   -o smtpd_sasl_auth_enable=yes                         kept
#   -o smtpd_sender_restrictions=                         changed: ours first, because a permit ends the list
#   -o smtpd_tls_auth_only=yes                            kept
#   -o smtpd_tls_security_level=encrypt                   kept
#   -o syslog_name=postfix/submission                     kept
# Sign-in, by Dovecot.
postconf -P 'submission/inet/smtpd_sasl_auth_enable=yes'
postconf -P 'submission/inet/smtpd_sasl_type=dovecot'
postconf -P 'submission/inet/smtpd_sasl_path=private/letterlock-auth'
postconf -P 'submission/inet/smtpd_sasl_security_options=noanonymous'
# No secret before TLS.
postconf -P 'submission/inet/smtpd_tls_auth_only=yes'
# Nobody sends as another: the envelope.
postconf -P 'submission/inet/smtpd_sender_login_maps=proxy:pgsql:/etc/postfix/letterlock-senders.cf,proxy:pgsql:/etc/postfix/letterlock-senders-catchall.cf'
postconf -P 'submission/inet/smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch'
# A message ends in one way only (CVE-2023-51764).
postconf -P 'submission/inet/smtpd_forbid_bare_newline=normalize'

# submissions/inet
# Sign-in, by Dovecot.
postconf -P 'submissions/inet/smtpd_sasl_auth_enable=yes'
postconf -P 'submissions/inet/smtpd_sasl_type=dovecot'
postconf -P 'submissions/inet/smtpd_sasl_path=private/letterlock-auth'
postconf -P 'submissions/inet/smtpd_sasl_security_options=noanonymous'
# No secret before TLS.
postconf -P 'submissions/inet/smtpd_tls_auth_only=yes'
# Nobody sends as another: the envelope.
postconf -P 'submissions/inet/smtpd_sender_login_maps=proxy:pgsql:/etc/postfix/letterlock-senders.cf,proxy:pgsql:/etc/postfix/letterlock-senders-catchall.cf'
postconf -P 'submissions/inet/smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch,permit_mynetworks'
# A message ends in one way only (CVE-2023-51764).
postconf -P 'submissions/inet/smtpd_forbid_bare_newline=normalize'

postfix check
postfix reload

# The way back to what stands there today:
#   postconf -P 'submission/inet/smtpd_sasl_auth_enable=yes'
#   postconf -PX 'submission/inet/smtpd_sasl_type'
#   postconf -PX 'submission/inet/smtpd_sasl_path'
#   postconf -PX 'submission/inet/smtpd_sasl_security_options'
#   postconf -P 'submission/inet/smtpd_tls_auth_only=yes'
#   postconf -PX 'submission/inet/smtpd_sender_login_maps'
#   postconf -P 'submission/inet/smtpd_sender_restrictions='
#   postconf -PX 'submission/inet/smtpd_forbid_bare_newline'
#   postconf -PX 'submissions/inet/smtpd_sasl_auth_enable'
#   postconf -PX 'submissions/inet/smtpd_sasl_type'
#   postconf -PX 'submissions/inet/smtpd_sasl_path'
#   postconf -PX 'submissions/inet/smtpd_sasl_security_options'
#   postconf -PX 'submissions/inet/smtpd_tls_auth_only'
#   postconf -PX 'submissions/inet/smtpd_sender_login_maps'
#   postconf -PX 'submissions/inet/smtpd_sender_restrictions'
#   postconf -PX 'submissions/inet/smtpd_forbid_bare_newline'
#   postconf -X virtual_alias_maps
#   postconf -e 'virtual_mailbox_maps=inline:{{a@b=c, d}}'
#   postconf -X proxy_read_maps
#   rm -f '/etc/postfix/letterlock-senders.cf'
#   rm -f '/etc/postfix/letterlock-senders-catchall.cf'
#   rm -f '/etc/postfix/letterlock-aliases.cf'
#   rm -f '/etc/postfix/letterlock-aliases-catchall.cf'
#   rm -f '/etc/postfix/letterlock-recipients.cf'
#   postfix reload

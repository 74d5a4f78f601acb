#!/bin/sh
# Postfix 3.7.11 asks letterlockd, at submission/inet and submissions/inet only: nothing changes for mail from elsewhere.
# Which recipients there are is not its business here; with --recipients it is.
# Run this as root; the way back stands at its end.
set -e

# Postfix shows a milter nothing behind a NUL, and some readers read on there. Only a cleanup
# service can refuse it: these services get one of their own, like the one they have.
postconf -M 'letterlock-cleanup/unix=letterlock-cleanup unix n - y - 0 cleanup -o header_checks=pcre:/etc/postfix/headers'
postconf -P 'letterlock-cleanup/unix/message_reject_characters=\0'

# submission/inet
# What is set there today:
#   -o smtpd_sasl_auth_enable=yes                         kept
# Sign-in, by letterlockd's socket in Dovecot's protocol.
postconf -P 'submission/inet/smtpd_sasl_auth_enable=yes'
postconf -P 'submission/inet/smtpd_sasl_type=dovecot'
postconf -P 'submission/inet/smtpd_sasl_path=letterlock/sasl'
postconf -P 'submission/inet/smtpd_sasl_security_options=noanonymous'
# No secret before TLS.
postconf -P 'submission/inet/smtpd_tls_auth_only=yes'
# Nobody sends as another: the envelope.
postconf -P 'submission/inet/smtpd_sender_login_maps=socketmap:unix:letterlock/senders:senders'
postconf -P 'submission/inet/smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch'
# Nobody sends as another: the From header; and the limits of app passwords.
postconf -P 'submission/inet/smtpd_milters=inet:127.0.0.1:11332,inet:127.0.0.1:12004'
postconf -P 'submission/inet/cleanup_service_name=letterlock-cleanup'
# While letterlockd is away mail waits with its sender; it is never let through unchecked.
postconf -P 'submission/inet/milter_default_action=tempfail'
# A message ends in one way only (CVE-2023-51764).
postconf -P 'submission/inet/smtpd_forbid_bare_newline=normalize'

# submissions/inet
# Sign-in, by letterlockd's socket in Dovecot's protocol.
postconf -P 'submissions/inet/smtpd_sasl_auth_enable=yes'
postconf -P 'submissions/inet/smtpd_sasl_type=dovecot'
postconf -P 'submissions/inet/smtpd_sasl_path=letterlock/sasl'
postconf -P 'submissions/inet/smtpd_sasl_security_options=noanonymous'
# No secret before TLS.
postconf -P 'submissions/inet/smtpd_tls_auth_only=yes'
# Nobody sends as another: the envelope.
postconf -P 'submissions/inet/smtpd_sender_login_maps=socketmap:unix:letterlock/senders:senders'
postconf -P 'submissions/inet/smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch'
# Nobody sends as another: the From header; and the limits of app passwords.
postconf -P 'submissions/inet/smtpd_milters=inet:127.0.0.1:11332,inet:127.0.0.1:12004'
postconf -P 'submissions/inet/cleanup_service_name=letterlock-cleanup'
# While letterlockd is away mail waits with its sender; it is never let through unchecked.
postconf -P 'submissions/inet/milter_default_action=tempfail'
# A message ends in one way only (CVE-2023-51764).
postconf -P 'submissions/inet/smtpd_forbid_bare_newline=normalize'

postfix check
postfix reload

# The way back to what stands there today:
#   postconf -P 'submission/inet/smtpd_sasl_auth_enable=yes'
#   postconf -PX 'submission/inet/smtpd_sasl_type'
#   postconf -PX 'submission/inet/smtpd_sasl_path'
#   postconf -PX 'submission/inet/smtpd_sasl_security_options'
#   postconf -PX 'submission/inet/smtpd_tls_auth_only'
#   postconf -PX 'submission/inet/smtpd_sender_login_maps'
#   postconf -PX 'submission/inet/smtpd_sender_restrictions'
#   postconf -PX 'submission/inet/smtpd_milters'
#   postconf -PX 'submission/inet/cleanup_service_name'
#   postconf -PX 'submission/inet/milter_default_action'
#   postconf -PX 'submission/inet/smtpd_forbid_bare_newline'
#   postconf -PX 'submissions/inet/smtpd_sasl_auth_enable'
#   postconf -PX 'submissions/inet/smtpd_sasl_type'
#   postconf -PX 'submissions/inet/smtpd_sasl_path'
#   postconf -PX 'submissions/inet/smtpd_sasl_security_options'
#   postconf -PX 'submissions/inet/smtpd_tls_auth_only'
#   postconf -PX 'submissions/inet/smtpd_sender_login_maps'
#   postconf -PX 'submissions/inet/smtpd_sender_restrictions'
#   postconf -PX 'submissions/inet/smtpd_milters'
#   postconf -PX 'submissions/inet/cleanup_service_name'
#   postconf -PX 'submissions/inet/milter_default_action'
#   postconf -PX 'submissions/inet/smtpd_forbid_bare_newline'
#   postconf -MX letterlock-cleanup/unix
#   postfix reload

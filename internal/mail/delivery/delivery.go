// Package delivery takes one envelope away: by SMTP submission with a token, by the
// Gmail and Microsoft Graph APIs, directly to MX, by LMTP, or into a Maildir. It is
// the queue's Carrier and keeps nothing itself.
package delivery

package main

import "github.com/spf13/cobra"

// topics are pages of `letterlock help` that belong to no single command.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "files", Short: "where everything is kept", Long: `Configuration   $XDG_CONFIG_HOME/letterlock/config.toml (else ~/.config/letterlock/config.toml);
                with --system /etc/letterlock/letterlock.toml; see letterlock.toml(5)
Grants          $XDG_STATE_HOME/letterlock/grants (else ~/.local/state/letterlock/grants);
                with --system /var/lib/letterlock/grants: one encrypted file an account
Keys            the folder keys beside them: what opens the grants, itself protected
                by the key source, or lying there in plain text with the source "file"

Letterlock wants these folders at mode 0700 and the files in them at 0600, all its
own, and refuses to use them otherwise: somebody may have read them.`},
		{Use: "keys", Short: "what protects grants on disk", Long: `A grant is always encrypted, to a key that only the key source can produce:

keyring     the desktop's keyring (Secret Service): unlocked when you log in
gpg         gpg and its agent; smart cards work
passphrase  one of your own, typed once for the agent (letterlock agent unlock), which
            holds the key in memory until it ends or letterlock agent lock; without an
            agent every command asks at its terminal
systemd     a credential of the unit (LoadCredential=, LoadCredentialEncrypted=)
command     what a command of your own prints: pass, a password manager, a smart card
pipe        any two commands of your own that encrypt and decrypt
file        a file beside the grants: whoever can read this disk can use them

Login takes keyring or gpg when they are usable. A timer or a cron job cannot be asked
to unlock anything: give it the agent and --key passphrase, or an account of its own
with login --account NAME --key file (--send-only if it only sends), or a credential.
When a key is locked and nobody can be asked, commands end within five seconds with
exit code 75; the agent tells you by [notify] when that holds up tokens or mail.

A credential is made once, as root, and bound to this machine (or its TPM):

  letterlock keygen | systemd-creds encrypt --name=letterlock-key - \
      /etc/credstore.encrypted/letterlock-key

A unit gets it by LoadCredentialEncrypted=letterlock-key. Sign in inside of one
(systemd-run --pty --pipe -p LoadCredentialEncrypted=letterlock-key letterlock login
ADDRESS --key systemd), or give the public half that keygen tells as recipient in
[key.systemd]: then login needs no unit. For a password store:

  letterlock keygen | pass insert --multiline letterlock
  [key.command]
  command = ["pass", "show", "letterlock"]

The passphrase's key is the age file keys/passphrase.age; age -d opens it too. Each
attempt costs about a second and 256 MB of memory.

The default, and settings of a source, are in letterlock.toml(5).`},
		{Use: "exit-codes", Short: "what the exit codes mean", Long: `The codes are those of sysexits(3), which mail programs know:

 0   done
64   the command line is wrong
65   the input is wrong, or a stored file is damaged
67   there is no such account, or an address is wrong
69   the provider or a server cannot do this
70   a fault in Letterlock: please report it
73   an output file cannot be made
75   try again later: no network, a locked key, another process at work
77   sign in again, or something is not permitted
78   the configuration is wrong

On any of them token prints nothing on standard output.`},
	}
}

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/sasl"
)

// oneToken checks that a command printed one line with one token, which is what mail
// programs take from it.
func oneToken(out string) (string, error) {
	token := strings.TrimSuffix(out, "\n")
	if !regexp.MustCompile(`\Allat_[A-Za-z0-9_-]{43}\z`).MatchString(token) {
		return "", fmt.Errorf("it printed %d bytes that are not one line with a token", len(out))
	}
	return token, nil
}

// onlyEncrypted looks through every file below home: none may hold the token, as it
// is or in base64, and there has to be an age file, or nothing was kept at all.
func onlyEncrypted(home, token string) error {
	random := strings.TrimPrefix(token, "llat_")
	forms := []string{random, strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(random)), "=")}
	encrypted := 0
	err := filepath.WalkDir(home, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, form := range forms {
			if bytes.Contains(data, []byte(form)) {
				return fmt.Errorf("the token lies open in %s", filepath.Base(path))
			}
		}
		if bytes.HasPrefix(data, []byte("age-encryption.org/")) {
			encrypted++
		}
		return nil
	})
	if err == nil && encrypted == 0 {
		err = errors.New("no encrypted file was found: nothing was kept")
	}
	return err
}

// muttCommand reads the command that mutt would run for IMAP out of what
// `letterlock setup mutt` printed. It is run without a shell, so
// it must need none; the program it names is the one that printed it.
func muttCommand(config string) ([]string, error) {
	found := regexp.MustCompile(`(?m)^set imap_oauth_refresh_command="\S*letterlock\S* (token [a-z0-9@. =-]+)"$`).FindStringSubmatch(config)
	if found == nil {
		return nil, errors.New("it printed no imap_oauth_refresh_command")
	}
	return strings.Fields(found[1]), nil
}

// A report is what counts of `letterlock test --json`.
type report struct {
	Ownership string `json:"ownership"`
	Checks    []struct {
		Protocol  string `json:"protocol"`
		Mechanism string `json:"mechanism"`
		Steps     []struct {
			Name    string `json:"step"`
			Outcome string `json:"outcome"`
			Detail  string `json:"detail"`
		} `json:"steps"`
	} `json:"checks"`
}

// proven reads the report: each server has to have been logged in to by each
// mechanism, with every step good, by a token of the mailbox's owner.
func proven(out string) (string, error) {
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return "", fmt.Errorf("read its report: %w", err)
	}
	good := map[string]bool{}
	for _, check := range r.Checks {
		for _, step := range check.Steps {
			if step.Outcome != "ok" {
				return "", fmt.Errorf("%s by %s: %s %s: %s", check.Protocol, check.Mechanism, step.Name, step.Outcome, step.Detail)
			}
		}
		good[check.Protocol+" "+check.Mechanism] = len(check.Steps) > 0
	}
	for _, protocol := range []upstream.Protocol{upstream.IMAP, upstream.SMTP} {
		for _, mechanism := range []string{sasl.XOAuth2, sasl.OAuthBearer} {
			if !good[string(protocol)+" "+mechanism] {
				return "", fmt.Errorf("%s by %s was not tested", protocol, mechanism)
			}
		}
	}
	if r.Ownership != "same" {
		return "", fmt.Errorf("the token's owner and the mailbox: %q", r.Ownership)
	}
	return "XOAUTH2 ok, OAUTHBEARER ok", nil
}

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
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

// proveMail logs in to each server by each mechanism and looks at the mailbox.
func proveMail(ctx context.Context, servers mailServers, ca *lab.CA, token string) (string, error) {
	for _, mechanism := range []string{sasl.XOAuth2, sasl.OAuthBearer} {
		for _, end := range servers.ends() {
			if err := logIn(ctx, end, ca, mechanism, token); err != nil {
				return "", fmt.Errorf("%s by %s: %w", end.protocol, mechanism, err)
			}
		}
	}
	return "XOAUTH2 ok, OAUTHBEARER ok", nil
}

func logIn(ctx context.Context, end mailEnd, ca *lab.CA, mechanism, token string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := upstream.Dial(ctx, end.protocol, end.server, upstream.Options{TLS: ca.Client()})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Authenticate(ctx, upstream.Login{User: address, Mechanisms: []string{mechanism}, Token: secret.New(token)}); err != nil {
		return err
	}
	return conn.Check(ctx)
}

// refusesPasswords proves that no server offers a mechanism that takes a password.
func refusesPasswords(ctx context.Context, servers mailServers, ca *lab.CA) error {
	for _, end := range servers.ends() {
		offered, err := mechanisms(ctx, end, ca)
		if err != nil {
			return err
		}
		for _, mechanism := range offered {
			if !sasl.IsToken(mechanism) {
				return fmt.Errorf("%s offers %s, which takes a password", end.protocol, mechanism)
			}
		}
	}
	return nil
}

func mechanisms(ctx context.Context, end mailEnd, ca *lab.CA) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := upstream.Dial(ctx, end.protocol, end.server, upstream.Options{TLS: ca.Client()})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.Mechanisms(), nil
}

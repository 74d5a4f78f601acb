package main

import (
	"net/http"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// signIn adds the pages of sign-in.
func (l *plan) signIn(*program, *http.ServeMux, *web.Sessions, secret.Master) error {
	return nil
}

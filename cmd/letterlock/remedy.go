package main

import "github.com/letterlock-mail/letterlock/internal/oauth"

// remedy is the error book's advice on a provider's answer.
func remedy(answer *oauth.Error) string {
	return "letterlock explain " + shellWord(answer.Code) + " tells more"
}

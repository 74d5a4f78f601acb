package identity

import "strings"

const outsidePrefix = "outside:"

// OutsideClient is the client id that stands in grants for a client of another issuer, whose
// own tokens are let in. No other client id has a colon in it, and no issuer a blank.
func OutsideClient(issuer, client string) ClientID {
	return ClientID(outsidePrefix + issuer + " " + client)
}

// Outside says which client of which issuer an id of OutsideClient stands for.
func (c ClientID) Outside() (issuer, client string, ok bool) {
	rest, ok := strings.CutPrefix(string(c), outsidePrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, " ")
}

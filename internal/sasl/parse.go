package sasl

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// ParsePlain reads the message of PLAIN (RFC 4616 section 2).
func ParsePlain(message []byte) (Credentials, error) {
	if len(message) > MaxMessage {
		return Credentials{}, tooLong()
	}
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 {
		return Credentials{}, fmt.Errorf("%w: PLAIN has three fields", ErrMalformed)
	}
	c := Credentials{
		Mechanism: Plain, Authzid: string(parts[0]), User: string(parts[1]),
		Secret: secret.New(string(parts[2])),
	}
	if c.User == "" {
		return Credentials{}, fmt.Errorf("%w: empty user name", ErrMalformed)
	}
	if err := CheckUser(c.Authzid); err != nil {
		return Credentials{}, err
	}
	return checked(c, checkPassword)
}

// ParseXOAuth2 reads the first message of XOAUTH2: user=NAME ^A auth=Bearer TOKEN
// ^A ^A. Fields of other names are ignored: Yahoo's clients send a vendor field.
func ParseXOAuth2(message []byte) (Credentials, error) {
	if len(message) > MaxMessage {
		return Credentials{}, tooLong()
	}
	body, ok := strings.CutSuffix(string(message), "\x01\x01")
	if !ok {
		return Credentials{}, fmt.Errorf("%w: XOAUTH2 ends with two CTRL-A", ErrMalformed)
	}
	fields, err := pairs(body)
	if err != nil {
		return Credentials{}, err
	}
	c := Credentials{Mechanism: XOAuth2, User: fields["user"]}
	if c.User == "" {
		return Credentials{}, fmt.Errorf("%w: empty user name", ErrMalformed)
	}
	if c.Secret, err = bearer(fields); err != nil {
		return Credentials{}, err
	}
	return checked(c, CheckToken)
}

// ParseOAuthBearer reads client-resp of RFC 7628 section 3.1. The user may be empty:
// then the token alone says who it is.
func ParseOAuthBearer(message []byte) (Credentials, error) {
	if len(message) > MaxMessage {
		return Credentials{}, tooLong()
	}
	header, rest, ok := strings.Cut(string(message), "\x01")
	if !ok {
		return Credentials{}, fmt.Errorf("%w: no key-value pairs", ErrMalformed)
	}
	c := Credentials{Mechanism: OAuthBearer}
	var err error
	if c.User, err = gs2User(header); err != nil {
		return Credentials{}, err
	}
	body, ok := strings.CutSuffix(rest, "\x01\x01")
	if !ok {
		return Credentials{}, fmt.Errorf("%w: OAUTHBEARER ends with two CTRL-A", ErrMalformed)
	}
	fields, err := pairs(body)
	if err != nil {
		return Credentials{}, err
	}
	if c.Secret, err = bearer(fields); err != nil {
		return Credentials{}, err
	}
	c.Host = fields["host"]
	if text := fields["port"]; text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return Credentials{}, fmt.Errorf("%w: not a port", ErrMalformed)
		}
		c.Port = int(port)
	}
	if err := checkHost(c.Host, c.Port); err != nil {
		return Credentials{}, err
	}
	return checked(c, CheckToken)
}

func checked(c Credentials, check func(secret.String) error) (Credentials, error) {
	if err := CheckUser(c.User); err != nil {
		return Credentials{}, err
	}
	if err := check(c.Secret); err != nil {
		return Credentials{}, err
	}
	return c, nil
}

// gs2User reads a gs2-header without its last comma's successor: RFC 5801 section 4.
func gs2User(header string) (string, error) {
	flag, rest, ok := strings.Cut(header, ",")
	authzid, end, closed := strings.Cut(rest, ",")
	if !ok || !closed || end != "" {
		return "", fmt.Errorf("%w: gs2 header", ErrMalformed)
	}
	// "y": the client could bind to the channel and thinks we cannot, which is so.
	// "p=": it did bind, and to accept that without checking would be a lie.
	if flag != "n" && flag != "y" {
		return "", fmt.Errorf("%w: channel binding is not supported", ErrMalformed)
	}
	if authzid == "" {
		return "", nil
	}
	name, ok := strings.CutPrefix(authzid, "a=")
	if !ok || name == "" {
		return "", fmt.Errorf("%w: gs2 header", ErrMalformed)
	}
	return unescape(name)
}

// unescape reads a saslname, in which every "=" begins =2C or =3D.
func unescape(name string) (string, error) {
	var b strings.Builder
	for name != "" {
		before, after, found := strings.Cut(name, "=")
		b.WriteString(before)
		if !found {
			break
		}
		if len(after) < 2 {
			return "", fmt.Errorf("%w: escape in the user name", ErrMalformed)
		}
		switch strings.ToUpper(after[:2]) {
		case "2C":
			b.WriteByte(',')
		case "3D":
			b.WriteByte('=')
		default:
			return "", fmt.Errorf("%w: escape in the user name", ErrMalformed)
		}
		name = after[2:]
	}
	return b.String(), nil
}

// pairs reads key=value fields between CTRL-A. A field twice is refused: two readers
// would disagree on which one counts.
func pairs(body string) (map[string]string, error) {
	fields := make(map[string]string, 4)
	for field := range strings.SplitSeq(body, "\x01") {
		key, value, ok := strings.Cut(field, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%w: field without a name", ErrMalformed)
		}
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("%w: a field comes twice", ErrMalformed)
		}
		fields[key] = value
	}
	return fields, nil
}

// bearer takes the token out of the auth field. The scheme's case does not count
// (RFC 9110 section 11.1).
func bearer(fields map[string]string) (secret.String, error) {
	scheme, token, ok := strings.Cut(fields["auth"], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return secret.String{}, fmt.Errorf("%w: no bearer token", ErrMalformed)
	}
	return secret.New(strings.Trim(token, " ")), nil
}

func tooLong() error { return fmt.Errorf("%w: over %d bytes", ErrMalformed, MaxMessage) }

package trymail

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// maxReply is socketmap_table(5)'s own limit.
const maxReply = 100_000

// owners are the login names that may send as an address: who signed in, or whom
// the socketmap names, as Postfix's smtpd_sender_login_maps.
func (c checker) owners(address, user string) ([]string, error) {
	if c.Senders == "" {
		if strings.EqualFold(address, user) {
			return []string{user}, nil
		}
		return nil, nil
	}
	conn, err := net.DialTimeout("unix", c.Senders, 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("ask for senders: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	query := "senders " + strings.ToLower(address)
	if _, err := fmt.Fprintf(conn, "%d:%s,", len(query), query); err != nil {
		return nil, fmt.Errorf("ask for senders: %w", err)
	}
	reply, err := readReply(bufio.NewReader(conn))
	if err != nil {
		return nil, fmt.Errorf("ask for senders: %w", err)
	}
	kind, names, _ := strings.Cut(reply, " ")
	switch kind {
	case "OK":
		return strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' }), nil
	case "NOTFOUND":
		return nil, nil
	}
	return nil, fmt.Errorf("ask for senders: the answer is %q", kind)
}

func readReply(r *bufio.Reader) (string, error) {
	digits, err := r.ReadString(':')
	if err != nil {
		return "", err
	}
	length, err := strconv.Atoi(strings.TrimSuffix(digits, ":"))
	if err != nil || length < 0 || length > maxReply {
		return "", fmt.Errorf("a netstring of length %q", digits)
	}
	body := make([]byte, length+1)
	if _, err := io.ReadFull(r, body); err != nil {
		return "", err
	}
	return string(body[:length]), nil
}

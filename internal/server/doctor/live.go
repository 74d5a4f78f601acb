package doctor

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dial connects to a socket with the rights that Postfix has.
func (f *postfixFacts) dial(ctx context.Context, s socket) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	connect := func() (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, s.network, s.address)
	}
	var conn net.Conn
	var err error
	if s.network == "unix" && f.As {
		conn, err = dialAs(f.UID, f.GID, connect)
	} else {
		conn, err = connect()
	}
	if err != nil {
		return nil, plain(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// plain says in a word why nothing answered.
func plain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no such socket")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("the user postfix may not connect (groups given to it in /etc/group do not count: Postfix drops them)")
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("nobody listens there")
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errors.New("no answer in time")
	}
	return err
}

// askSASL shakes hands as an smtpd does when it starts.
func askSASL(conn io.ReadWriter) error {
	if _, err := io.WriteString(conn, "VERSION\t1\t0\nCPID\t1\n"); err != nil {
		return plain(err)
	}
	return readGreeting(conn)
}

const maxGreeting = 16 << 10

// readGreeting wants what Postfix wants: VERSION 1, at least one MECH, and SPID only after
// all of them; a SPID before them makes it say "wrong socket".
func readGreeting(r io.Reader) error {
	lines := bufio.NewReader(io.LimitReader(r, maxGreeting))
	var version, plainMech, spid bool
	mechs := 0
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the greeting ends before DONE: %w", plain(err))
		}
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		switch fields[0] {
		case "VERSION":
			if len(fields) < 2 || fields[1] != "1" {
				return errors.New("another version of the protocol is spoken there")
			}
			version = true
		case "MECH":
			if spid {
				return errors.New("MECH comes after SPID, which Postfix does not read")
			}
			mechs++
			plainMech = plainMech || len(fields) > 1 && strings.EqualFold(fields[1], "PLAIN")
		case "SPID":
			if mechs == 0 {
				return errors.New(`SPID comes before MECH: Postfix says "wrong socket"`)
			}
			spid = true
		case "DONE":
			switch {
			case !version:
				return errors.New("no VERSION was said")
			case !spid:
				return errors.New("no SPID was said")
			case !plainMech:
				return errors.New("PLAIN is not offered")
			}
			return nil
		}
	}
}

// askMap asks a socketmap about a key; any answer but OK and NOTFOUND is a fault.
func askMap(conn io.ReadWriter, name, key string) error {
	query := name + " " + key
	if _, err := fmt.Fprintf(conn, "%d:%s,", len(query), query); err != nil {
		return plain(err)
	}
	reply, err := readReply(conn)
	if err != nil {
		return err
	}
	status, _, _ := strings.Cut(reply, " ")
	switch {
	case status == "OK", reply == "NOTFOUND ":
		return nil
	case status == "TEMP", status == "TIMEOUT":
		return errors.New("it answers that it cannot answer now")
	case status == "PERM":
		return errors.New("it has no map named " + strconv.Quote(name))
	}
	return errors.New("it does not answer as a socketmap")
}

// maxReply is Postfix's own limit for an answer.
const maxReply = 100_000

// readReply reads one netstring.
func readReply(r io.Reader) (string, error) {
	buffered := bufio.NewReader(io.LimitReader(r, maxReply+16))
	length, err := buffered.ReadString(':')
	if err != nil {
		return "", fmt.Errorf("no answer: %w", plain(err))
	}
	digits := strings.TrimSuffix(length, ":")
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n > maxReply || len(digits) > 6 {
		return "", errors.New("it does not answer as a socketmap")
	}
	data := make([]byte, n+1)
	if _, err := io.ReadFull(buffered, data); err != nil || data[n] != ',' {
		return "", errors.New("it does not answer as a socketmap")
	}
	return string(data[:n]), nil
}

// askMilter negotiates options, as Postfix does at each connection, and leaves.
func askMilter(conn io.ReadWriter) error {
	hello := binary.BigEndian.AppendUint32(nil, 13)
	hello = append(hello, 'O')
	hello = binary.BigEndian.AppendUint32(hello, 6)        // version
	hello = binary.BigEndian.AppendUint32(hello, 0x1ff)    // actions
	hello = binary.BigEndian.AppendUint32(hello, 0x1fffff) // steps
	if _, err := conn.Write(hello); err != nil {
		return plain(err)
	}
	if err := readMilter(conn); err != nil {
		return err
	}
	_, err := conn.Write([]byte{0, 0, 0, 1, 'Q'})
	return err
}

// readMilter wants the answer to a negotiation.
func readMilter(r io.Reader) error {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("no answer: %w", plain(err))
	}
	if n := binary.BigEndian.Uint32(head[:4]); head[4] != 'O' || n < 13 || n > 4096 {
		return errors.New("it does not answer as a milter")
	}
	return nil
}

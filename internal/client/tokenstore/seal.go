package tokenstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"filippo.io/age"
)

// sealedLimit bounds a grant file. A grant with a 16 KB token for each of a handful
// of resources is well below it.
const sealedLimit = 256 << 10

// plainLimit bounds what is sealed: age adds a header, and 16 bytes for each 64 KiB.
const plainLimit = sealedLimit - 4<<10

// The envelope inside the age file is one line, then the grant as it was given:
//
//	letterlock-grant 1 NAME\n
//
// NAME is encoded as in the file's name. age proves that nobody changed the
// content; the name in it proves that nobody renamed one account's grant to
// another's, which would hand out tokens of the wrong mailbox.
const (
	envelopeMagic   = "letterlock-grant"
	envelopeVersion = 1
)

func wrap(name string, plain []byte) []byte {
	line := fmt.Sprintf("%s %d %s\n", envelopeMagic, envelopeVersion, EncodeName(name))
	return append([]byte(line), plain...)
}

// unwrap checks the envelope of name's grant and returns what is in it.
func unwrap(name string, envelope []byte) ([]byte, error) {
	line, plain, found := bytes.Cut(envelope, []byte("\n"))
	fields := strings.Split(string(line[:min(len(line), 512)]), " ")
	if !found || len(fields) != 3 || fields[0] != envelopeMagic {
		return nil, fmt.Errorf("it holds no grant: %w", ErrDamaged)
	}
	version, err := strconv.Atoi(fields[1])
	if err != nil || version < 1 {
		return nil, fmt.Errorf("it holds no grant: %w", ErrDamaged)
	}
	if version > envelopeVersion {
		return nil, fmt.Errorf("a newer version of letterlock wrote it (format %d): %w", version, ErrDamaged)
	}
	owner, err := DecodeName(fields[2])
	if err != nil {
		return nil, fmt.Errorf("it holds no grant: %w", ErrDamaged)
	}
	if owner != name {
		return nil, fmt.Errorf("it is the grant of %q under another name: %w", owner, ErrDamaged)
	}
	return plain, nil
}

// seal makes the content of a grant file.
func seal(name string, recipient age.Recipient, plain []byte) ([]byte, error) {
	if len(plain) > plainLimit {
		return nil, fmt.Errorf("grant of %d bytes, over %d", len(plain), plainLimit)
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(wrap(name, plain)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return sealed.Bytes(), nil
}

// open is the way back.
func open(name string, identity age.Identity, sealed []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if mismatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &mismatch) {
		return nil, fmt.Errorf("it was sealed for another key: %w", ErrNoKey)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	envelope, err := io.ReadAll(io.LimitReader(r, sealedLimit))
	if err != nil {
		return nil, fmt.Errorf("cut off or changed: %w: %w", err, ErrDamaged)
	}
	return unwrap(name, envelope)
}

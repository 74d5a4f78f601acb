package domain

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
)

// ErrHeader means a message whose header cannot be signed.
var ErrHeader = errors.New("the header cannot be signed")

const (
	// headerLimit bounds what is held in memory of a message: its header only.
	headerLimit = 1 << 20
	// namesLimit keeps the h= tag, which go-msgauth writes as one line, below the 998 octets
	// of RFC 5322 section 2.1.1.
	namesLimit = 900
)

// Sign reads a message with CRLF line ends and returns the DKIM-Signature fields to put
// before it: one for each key. The body is hashed as it passes, not kept. It is what
// delivery's Route.Sign wants.
func (k *Keys) Sign(message io.Reader) ([]byte, error) {
	from := bufio.NewReaderSize(message, 32<<10)
	header, err := readHeader(from)
	if err != nil {
		return nil, err
	}
	names, err := signedNames(header)
	if err != nil {
		return nil, err
	}
	signers := make([]*dkim.Signer, 0, len(k.keys))
	defer func() {
		for _, s := range signers {
			s.Close() // a second time after success, which is harmless; after an error it ends the goroutine
		}
	}()
	writers := make([]io.Writer, 0, len(k.keys))
	for _, key := range k.keys {
		s, err := dkim.NewSigner(&dkim.SignOptions{
			Domain: k.Domain, Selector: key.Selector, Signer: key.private,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed,
			BodyCanonicalization:   dkim.CanonicalizationRelaxed,
			HeaderKeys:             names,
		})
		if err != nil {
			return nil, fmt.Errorf("sign as %s: %w", k.Domain, err)
		}
		signers, writers = append(signers, s), append(writers, s)
	}
	to := io.MultiWriter(writers...)
	if _, err := to.Write(header); err != nil {
		return nil, fmt.Errorf("sign as %s: %w", k.Domain, err)
	}
	if _, err := io.Copy(to, from); err != nil {
		return nil, fmt.Errorf("sign as %s: %w", k.Domain, err)
	}
	var out []byte
	for i, s := range signers {
		if err := s.Close(); err != nil {
			return nil, fmt.Errorf("sign as %s with %s: %w", k.Domain, k.keys[i].Selector, err)
		}
		out = append(out, s.Signature()...)
	}
	return out, nil
}

// readHeader reads the header and the empty line after it, which is added when the
// message has no body.
func readHeader(from *bufio.Reader) ([]byte, error) {
	var header []byte
	for start := 0; ; {
		part, err := from.ReadSlice('\n')
		header = append(header, part...)
		switch {
		case len(header) > headerLimit:
			return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrHeader, headerLimit)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			if start < len(header) {
				header = append(header, "\r\n"...) // the last line had no end
			}
			return append(header, "\r\n"...), nil
		case err != nil:
			return nil, fmt.Errorf("read the message: %w", err)
		}
		if line := header[start:]; len(line) == 1 || len(line) == 2 && line[0] == '\r' {
			return header, nil
		}
		start = len(header)
	}
}

// oversigned are the fields that are named once more than they occur, so that adding
// one breaks the signature (RFC 6376 section 8.15): those that a reader is shown or that
// decide how the body is shown. Sender and List-* are not among them, because mailing
// lists add them to mail that should stay valid.
const oversigned = "From Subject Date To Cc Reply-To Message-ID In-Reply-To References MIME-Version Content-Type Content-Transfer-Encoding"

// signedOnce are the fields that are signed as often as they occur: what RFC 6376
// section 5.4.1 lists beside those, what RFC 8058 section 4 wants signed for one-click
// unsubscribing, and those that change what a program does with the message. Received,
// Return-Path, DKIM-Signature, Bcc and fields of filters are rewritten on the way and
// stay out.
const signedOnce = "Sender Resent-From Resent-To Resent-Cc Resent-Date Resent-Message-ID Resent-Sender " +
	"Content-Disposition Content-ID Content-Description Content-Language Auto-Submitted " +
	"List-Id List-Help List-Unsubscribe List-Unsubscribe-Post List-Subscribe List-Post List-Owner List-Archive " +
	"Disposition-Notification-To Feedback-ID"

// signedNames is the h= tag: each name as often as the field occurs, and once more
// where it is oversigned.
func signedNames(header []byte) ([]string, error) {
	count := map[string]int{}
	for line := range bytes.Lines(header) {
		name, _, ok := bytes.Cut(line, []byte(":"))
		if ok && line[0] != ' ' && line[0] != '\t' {
			count[strings.ToLower(string(bytes.TrimRight(name, " \t")))]++
		}
	}
	if count["from"] == 0 {
		// RFC 6376 section 5.4: From must be signed.
		return nil, fmt.Errorf("%w: it has no From", ErrHeader)
	}
	var names []string
	size := 0
	add := func(list string, more int) {
		for name := range strings.FieldsSeq(list) {
			for range count[strings.ToLower(name)] + more {
				names, size = append(names, name), size+len(name)+1
			}
		}
	}
	add(oversigned, 1)
	if size > namesLimit {
		return nil, fmt.Errorf("%w: fields that may occur once occur too often", ErrHeader)
	}
	essential := len(names)
	add(signedOnce, 0)
	if size > namesLimit {
		names = names[:essential]
	}
	return names, nil
}

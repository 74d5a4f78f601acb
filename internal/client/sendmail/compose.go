package sendmail

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/message"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// bodyLimit bounds the text that mail itself reads; attachments stream.
const bodyLimit = 100 << 20

// ErrEmpty means that the body is empty and -E asked to send nothing then.
var ErrEmpty = errors.New("the message is empty")

// SendMail makes a message of the body in in and what m says, and sends it.
// emersion/go-message would write the parts as well; what a plain message with
// attachments needs of it is one multipart.Writer.
func (s *Sender) SendMail(ctx context.Context, m Mail, in io.Reader) (queue.ID, error) {
	if m.FromHeader {
		o, err := m.options()
		if err != nil {
			return "", err
		}
		o.FromHeader = true
		return s.Send(ctx, o, m.withFields(in))
	}
	m.takeMIME()
	body, err := m.body(in)
	if err != nil {
		return "", err
	}
	if m.SkipEmpty && len(bytes.TrimSpace(body)) == 0 && len(m.Attachments) == 0 {
		return "", ErrEmpty
	}
	files, err := openAll(m.Attachments)
	if err != nil {
		return "", err
	}
	defer func() {
		for _, file := range files {
			file.Close()
		}
	}()
	head, err := m.head()
	if err != nil {
		return "", err
	}
	o, err := m.options()
	if err != nil {
		return "", err
	}
	reader, writer := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		out := bufio.NewWriter(writer)
		err := compose(out, head, m.textHeader(body), body, files)
		writer.CloseWithError(errors.Join(err, out.Flush()))
	}()
	id, err := s.Send(ctx, o, reader)
	reader.Close()
	<-done
	return id, err
}

// options turns the command line into one of sendmail.
func (m *Mail) options() (Options, error) {
	o := m.Sendmail
	for _, list := range [][]string{m.To, m.Cc, m.Bcc} {
		o.Recipients = append(o.Recipients, list...)
	}
	if m.Account != "" {
		o.Account = m.Account
	}
	if m.From != "" && o.Sender == nil {
		addresses, err := message.ParseAddresses(m.From)
		if err != nil {
			return o, addressFault(err)
		}
		o.Sender = &addresses[0]
	}
	return o, nil
}

// head is the header without what Send completes.
func (m *Mail) head() (string, error) {
	var b strings.Builder
	write := func(name string, texts []string) error {
		var shown []string
		for _, text := range texts {
			// As typed, so that names stay; parsed once for what must not be in it.
			if _, err := message.ParseAddresses(text); err != nil {
				return addressFault(err)
			}
			shown = append(shown, text)
		}
		if len(shown) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(shown, ", "))
		}
		return nil
	}
	var from []string
	if m.From != "" {
		from = []string{m.From}
	}
	if err := errors.Join(write("From", from), write("To", m.To), write("Cc", m.Cc)); err != nil {
		return "", err
	}
	if m.Subject != nil {
		fmt.Fprintf(&b, "Subject: %s\n", oneLine(*m.Subject))
	}
	for _, field := range m.Headers {
		fmt.Fprintf(&b, "%s: %s\n", field.Name, oneLine(field.Value))
	}
	return b.String(), nil
}

// oneLine keeps a value from becoming a second field.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == 0 {
			return ' '
		}
		return r
	}, text)
}

// withFields puts the fields of the command line before a message that has a header.
func (m *Mail) withFields(in io.Reader) io.Reader {
	var b strings.Builder
	if m.Subject != nil {
		fmt.Fprintf(&b, "Subject: %s\n", oneLine(*m.Subject))
	}
	for _, field := range m.Headers {
		fmt.Fprintf(&b, "%s: %s\n", field.Name, oneLine(field.Value))
	}
	return io.MultiReader(strings.NewReader(b.String()), in)
}

func (m *Mail) body(in io.Reader) ([]byte, error) {
	var quoted []byte
	if m.Quote != "" {
		file, err := openAll([]string{m.Quote})
		if err != nil {
			return nil, err
		}
		defer file[0].Close()
		if quoted, err = readBody(file[0]); err != nil {
			return nil, err
		}
	}
	body, err := readBody(in)
	return append(quoted, body...), err
}

func readBody(in io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(in, bodyLimit+1))
	if err != nil {
		return nil, readFault(err)
	}
	if len(body) > bodyLimit {
		return nil, cli.Wrap(cli.DataError, message.ErrTooLarge, "attach it with -A FILE")
	}
	return body, nil
}

func openAll(paths []string) ([]*os.File, error) {
	var files []*os.File
	for _, path := range paths {
		file, err := os.Open(path)
		if err == nil {
			var info os.FileInfo
			if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
				err = fmt.Errorf("%s is no regular file", path)
			}
			files = append(files, file)
		}
		if err != nil {
			for _, open := range files {
				if open != nil {
					open.Close()
				}
			}
			return nil, cli.Wrap(cli.DataError, fmt.Errorf("attach: %w", err), "nothing was queued")
		}
	}
	return files, nil
}

// textType is the body's Content-Type. Bytes that are no text in any common charset
// are an octet stream, as s-nail has it.
func (m *Mail) textType(body []byte) string {
	switch {
	case m.BodyType != "" && strings.HasPrefix(strings.ToLower(m.BodyType), "text/") && !strings.Contains(m.BodyType, "charset") && utf8.Valid(body):
		return oneLine(m.BodyType) + "; charset=utf-8"
	case m.BodyType != "":
		return oneLine(m.BodyType)
	case bytes.IndexByte(body, 0) >= 0:
		return "application/octet-stream"
	case ascii(string(body)):
		return "text/plain; charset=us-ascii"
	case utf8.Valid(body):
		return "text/plain; charset=utf-8"
	}
	return "text/plain; charset=unknown-8bit" // RFC 1428 section 3
}

// takeMIME makes MIME fields of -a those of the text, as bsd-mailx has it: with an
// attachment they do not belong to the whole.
func (m *Mail) takeMIME() {
	kept := m.Headers[:0]
	for _, field := range m.Headers {
		switch strings.ToLower(field.Name) {
		case "content-type":
			m.BodyType = field.Value
		case "content-transfer-encoding":
			m.encoding = field.Value
		case "mime-version":
		default:
			kept = append(kept, field)
		}
	}
	m.Headers = kept
}

// compose writes the whole message. The text stays as it is unless it cannot be
// lines; the queue's carrier encodes it where a server needs that.
func compose(w io.Writer, head string, own textproto.MIMEHeader, body []byte, files []*os.File) error {
	if _, err := fmt.Fprintf(w, "%sMIME-Version: 1.0\n", head); err != nil {
		return err
	}
	if len(files) == 0 {
		for _, name := range []string{"Content-Type", "Content-Transfer-Encoding"} {
			fmt.Fprintf(w, "%s: %s\n", name, own.Get(name))
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
		return writeText(w, own, body)
	}
	parts := multipart.NewWriter(w)
	fmt.Fprintf(w, "Content-Type: multipart/mixed; boundary=%q\n\n", parts.Boundary())
	part, err := parts.CreatePart(own)
	if err != nil {
		return err
	}
	if err := writeText(part, own, body); err != nil {
		return err
	}
	for _, file := range files {
		if err := attach(parts, file); err != nil {
			return err
		}
	}
	return parts.Close()
}

func (m *Mail) textHeader(body []byte) textproto.MIMEHeader {
	encoding := "7bit"
	switch {
	case m.encoding != "": // the caller has encoded it already
		encoding = oneLine(m.encoding)
	case bytes.IndexByte(body, 0) >= 0:
		encoding = "base64"
	case !ascii(string(body)):
		encoding = "8bit"
	}
	h := textproto.MIMEHeader{}
	h.Set("Content-Type", m.textType(body))
	h.Set("Content-Transfer-Encoding", encoding)
	return h
}

func writeText(w io.Writer, h textproto.MIMEHeader, body []byte) error {
	if bytes.IndexByte(body, 0) >= 0 && h.Get("Content-Transfer-Encoding") == "base64" {
		return encode(w, bytes.NewReader(body))
	}
	_, err := w.Write(body)
	return err
}

func attach(parts *multipart.Writer, file *os.File) error {
	name := filepath.Base(file.Name())
	kind := mime.TypeByExtension(filepath.Ext(name))
	if kind == "" || strings.HasPrefix(kind, "multipart/") || strings.HasPrefix(kind, "message/") {
		kind = "application/octet-stream" // RFC 2046 section 5: no base64 in composite types
	}
	h := textproto.MIMEHeader{}
	h.Set("Content-Type", kind)
	h.Set("Content-Transfer-Encoding", "base64")
	// FormatMediaType writes RFC 2231 for names that are not ASCII, and nothing for
	// names that it cannot write.
	disposition := mime.FormatMediaType("attachment", map[string]string{"filename": oneLine(strings.ToValidUTF8(name, "?"))})
	if disposition == "" {
		disposition = "attachment"
	}
	h.Set("Content-Disposition", disposition)
	part, err := parts.CreatePart(h)
	if err != nil {
		return err
	}
	return encode(part, file)
}

// encode writes base64 in lines of 76 (RFC 2045 section 6.8).
func encode(w io.Writer, r io.Reader) error {
	in := make([]byte, 57)
	out := make([]byte, 77)
	for {
		n, err := io.ReadFull(r, in)
		if n > 0 {
			length := base64.StdEncoding.EncodedLen(n)
			base64.StdEncoding.Encode(out, in[:n])
			out[length] = '\n'
			if _, err := w.Write(out[:length+1]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return err
		}
	}
}

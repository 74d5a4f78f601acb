package delivery

import (
	"bytes"
	"errors"
	"net/mail"
	"strings"
)

// maxHeader bounds the header that is looked through.
const maxHeader = 1 << 20

var errHeader = errors.New("the message's header cannot be read for the API")

// expressed is the message as an API takes it that has no envelope and sends to
// whom the header names. Recipients that no field names go into Bcc, which the service
// takes out. Names in the header that are not recipients (mail to a list, a bounce by
// hand, cron's "To: root") must not get the mail: their field is kept as
// X-Original-To or -Cc, and in its place stand those of it who are meant.
func expressed(m *content, to []*addressee) ([]byte, error) {
	var raw bytes.Buffer
	wire := newWireWriter(&raw, false)
	if err := errors.Join(m.copyTo(wire), wire.finish()); err != nil {
		return nil, err
	}
	header, body, found := bytes.Cut(raw.Bytes(), []byte("\r\n\r\n"))
	if !found || len(header) > maxHeader {
		return nil, errHeader
	}
	meant := map[string]*addressee{}
	for _, a := range to {
		meant[strings.ToLower(a.Address)] = a
	}
	var out bytes.Buffer
	out.Grow(raw.Len() + 64*len(to))
	named := map[string]bool{}
	for field := range fields(string(header)) {
		out.WriteString(addressed(field, meant, named))
	}
	out.WriteString(blindCopy(to, named))
	out.WriteString("\r\n")
	out.Write(body)
	return out.Bytes(), nil
}

// fields yields the header's fields with their folded lines and line ends.
func fields(header string) func(func(string) bool) {
	return func(yield func(string) bool) {
		field := ""
		for line := range strings.SplitSeq(header, "\r\n") {
			if field != "" && (line == "" || line[0] != ' ' && line[0] != '\t') {
				if !yield(field) {
					return
				}
				field = ""
			}
			field += line + "\r\n"
		}
		if field != "" {
			yield(field)
		}
	}
}

// addressed returns what stands for one field, and notes whom it names.
func addressed(field string, meant map[string]*addressee, named map[string]bool) string {
	name, value, found := strings.Cut(field, ":")
	if !found {
		return field
	}
	name = strings.TrimRight(name, " \t")
	resent := false
	switch strings.ToLower(name) {
	case "bcc", "resent-bcc":
		return ""
	case "to", "cc":
	case "resent-to", "resent-cc":
		resent = true // the service may or may not look at them
	default:
		return field
	}
	list, err := mail.ParseAddressList(strings.ReplaceAll(strings.TrimSuffix(value, "\r\n"), "\r\n", ""))
	var kept []string
	for _, address := range list {
		key := strings.ToLower(address.Address)
		if meant[key] == nil {
			continue
		}
		kept = append(kept, address.String())
		named[key] = named[key] || !resent
	}
	if err == nil && len(kept) == len(list) {
		return field
	}
	rest := "X-Original-" + name + ":" + value
	if len(kept) == 0 {
		return rest
	}
	return name + ": " + strings.Join(kept, ",\r\n ") + "\r\n" + rest
}

// blindCopy is the Bcc field for those whom no other names.
func blindCopy(to []*addressee, named map[string]bool) string {
	var left []string
	for _, a := range to {
		key := strings.ToLower(a.Address)
		if !named[key] {
			named[key] = true
			left = append(left, a.Address)
		}
	}
	if len(left) == 0 {
		return ""
	}
	return "Bcc: " + strings.Join(left, ",\r\n ") + "\r\n"
}

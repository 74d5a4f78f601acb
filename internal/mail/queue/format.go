package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"
)

// One entry is one file, so that accepting a message costs one sync of a file and
// one of the folder:
//
//	LLQ1 hhhhhhhh mmmmmmmmmmmmmmmm cccccccc\n   lengths of head and message, checksum
//	head                                        the envelope as JSON
//	message                                     as it was put
//	records                                     one line each, added as things happen
//
// A record line is a checksum, a blank and JSON. Lines of blanks are room kept free:
// the next record is written over them, which needs no new disk block (a full disk
// cannot make us forget that a message was taken) and no change of the file's size
// (so that syncing it is cheap). A line whose checksum is wrong was torn by a crash
// and is passed over; what it would have said is then not known, which is the safe
// side.
//
// The first byte is not read again: on Windows a lock covers it.
const (
	magic       = "LLQ1 "
	preambleLen = len(magic) + 8 + 1 + 16 + 1 + 8 + 1
	maxHead     = 8 << 20
	maxJournal  = 32 << 20
	maxReply    = 1000
)

// head is the envelope on disk.
type head struct {
	Version    int         `json:"v"`
	Created    int64       `json:"t"` // milliseconds
	From       string      `json:"from"`
	To         []recipient `json:"to"`
	Account    string      `json:"account,omitempty"`
	EnvelopeID string      `json:"envid,omitempty"`
	Return     string      `json:"ret,omitempty"`
	EightBit   bool        `json:"8bit,omitempty"`
	UTF8       bool        `json:"utf8,omitempty"`
	Submitter  string      `json:"by,omitempty"`
	Tag        string      `json:"tag,omitempty"`
}

type recipient struct {
	Address  string `json:"a"`
	Notify   string `json:"n,omitempty"`
	Original string `json:"o,omitempty"`
}

func headOf(e Envelope, now time.Time) head {
	h := head{Version: 1, Created: now.UnixMilli(), From: e.From, Account: e.Account, EnvelopeID: e.EnvelopeID,
		Return: e.Return, EightBit: e.EightBit, UTF8: e.UTF8, Submitter: e.Submitter, Tag: e.Tag}
	for _, r := range e.To {
		h.To = append(h.To, recipient(r))
	}
	return h
}

func (h head) envelope(size int64) Envelope {
	e := Envelope{From: h.From, Account: h.Account, EnvelopeID: h.EnvelopeID, Return: h.Return,
		EightBit: h.EightBit, UTF8: h.UTF8, Size: size, Submitter: h.Submitter, Tag: h.Tag}
	for _, r := range h.To {
		e.To = append(e.To, Recipient(r))
	}
	return e
}

func preamble(head []byte, size int64) []byte {
	lengths := fmt.Sprintf("%08x %016x ", len(head), size)
	return fmt.Appendf(nil, "%s%s%08x\n", magic, lengths, checksum([]byte(lengths), head))
}

func checksum(parts ...[]byte) uint32 {
	var sum uint32
	table := crc32.MakeTable(crc32.Castagnoli) // made once by the package
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return sum
}

// A layout says where the parts of a file are.
type layout struct {
	head    head
	message int64 // offset
	size    int64 // of the message
	journal int64 // offset
}

// readLayout reads preamble and head. A file is small or large, but its envelope is
// nearly always in the first block.
func readLayout(file io.ReaderAt) (layout, error) {
	block := make([]byte, 2048)
	n, err := file.ReadAt(block[1:], 1)
	if err != nil && err != io.EOF {
		return layout{}, err
	}
	block = block[:n+1]
	if len(block) < preambleLen || string(block[1:len(magic)]) != magic[1:] {
		return layout{}, fmt.Errorf("%w: no queue file", ErrDamaged)
	}
	fields := string(block[len(magic):preambleLen])
	headLen, err1 := strconv.ParseUint(fields[:8], 16, 32)
	size, err2 := strconv.ParseInt(fields[9:25], 16, 64)
	sum, err3 := strconv.ParseUint(fields[26:34], 16, 32)
	if err := errors.Join(err1, err2, err3); err != nil || headLen > maxHead || size < 0 {
		return layout{}, fmt.Errorf("%w: preamble", ErrDamaged)
	}
	text := block[preambleLen:]
	if int(headLen) > len(text) {
		text = make([]byte, headLen)
		if _, err := file.ReadAt(text, int64(preambleLen)); err != nil {
			return layout{}, fmt.Errorf("%w: envelope is cut", ErrDamaged)
		}
	}
	text = text[:headLen]
	l := layout{message: int64(preambleLen) + int64(headLen), size: size}
	l.journal = l.message + size
	if l.journal < 0 || checksum([]byte(fields[:26]), text) != uint32(sum) {
		return layout{}, fmt.Errorf("%w: envelope does not match its checksum", ErrDamaged)
	}
	if err := json.Unmarshal(text, &l.head); err != nil || l.head.Version != 1 || len(l.head.To) == 0 {
		return layout{}, fmt.Errorf("%w: envelope", ErrDamaged)
	}
	return l, nil
}

// A record is one thing that happened.
type record struct {
	Kind     string         `json:"k"`
	Time     int64          `json:"t"`
	Who      []int          `json:"w,omitempty"` // recipients, by place in the envelope
	Outcomes []savedOutcome `json:"o,omitempty"`
	Next     int64          `json:"n,omitempty"`
	Reason   Reason         `json:"r,omitempty"`
	Report   Kind           `json:"report,omitempty"`
}

// The kinds of records.
const (
	recBegin   = "begin"   // an attempt begins; not synced
	recCommit  = "commit"  // the final dot is about to be sent
	recOutcome = "outcome" // of some recipients, the attempt goes on
	recDone    = "done"    // the attempt is over
	recHold    = "hold"
	recRelease = "release"
	recRetry   = "retry"
	recReport  = "report" // a report was handed over
)

type savedOutcome struct {
	Who     int     `json:"w"`
	Verdict Verdict `json:"v"`
	Status  string  `json:"s,omitempty"`
	Reply   string  `json:"r,omitempty"`
	Server  string  `json:"by,omitempty"`
	At      int64   `json:"t"`
	Reports bool    `json:"d,omitempty"`
}

func save(who int, o Outcome) savedOutcome {
	return savedOutcome{Who: who, Verdict: o.Verdict, Status: limited(o.Status, 40), Reply: limited(o.Reply, maxReply),
		Server: limited(o.Server, 300), At: o.At.UnixMilli(), Reports: o.Reports}
}

func (s savedOutcome) outcome(recipient string) Outcome {
	return Outcome{Recipient: recipient, Verdict: s.Verdict, Status: s.Status, Reply: s.Reply, Server: s.Server,
		At: time.UnixMilli(s.At), Reports: s.Reports}
}

func limited(text string, n int) string {
	if len(text) > n {
		return strings.ToValidUTF8(text[:n], "") + " ..."
	}
	return text
}

// line is the record as it stands in the file.
func (r record) line() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", checksum(text), text), nil
}

// A reading is what a journal says.
type reading struct {
	records []record
	room    int // where the room at its end begins
	last    int // where the last record begins; -1 without one
}

// parseRecords reads a journal.
func parseRecords(journal []byte) reading {
	is := reading{room: len(journal), last: -1}
	for at := 0; at < len(journal); {
		line := journal[at:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end+1]
		}
		is.room = len(journal)
		if len(bytes.Trim(line, " \n")) == 0 && line[len(line)-1] == '\n' && at+len(line) == len(journal) {
			is.room = at
		}
		if r, ok := parseRecord(line); ok {
			is.records, is.last = append(is.records, r), at
		}
		at += len(line)
	}
	return is
}

func parseRecord(line []byte) (record, bool) {
	sum, text, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok || len(sum) != 8 || fmt.Sprintf("%08x", checksum(text)) != string(sum) {
		return record{}, false
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, false
	}
	return r, true
}

// blanks is room for records to come.
func blanks(n int) []byte { return append(bytes.Repeat([]byte(" "), n), '\n') }

// roomFor is what one attempt needs: begin, commit and done.
func roomFor(recipients int) int { return min(350+250*recipients, 64<<10) }

//go:build unix

package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// A failingDisk fails the ledger's operations from number from on, count times. It keeps
// what a sync that did not fail has made durable: after a power cut only that is there.
type failingDisk struct {
	mu          sync.Mutex
	folder      string
	from, count int
	done        int
	hit         bool
	durable     map[string]string
}

func (d *failingDisk) links() map[string]string {
	links := map[string]string{}
	files, _ := os.ReadDir(d.folder) // not there before the first start
	for _, file := range files {
		links[file.Name()], _ = os.Readlink(filepath.Join(d.folder, file.Name()))
	}
	return links
}

func (d *failingDisk) fail(op string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done++
	if d.done >= d.from && d.done < d.from+d.count {
		d.hit = true
		return errors.New("input/output error")
	}
	if op == "sync" {
		d.durable = d.links()
	}
	return nil
}

// cut makes the folder what it was at the last sync.
func (d *failingDisk) cut(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.links() {
		if err := os.Remove(filepath.Join(d.folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range d.durable {
		if err := os.Symlink(target, filepath.Join(d.folder, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// A counter counts what the system's queue sends.
type counter map[string]int

func (c counter) Carry(_ context.Context, e queue.Envelope, _ io.ReadSeeker) ([]queue.Outcome, error) {
	c[e.EnvelopeID]++
	return []queue.Outcome{{Recipient: e.To[0].Address, Verdict: queue.Delivered}}, nil
}

// The disk fails at each operation of the ledger, for a while or until the next start,
// which is an ordinary one or follows a power cut. A client asks with the same id until
// he hears an answer: then his message is sent, and once.
func TestFailingLedger(t *testing.T) {
	for _, count := range []int{1, 2, 3, 4, 1000} {
		for _, restart := range []string{"none", "stop", "cut"} {
			for from := 1; ; from++ {
				name := fmt.Sprintf("%d failures from %d, then %s", count, from, restart)
				s := newSite(t, nil)
				s.stop()
				disk := &failingDisk{folder: filepath.Join(s.folder, "intake", "taken"), from: from, count: count}
				s.disk = disk.fail
				s.start(nil)
				sent := counter{}
				drain := func() {
					if _, err := s.queue.Drain(t.Context(), sent, queue.DrainOptions{Once: true}); err != nil {
						t.Fatal(name, err)
					}
				}
				sub := newSubmission(t)
				sub.EnvelopeID = "it"
				heard := false
				for try := 0; !heard; try++ {
					if try == 2 && restart != "none" || try == 20 {
						s.stop()
						if restart == "cut" {
							disk.cut(t)
						}
						disk.count = 0
						s.start(nil)
					}
					if try == 40 {
						t.Fatalf("%s: never answered", name)
					}
					receipt, err := Submit(t.Context(), s.path, sub, strings.NewReader(letter), int64(len(letter)))
					drain()
					if heard = err == nil; heard {
						receipt.conn.Close()
					}
					s.server.tidy()
					drain()
				}
				// The answer was lost on the way: he asks again, after one more start.
				s.stop()
				disk.count = 0
				s.start(nil)
				if receipt, err := s.submit(sub, letter); err != nil || !receipt.Again {
					t.Errorf("%s: asked again: %+v, %v", name, receipt, err)
				}
				drain()
				if sent["it"] != 1 || len(s.entries()) != 0 {
					t.Errorf("%s: sent %d times, left %d; on disk %v", name, sent["it"], len(s.entries()), maps.Clone(disk.durable))
				}
				s.stop()
				if !disk.hit {
					if from < 4 {
						t.Fatalf("only %d operations", disk.done)
					}
					break
				}
			}
		}
	}
}

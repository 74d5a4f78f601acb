package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Missing says that a program the lab needs is not installed.
type Missing struct {
	Program string // what was looked for
	Package string // the Debian package, or what to run, that provides it
}

func (m *Missing) Error() string {
	return fmt.Sprintf("%s is not installed: install %s (LAB=install internal/lab/install does it as root)", m.Program, m.Package)
}

// find returns the path of a program, looking also where Debian keeps what is
// not on an ordinary user's PATH.
func find(program, pkg string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/lib/dovecot", "/usr/lib/postfix/sbin"} {
		path := dir + "/" + program
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &Missing{Program: program, Package: pkg}
}

// Process is a program started by the lab in a process group of its own.
type Process struct {
	Name string

	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  *os.File      // our end of the pipe that its outputs go to
	done  chan struct{} // closed when the process is reaped and its output read
	err   error         // what Wait said; read only after done

	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed and replaced at each new line
}

// ProcessOptions describe what StartProcess runs.
type ProcessOptions struct {
	Name  string   // for messages; default: the program
	Path  string   // the program
	Args  []string // without argv[0]
	Env   []string // nil: the environment of this process
	Dir   string
	Stdin bool         // keep a pipe for Send
	OnLog func(string) // called for each line of output, in order
	Files []*os.File   // descriptors 3 and on, as a service manager hands sockets over
}

// StartProcess starts a program and collects both its outputs line by line.
func StartProcess(o ProcessOptions) (*Process, error) {
	p := &Process{Name: o.Name, done: make(chan struct{}), changed: make(chan struct{})}
	if p.Name == "" {
		p.Name = o.Path
	}
	p.cmd = exec.Command(o.Path, o.Args...)
	p.cmd.Env, p.cmd.Dir, p.cmd.ExtraFiles = o.Env, o.Dir, o.Files
	// A group of its own lets Stop reach the children a server forks.
	p.cmd.SysProcAttr = ownGroup()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr, p.said = write, write, write
	if o.Stdin {
		if p.stdin, err = p.cmd.StdinPipe(); err != nil {
			return nil, errors.Join(err, read.Close(), write.Close())
		}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", p.Name, err), read.Close(), write.Close())
	}
	go p.collect(read, o.OnLog)
	return p, nil
}

// mark is a line that we write ourselves behind the last word of a process.
const mark = "\x00end"

func (p *Process) collect(output *os.File, onLog func(string)) {
	last, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		r := bufio.NewReaderSize(output, 64<<10)
		for {
			line, err := r.ReadString('\n')
			if line = strings.TrimRight(line, "\r\n"); line == mark {
				close(last)
			} else if line != "" {
				p.add(line, onLog)
			}
			if err != nil {
				return
			}
		}
	}()
	p.err = p.cmd.Wait()
	// What the process itself said stands before the mark, however late we read it.
	_, err := io.WriteString(p.said, "\n"+mark+"\n")
	p.said.Close() // ours would keep the pipe open
	if err == nil {
		<-last
	}
	// A grandchild that outlives its parent keeps the pipe open; it must not
	// keep us waiting for longer than its last words take to arrive.
	select {
	case <-read:
	case <-time.After(2 * time.Second):
	}
	output.Close()
	<-read
	close(p.done)
}

// maxLogLines bounds what a talkative server can make us keep.
const maxLogLines = 50_000

func (p *Process) add(line string, onLog func(string)) {
	p.mu.Lock()
	if len(p.lines) >= maxLogLines {
		p.lines = append(p.lines[:0], p.lines[maxLogLines/2:]...)
	}
	p.lines = append(p.lines, line)
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	if onLog != nil {
		onLog(line)
	}
}

// Pid is the process id, which is also the id of its process group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Log returns the output so far, one line each.
func (p *Process) Log() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

// WaitLog waits until a line of output satisfies match and returns it. It also
// looks at the lines that are already there.
func (p *Process) WaitLog(ctx context.Context, match func(string) bool) (string, error) {
	seen := 0
	for {
		// Asked before the lines are looked at: the last of them may come together with
		// the end, and select takes either.
		ended := over(p.done)
		p.mu.Lock()
		if seen > len(p.lines) {
			seen = 0 // the log was cut
		}
		for ; seen < len(p.lines); seen++ {
			if match(p.lines[seen]) {
				line := p.lines[seen]
				p.mu.Unlock()
				return line, nil
			}
		}
		changed := p.changed
		p.mu.Unlock()
		if ended {
			return "", fmt.Errorf("%s ended (%v): %s", p.Name, p.err, p.tail(8))
		}
		select {
		case <-changed:
		case <-p.done:
		case <-ctx.Done():
			return "", fmt.Errorf("wait for %s: %w: %s", p.Name, ctx.Err(), p.tail(8))
		}
	}
}

func (p *Process) tail(n int) string {
	lines := p.Log()
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// Send writes one line to the process's standard input.
func (p *Process) Send(line string) error {
	_, err := io.WriteString(p.stdin, line+"\n")
	return err
}

// over reports whether what closes done has ended.
func over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// SendAll writes text to the process's standard input and ends that.
func (p *Process) SendAll(text string) error {
	_, err := io.WriteString(p.stdin, text)
	return errors.Join(err, p.stdin.Close())
}

// stopBound is how long a process may take to end by itself on a busy machine.
const stopBound = 5 * time.Second

// Stop asks the process to end, kills its group when it does not within stopBound, and
// returns after it was reaped and nothing of the group runs any more: what they held is
// free then. Stopping twice is harmless.
func (p *Process) Stop() {
	select {
	case <-p.done:
	default:
		signalProcess(p.cmd.Process, syscall.SIGTERM)
	}
	select {
	case <-p.done:
	case <-time.After(stopBound):
	}
	// Also when the leader is gone: its children carry the same group id.
	killGroup(p.Pid())
	<-p.done
	// Killed is not yet gone: a process holds its ports and files until it is through.
	for deadline := time.Now().Add(time.Minute); groupRuns(p.Pid()) && time.Now().Before(deadline); {
		<-time.After(time.Millisecond)
	}
}

// Installed says whether a server is on this machine.
func Installed(program string) bool {
	_, err := find(program, "")
	return err == nil
}

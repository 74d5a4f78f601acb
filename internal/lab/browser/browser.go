// Package browser drives a headless Chromium for the lab: it signs people in
// at the lab's identity provider by filling in its pages and clicking, follows
// redirects to loopback listeners as a person's browser would, and takes
// pictures. It is apart from package lab so that cmd/try does not link chromedp.
package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// Options describe a browser.
type Options struct {
	// CA whose certificates are accepted, by the hash of its key: every other
	// unknown certificate is refused as usual.
	CA *lab.CA
	// Internet through which everything but loopback goes. Nil: direct.
	Internet *lab.Internet
	// Flags are further command line switches, name to value (true, "text").
	Flags map[string]any
}

// Browser is a running Chromium with a profile of its own and one tab.
type Browser struct {
	ctx     context.Context
	cancel  func()
	profile string
	out     *lockedBuffer
	running sync.WaitGroup
}

// Start starts Chromium; about 1 s.
func Start(ctx context.Context, o Options) (*Browser, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, &lab.Missing{Program: "chromium", Package: "chromium"}
	}
	b := &Browser{out: &lockedBuffer{}}
	if b.profile, err = os.MkdirTemp("", "lab-chromium-"); err != nil {
		return nil, fmt.Errorf("make browser profile: %w", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(b.profile),
		chromedp.CombinedOutput(b.out),
		// What it would write to the person's folders goes with the profile.
		chromedp.Env("HOME="+b.profile, "XDG_CONFIG_HOME="+b.profile, "XDG_CACHE_HOME="+b.profile),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1000, 700), chromedp.WSURLReadTimeout(5*time.Minute),
	)
	if o.CA != nil {
		options = append(options, chromedp.Flag("ignore-certificate-errors-spki-list", o.CA.SPKI))
	}
	if o.Internet != nil {
		options = append(options, chromedp.ProxyServer(o.Internet.URL))
	}
	for name, value := range o.Flags {
		options = append(options, chromedp.Flag(name, value))
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	tab, closeTab := chromedp.NewContext(allocator)
	b.ctx, b.cancel = tab, func() { closeTab(); stop() }
	// The context of the first action is the life of the browser, so this one
	// cannot be the caller's.
	hurry := context.AfterFunc(ctx, b.cancel)
	err = chromedp.Do(b.ctx, chromedp.Navigate("about:blank"))
	hurry()
	if err != nil {
		b.Stop()
		return nil, fmt.Errorf("start chromium: %w: %s", err, b.out.String())
	}
	b.leave()
	return b, nil
}

// leave says yes to what a page asks in a window of its own, which is mostly whether to
// leave it: until somebody answers, the browser does nothing else.
func (b *Browser) leave() {
	asked := chromedp.Events(b.ctx, page.JavascriptDialogOpening)
	b.running.Go(func() {
		for _, err := range asked {
			if err != nil {
				return
			}
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}
	})
}

// Run is Start for a test.
func Run(t lab.TB, o Options) *Browser {
	t.Helper()
	b, err := Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

// Stop closes the browser and removes its profile.
func (b *Browser) Stop() {
	b.cancel()
	b.running.Wait()
	// Its helpers outlive it by a moment, and write into the profile until then.
	for deadline := time.Now().Add(time.Minute); b.helped() && time.Now().Before(deadline); {
		<-time.After(5 * time.Millisecond)
	}
	os.RemoveAll(b.profile)
}

// helped reports whether a process of this browser is there still.
func (b *Browser) helped() bool {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), b.profile) {
			return true
		}
	}
	return false
}

// Profile is the folder that names this browser in the process list.
func (b *Browser) Profile() string { return b.profile }

// Context is for chromedp.Run and chromedp.Do by the caller.
func (b *Browser) Context() context.Context { return b.ctx }

// within ties a call on the browser to the caller's context.
func (b *Browser) within(ctx context.Context) (context.Context, func()) {
	run, cancel := context.WithCancelCause(b.ctx)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return run, func() { stop(); cancel(nil) }
}

func (b *Browser) do(ctx context.Context, steps ...chromedp.Action[chromedp.Void]) error {
	run, done := b.within(ctx)
	defer done()
	return chromedp.Do(run, steps...)
}

func ask[T any](ctx context.Context, b *Browser, a chromedp.Action[T]) (T, error) {
	run, done := b.within(ctx)
	defer done()
	return chromedp.Run(run, a)
}

// Open goes to an address and waits until it is loaded. A page that goes elsewhere by itself
// at the same moment wins; then it is asked for once more, as a person would.
func (b *Browser) Open(ctx context.Context, address string) error {
	var err error
	for range 3 {
		err = b.do(ctx, chromedp.Navigate(address))
		if err == nil {
			return nil
		}
		if !strings.Contains(err.Error(), "net::ERR_ABORTED") {
			break
		}
	}
	return fmt.Errorf("open page: %w", err)
}

// Location is the address of the page that is open.
func (b *Browser) Location(ctx context.Context) (string, error) {
	return ask(ctx, b, chromedp.Location())
}

// Text is the text a person sees on the page.
func (b *Browser) Text(ctx context.Context) (string, error) {
	return ask(ctx, b, chromedp.Evaluate[string]("document.body.innerText"))
}

// Fill puts text into the field that a CSS selector finds, as typing does in the end.
func (b *Browser) Fill(ctx context.Context, selector, text string) error {
	return b.until(ctx, fmt.Sprintf(onVisible, quoted(selector), fmt.Sprintf(`e.focus();
	Object.getOwnPropertyDescriptor(Object.getPrototypeOf(e), 'value').set.call(e, %s); // past what a page puts on the field
	e.dispatchEvent(new Event('input', {bubbles: true})); e.dispatchEvent(new Event('change', {bubbles: true}));`, quoted(text))))
}

// Click clicks what a CSS selector finds, by script: Chromium throws the mouse away that
// comes before a new page's first picture, which a busy machine takes its time for.
func (b *Browser) Click(ctx context.Context, selector string) error {
	return b.until(ctx, fmt.Sprintf(onVisible, quoted(selector), click))
}

// click marks a document that it leads away from: it stands there for a while yet, and who
// waits for the next page must not take it for that.
const click = `if (e.disabled) return false;
	const leaves = (v) => {
		const a = v.type === 'click' ? v.target.closest?.('a[href]') : v.target;
		if (!a || v.defaultPrevented || a.target || a.download) return;
		if (v.type === 'click' && (!a.protocol.startsWith('http') || a.href.split('#')[0] === location.href.split('#')[0])) return;
		document.labLeft = true;
	};
	addEventListener('pageshow', () => { document.labLeft = false; });
	addEventListener('submit', leaves); addEventListener('click', leaves);
	e.focus(); e.click();
	removeEventListener('submit', leaves); removeEventListener('click', leaves);`

// WaitFor waits until something that a CSS selector finds is visible.
func (b *Browser) WaitFor(ctx context.Context, selector string) error {
	return b.until(ctx, fmt.Sprintf(onVisible, quoted(selector), ""))
}

// onVisible does something with the first visible element that a selector finds, once the
// page is there.
const onVisible = `(() => {
	if (document.readyState === 'loading' || document.labLeft) return false;
	const e = [...document.querySelectorAll(%s)].find((e) => e.checkVisibility({visibilityProperty: true}));
	if (!e) return false;
	%s
	return true;
})()`

// until asks a page for something, again and again, until it says true. A page that goes
// away meanwhile is asked no more and the next one is; chromedp's own waiting stays with
// the one it began with, and sometimes for good.
func (b *Browser) until(ctx context.Context, script string) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ask(ctx, b, chromedp.Evaluate[bool](script, gesture))
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case b.ctx.Err() != nil:
			return fmt.Errorf("the browser ended: %w", err)
		case err != nil && strings.Contains(err.Error(), "SyntaxError"):
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// quoted is text as a script has it.
func quoted(text string) string {
	out, _ := json.Marshal(text) // any string can be marshalled
	return string(out)
}

// gesture has the page believe that a person does it.
func gesture(p *runtime.EvaluateParams) { yes := true; p.UserGesture = &yes }

// Screenshot writes a PNG picture of the page.
func (b *Browser) Screenshot(ctx context.Context, file string) error {
	png, err := ask(ctx, b, chromedp.CaptureScreenshot())
	if err != nil {
		return fmt.Errorf("take picture: %w", err)
	}
	return os.WriteFile(file, png, 0o644)
}

// ErrPage is a page that says something went wrong.
var ErrPage = errors.New("the page shows a problem")

// lockedBuffer keeps what Chromium says.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > 1<<20 {
		l.buf.Reset()
	}
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(l.buf.String())
}

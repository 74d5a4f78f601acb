package browser

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// Inspect is script that returns what is wrong with a page for people who see little, or
// use no mouse: contrast (WCAG 2.2, 1.4.3 and 1.4.11), labels, headings, width. The one
// script that a page may have is the file that passkeys need.
const Inspect = `(()=>{
const out=[];
const parse=c=>{const m=c.match(/rgba?\(([^)]+)\)/);const v=m[1].split(/[ ,\/]+/).map(Number);return {r:v[0],g:v[1],b:v[2],a:v.length>3?v[3]:1}};
const lum=c=>{const f=x=>{x/=255;return x<=0.04045?x/12.92:Math.pow((x+0.055)/1.055,2.4)};return 0.2126*f(c.r)+0.7152*f(c.g)+0.0722*f(c.b)};
const ratio=(a,b)=>{const x=lum(a),y=lum(b);return (Math.max(x,y)+0.05)/(Math.min(x,y)+0.05)};
const ground=e=>{for(;e;e=e.parentElement){const c=parse(getComputedStyle(e).backgroundColor);if(c.a===1)return c;if(c.a>0)out.push("half transparent ground");}return {r:255,g:255,b:255}};
const walker=document.createTreeWalker(document.body,NodeFilter.SHOW_TEXT);
let texts=0;
while(walker.nextNode()){const n=walker.currentNode,e=n.parentElement;if(!n.data.trim()||e.tagName==="NOSCRIPT")continue;const s=getComputedStyle(e);if(s.display==="none"||s.visibility==="hidden")continue;
 texts++;const big=parseFloat(s.fontSize)>=24||parseFloat(s.fontSize)>=18.66&&parseInt(s.fontWeight)>=700;
 const q=ratio(parse(s.color),ground(e));if(q<(big?3:4.5))out.push("contrast "+q.toFixed(2)+": "+n.data.trim().slice(0,40));}
if(texts<3)out.push("only "+texts+" texts were measured");
for(const e of document.querySelectorAll("input:not([type=hidden]),select,textarea")){
 if(!e.labels||!e.labels.length||!e.labels[0].textContent.trim())out.push("no label: "+e.outerHTML.slice(0,80));
 const s=getComputedStyle(e);if(e.type!=="checkbox"&&e.type!=="radio"&&ratio(parse(s.borderTopColor),ground(e.parentElement))<3)out.push("faint edge: "+e.name);
 for(const id of (e.getAttribute("aria-describedby")||"").split(" ").filter(Boolean))if(!document.getElementById(id))out.push("described by nothing: "+id);}
for(const e of document.querySelectorAll("button,.button,nav a")){const r=e.getBoundingClientRect();if(r.height&&r.height<24)out.push("small: "+e.textContent);}
for(const e of document.querySelectorAll("button:not(.plain):not(.danger),.button:not(.plain)")){const q=ratio(parse(getComputedStyle(e).backgroundColor),ground(e.parentElement));if(q<3)out.push("faint button "+q.toFixed(2)+": "+e.textContent);}
for(const e of document.querySelectorAll("img"))if(!e.alt)out.push("a picture without words");
const ids=[...document.querySelectorAll("[id]")].map(e=>e.id);for(const id of ids)if(ids.filter(x=>x===id).length>1)out.push("id twice: "+id);
if(document.querySelectorAll("h1").length!==1)out.push("not one h1");
if(document.querySelectorAll("main").length!==1)out.push("not one main part");
let level=1;for(const h of document.querySelectorAll("h1,h2,h3")){const l=+h.tagName[1];if(l>level+1)out.push("heading skips: "+h.textContent.slice(0,40));level=l;}
if(document.documentElement.scrollWidth>innerWidth)out.push("wider than the screen: "+document.documentElement.scrollWidth+" > "+innerWidth);
if(!document.title||document.documentElement.lang!=="en")out.push("no title or language");
for(const s of document.scripts)if(!s.src||new URL(s.src).pathname!=="/assets/passkey.js")out.push("a script: "+(s.src||"inline"));
return out;})()`

// A Look is somebody who looks at pages, hears the console, and uses the keyboard alone.
type Look struct {
	t   lab.TB
	ctx context.Context

	mu       sync.Mutex
	complain []string
}

// NewLook listens to the browser's console until ctx ends.
func NewLook(ctx context.Context, t lab.TB) *Look {
	t.Helper()
	l := &Look{t: t, ctx: ctx}
	l.must(chromedp.Listen(ctx, l.hear))
	return l
}

func (l *Look) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *Look) hear(ev any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch ev := ev.(type) {
	case *cdplog.EventEntryAdded:
		l.complain = append(l.complain, fmt.Sprintf("%s: %s (%s)", ev.Entry.Level, ev.Entry.Text, ev.Entry.URL))
	case *runtime.EventExceptionThrown:
		l.complain = append(l.complain, "exception: "+ev.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		l.complain = append(l.complain, "console")
	}
}

// Silent fails when the console said anything since it was asked last.
func (l *Look) Silent(where string) {
	l.t.Helper()
	for _, line := range l.Heard() {
		l.t.Fatal(fmt.Sprintf("%s: the console says %s", where, line))
	}
}

// Heard is what the console said since it was asked last: Chromium notes each answer of
// 400 and more there.
func (l *Look) Heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	heard := l.complain
	l.complain = nil
	return heard
}

// Ask evaluates script in the page.
func Ask[T any](l *Look, script string) T {
	l.t.Helper()
	answer, err := chromedp.Run(l.ctx, chromedp.Evaluate[T](script))
	if err != nil {
		l.t.Fatal(fmt.Sprintf("ask the page: %v", err))
	}
	return answer
}

// Open goes to an address.
func (l *Look) Open(address string) {
	l.t.Helper()
	if err := chromedp.Do(l.ctx, chromedp.Navigate(address)); err != nil {
		l.t.Fatal(fmt.Sprintf("open %s: %v", address, err))
	}
}

// Size makes a screen, in the scheme "light" or "dark".
func (l *Look) Size(width, height int64, scheme string) {
	l.t.Helper()
	media := func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return chromedp.Void{}, err
	}
	l.must(chromedp.Do(l.ctx, chromedp.EmulateViewport(width, height), media))
}

// Picture keeps a screenshot where LETTERLOCK_SCREENSHOTS names a folder; without it none is
// taken.
func (l *Look) Picture(name string) {
	l.t.Helper()
	folder := os.Getenv("LETTERLOCK_SCREENSHOTS")
	if folder == "" {
		return
	}
	png, err := chromedp.Run(l.ctx, chromedp.FullScreenshot(100))
	l.must(err)
	l.must(os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644))
}

// Inspect fails for what Inspect finds, and for a console that said something.
func (l *Look) Inspect(where string) {
	l.t.Helper()
	if faults := Ask[[]string](l, Inspect); len(faults) > 0 {
		l.t.Fatal(fmt.Sprintf("%s: %q", where, faults))
	}
	l.Silent(where)
}

// Arrive waits until a page below path has loaded: a passkey takes its time, and then a form
// is sent. While pages change there is nobody to ask, which is no fault.
func (l *Look) Arrive(path string) {
	l.t.Helper()
	deadline := time.NewTimer(10 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		where, err := chromedp.Run(l.ctx, chromedp.Evaluate[string](`document.readyState==="complete"?location.pathname:""`))
		if err == nil && where == path {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			l.t.Fatal(fmt.Sprintf("the browser is at %q (%v), want %s: %s", where, err, path, Ask[string](l, "document.body.innerText")))
		}
	}
}

// Type types into what has the focus.
func (l *Look) Type(text string) {
	l.t.Helper()
	l.must(chromedp.Do(l.ctx, chromedp.KeyEvent(text)))
}

// TabTo presses Tab until what the script tells of the focused element e is true; each
// element on the way must show that it has the focus.
func (l *Look) TabTo(what, condition string) {
	l.t.Helper()
	for range 120 {
		l.must(chromedp.Do(l.ctx, chromedp.KeyEvent(kb.Tab)))
		seen := Ask[string](l, `(()=>{const e=document.activeElement,s=getComputedStyle(e);return e===document.body?"":(s.outlineStyle==="none"||parseFloat(s.outlineWidth)<2)?"no outline: "+e.outerHTML.slice(0,120):""})()`)
		if seen != "" {
			l.t.Fatal(seen)
		}
		if Ask[bool](l, `(e=>`+condition+`)(document.activeElement)`) {
			return
		}
	}
	l.t.Fatal(fmt.Sprintf("the keyboard does not reach %s", what))
}

// Press sends a key and waits for the page that it leads to.
func (l *Look) Press(key string) {
	l.t.Helper()
	if _, err := chromedp.RunResponse(l.ctx, chromedp.KeyEvent(key)); err != nil {
		l.t.Fatal(fmt.Sprintf("press a key: %v", err))
	}
}

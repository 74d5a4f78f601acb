//go:build lab

package e2e

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A moodyServer is a submission server that goes wrong at any stage, by a seeded
// chance, and keeps for each recipient what it really did.
type moodyServer struct {
	listener net.Listener

	mu       sync.Mutex
	chance   *rand.Rand
	faults   bool            // nothing goes wrong without it
	hangs    bool            // some faults are silence
	tokens   map[string]bool // that are good
	revokeAt int             // take no token any more after so many messages; 0 is never
	taken    map[string]int  // by recipient
	refused  map[string]bool // was told a complete 5yz
	conns    sync.WaitGroup
}

func newMoodyServer(t *testing.T, seed uint64) *moodyServer {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &moodyServer{listener: listener, chance: rand.New(rand.NewPCG(seed, 1)), tokens: map[string]bool{}, taken: map[string]int{}, refused: map[string]bool{}}
	s.conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() {
				defer conn.Close()
				s.serve(conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.conns.Wait()
	})
	return s
}

func (s *moodyServer) set(faults, hangs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.hangs = faults, hangs
}

// The faults that a stage may draw.
const (
	well = iota
	later
	never
	half
	cut
	silence
)

// mood draws what happens at a stage.
func (s *moodyServer) mood(mayRefuse bool) int { return s.moodOf(12, mayRefuse) }

func (s *moodyServer) moodOf(percent int, mayRefuse bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.faults || s.chance.IntN(100) >= percent {
		return well
	}
	switch m := []int{later, never, half, cut, silence}[s.chance.IntN(5)]; {
	case m == never && !mayRefuse:
		return later
	case m == silence && !s.hangs:
		return cut
	default:
		return m
	}
}

func (s *moodyServer) heads() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chance.IntN(2) == 0
}

// serve speaks to one client until it or a fault ends it.
func (s *moodyServer) serve(conn net.Conn, in *bufio.Reader) {
	said := s.answer(conn, in, s.mood(false), "220 moody.test")
	mail, to := false, "" // what the transaction has so far
	for said {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			said = s.answer(conn, in, s.mood(false), "250-moody.test\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n250 AUTH XOAUTH2 OAUTHBEARER")
		case "AUTH":
			said = s.signIn(conn, in, rest)
		case "MAIL":
			m := s.mood(false)
			mail, to = m == well, ""
			said = s.answer(conn, in, m, "250 2.1.0 ok")
		case "RCPT":
			// The commands come all at once: one that failed makes the next ones fail.
			address := strings.ToLower(strings.Trim(strings.TrimPrefix(strings.ToUpper(strings.Fields(rest)[0]), "TO:"), "<>"))
			m := s.mood(true)
			switch {
			case !mail:
				said = s.answer(conn, in, well, "503 5.5.1 MAIL first")
				continue
			case m == well:
				to = address
			case m == never:
				s.note(address, false)
			}
			said = s.answer(conn, in, m, "250 2.1.5 ok")
		case "DATA":
			said = s.data(conn, in, to)
			mail, to = false, ""
		case "QUIT":
			fmt.Fprint(conn, "221 2.0.0 bye\r\n")
			return
		default:
			said = s.answer(conn, in, well, "250 2.0.0 ok")
		}
	}
}

// answer says the good reply or does what the mood wants; false ends the session.
func (s *moodyServer) answer(conn net.Conn, in *bufio.Reader, m int, good string) bool {
	switch m {
	case later:
		good = "451 4.3.0 not now"
	case never:
		good = "550 5.1.1 never"
	case half:
		fmt.Fprint(conn, good[:2])
		return false
	case cut:
		return false
	case silence:
		_, _ = in.WriteTo(deaf{}) // until the client is dead
		return false
	}
	_, err := fmt.Fprint(conn, good+"\r\n")
	return err == nil
}

// deaf reads what is written.
type deaf struct{}

func (deaf) Write(p []byte) (int, error) { return len(p), nil }

func (s *moodyServer) signIn(conn net.Conn, in *bufio.Reader, rest string) bool {
	text := decodeSASL(rest)
	_, token, _ := strings.Cut(text, "Bearer ")
	token, _, _ = strings.Cut(token, "\x01")
	s.mu.Lock()
	good := s.tokens[token]
	s.mu.Unlock()
	if good {
		return s.answer(conn, in, s.mood(false), "235 2.7.0 welcome")
	}
	fmt.Fprint(conn, "334 eyJzdGF0dXMiOiI0MDEifQ==\r\n")
	if _, err := in.ReadString('\n'); err != nil {
		return false
	}
	fmt.Fprint(conn, "535 5.7.8 who are you\r\n")
	return true
}

// data takes a message. What happens after the dot is what matters: taken or not, and
// told or not.
func (s *moodyServer) data(conn net.Conn, in *bufio.Reader, to string) bool {
	if to == "" {
		return s.answer(conn, in, well, "503 5.5.1 no recipient")
	}
	if m := s.mood(false); m != well {
		return s.answer(conn, in, m, "354 go on")
	}
	fmt.Fprint(conn, "354 go on\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return false // cut off before the dot: not taken
		}
		if line == ".\r\n" {
			break
		}
	}
	m := s.moodOf(40, true)                  // here a mistake of the client's costs most
	if m == well || m > never && s.heads() { // the answer may get lost, the message not
		s.note(to, true)
	}
	if m == never {
		s.note(to, false)
	}
	return s.answer(conn, in, m, "250 2.0.0 taken")
}

func (s *moodyServer) note(to string, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !taken {
		s.refused[to] = true
		return
	}
	s.taken[to]++
	total := 0
	for _, n := range s.taken {
		total += n
	}
	if total == s.revokeAt {
		clear(s.tokens)
	}
}

// A posting is a computer with an account that sends through the server.
type posting struct {
	*home
	server *moodyServer
	issuer *httptest.Server // refuses every refresh
	store  *account.Manager
}

const poster = "cron@moody.test"

func newPosting(t *testing.T, seed uint64) *posting {
	t.Helper()
	p := &posting{home: newHome(t), server: newMoodyServer(t, seed)}
	p.issuer = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
	}))
	t.Cleanup(p.issuer.Close)
	p.write(".config/letterlock/config.toml", fmt.Sprintf("[queue]\naccount = %q\naliases = \"/dev/null\"\n\n[provider.moody]\nissuer = %q\nclient_id = \"c\"\nscopes = [\"mail\"]\n\n[account.%q]\nprovider = \"moody\"\nkey = \"file\"\nsmtp = %q\nsmtp_security = \"plain\"\n",
		poster, p.issuer.URL, poster, p.server.listener.Addr()))
	return p
}

// sign keeps a grant with a token that the server takes, as login does.
func (p *posting) sign(token string) {
	p.t.Helper()
	p.mkdir(".local/state/letterlock")
	state := p.path(".local/state/letterlock")
	store, err := tokenstore.Open(filepath.Join(state, "grants"))
	if err != nil {
		p.t.Fatal(err)
	}
	keys := tokenstore.NewFile(filepath.Join(state, "keys"))
	if _, err := os.Stat(filepath.Join(state, "keys")); err != nil {
		if err := keys.Create(p.t.Context()); err != nil {
			p.t.Fatal(err)
		}
	}
	p.store = &account.Manager{Store: account.OnDisk(store), Keys: func(string) (tokenstore.Keys, error) { return keys, nil }}
	now := time.Now()
	err = p.store.Save(p.t.Context(), &account.Grant{
		Account: poster, Login: poster, Provider: "moody", Right: provider.Full,
		Client:    oauth.Client{ID: "c", Auth: oauth.AuthNone},
		Endpoints: oauth.Endpoints{Issuer: oauth.Issuer(p.issuer.URL), Token: p.issuer.URL + "/token"},
		Resources: []account.Resource{{Name: "mail", Purposes: []provider.Purpose{provider.IMAP, provider.SMTP}, Scopes: []string{"mail"}}},
		Refresh:   secret.New("refresh"), SignedIn: now, Refreshed: now,
		Access: map[string]account.Access{"mail": {Token: secret.New(token), Issued: now, Expiry: now.Add(10 * time.Hour)}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.server.tokens[token] = true
}

// post queues a message with the real program; it is accepted when that exits with 0.
func (p *posting) post(to string) (accepted bool) {
	p.t.Helper()
	r := p.run("Subject: x\n\nbody of "+to+"\n", "letterlock", "sendmail", "-odq", "-f", poster, to)
	if r.code != 0 && r.code != 75 {
		p.t.Fatal(r)
	}
	return r.code == 0
}

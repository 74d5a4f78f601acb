package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// The names of the Secret Service API (specifications.freedesktop.org/secret-service).
const (
	secretsName      = "org.freedesktop.secrets"
	secretsPath      = dbus.ObjectPath("/org/freedesktop/secrets")
	secretsInterface = "org.freedesktop.Secret."
	noObject         = dbus.ObjectPath("/")

	cipherDH    = "dh-ietf1024-sha256-aes128-cbc-pkcs7"
	cipherPlain = "plain"
)

// errNoService means that no keyring can be reached from here.
var errNoService = errors.New("no keyring within reach")

// A secretService is one connection to the desktop's keyring. Every call ends with
// the context that it was opened with.
type secretService struct {
	ctx     context.Context // bounds the connection as a whole
	conn    *dbus.Conn
	session dbus.ObjectPath
	key     []byte // of the session's cipher; nil when it is plain
	flags   dbus.Flags
}

// A wireSecret is the structure (oayays) that secrets travel in.
type wireSecret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// dialSecrets connects to the session bus and opens a session with the keyring.
func dialSecrets(ctx context.Context, where Surroundings) (*secretService, error) {
	conn, err := dialBus(ctx, where)
	if err != nil {
		return nil, err
	}
	s := &secretService{ctx: ctx, conn: conn}
	if !where.Display {
		// A keyring that the bus starts for an ssh or cron session is an empty or locked
		// one, stays, and hides that the person's own is not running.
		s.flags = dbus.FlagNoAutoStart
	}
	if err := s.openSession(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *secretService) close() { _ = s.conn.Close() }

// dialBus connects to the session bus that is there. It starts none: dbus.SessionBus
// would, and its keyring would be another one than the person's, left running.
func dialBus(ctx context.Context, where Surroundings) (*dbus.Conn, error) {
	var problems []error
	for _, socket := range busSockets(where) {
		conn, err := connectBus(ctx, socket)
		if err == nil {
			return conn, nil
		}
		problems = append(problems, err)
	}
	if len(problems) == 0 {
		problems = append(problems, errors.New("DBUS_SESSION_BUS_ADDRESS names no unix socket"))
	}
	return nil, fmt.Errorf("no D-Bus session bus (%w): %w", errors.Join(problems...), errNoService)
}

func connectBus(ctx context.Context, socket string) (*dbus.Conn, error) {
	wire, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	// The context closes the connection, so that a silent bus cannot keep us in Auth.
	conn, err := dbus.NewConn(wire, dbus.WithContext(ctx))
	if err != nil {
		_ = wire.Close()
		return nil, err
	}
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil {
		err = conn.Hello()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	return conn, nil
}

// busSockets lists where the session bus may be: what the environment says, or,
// when cron has left it out, where systemd puts it. Only unix sockets count: other
// transports run programs or carry secrets over a network.
func busSockets(where Surroundings) []string {
	address := where.getenv("DBUS_SESSION_BUS_ADDRESS")
	if address == "" {
		runtime := where.getenv("XDG_RUNTIME_DIR")
		if runtime == "" {
			runtime = filepath.Join("/run/user", strconv.Itoa(os.Geteuid()))
		}
		return []string{filepath.Join(runtime, "bus")}
	}
	var sockets []string
	for one := range strings.SplitSeq(address, ";") {
		options, ok := strings.CutPrefix(one, "unix:")
		if !ok {
			continue
		}
		for option := range strings.SplitSeq(options, ",") {
			key, value, _ := strings.Cut(option, "=")
			value, err := dbus.UnescapeBusAddressValue(value)
			switch {
			case err != nil || value == "":
			case key == "path":
				sockets = append(sockets, value)
			case key == "abstract":
				sockets = append(sockets, "@"+value)
			}
		}
	}
	return sockets
}

// openSession agrees on how secrets travel. A plain session would be safe from
// other users, but dbus-monitor and what people paste of it would show the key;
// plain is used only when the keyring knows nothing else.
func (s *secretService) openSession() error {
	exchange, err := newExchange()
	if err != nil {
		return err
	}
	var output dbus.Variant
	err = s.call(secretsPath, "Service.OpenSession", cipherDH, dbus.MakeVariant(exchange.public())).Store(&output, &s.session)
	if isDBusError(err, "org.freedesktop.DBus.Error.NotSupported") {
		err = s.call(secretsPath, "Service.OpenSession", cipherPlain, dbus.MakeVariant("")).Store(&output, &s.session)
		return s.explain("open session", err)
	}
	if err != nil {
		return s.explain("open session", err)
	}
	theirs, ok := output.Value().([]byte)
	if !ok {
		return fmt.Errorf("keyring: open session: %w", errExchange)
	}
	s.key, err = exchange.sharedKey(theirs)
	return err
}

// defaultCollection returns the keyring that is the person's default.
func (s *secretService) defaultCollection() (dbus.ObjectPath, error) {
	var path dbus.ObjectPath
	err := s.call(secretsPath, "Service.ReadAlias", "default").Store(&path)
	if err != nil {
		return "", s.explain("find default keyring", err)
	}
	if path == noObject {
		return "", fmt.Errorf("there is no default keyring yet, a desktop login makes one: %w", errNoService)
	}
	return path, nil
}

// locked says whether a keyring is locked.
func (s *secretService) locked(collection dbus.ObjectPath) (bool, error) {
	var value dbus.Variant
	err := s.conn.Object(secretsName, collection).CallWithContext(s.ctx, "org.freedesktop.DBus.Properties.Get", s.flags,
		secretsInterface+"Collection", "Locked").Store(&value)
	if err != nil {
		return false, s.explain("look at keyring", err)
	}
	locked, _ := value.Value().(bool)
	return locked, nil
}

// search returns the first item with these attributes, noObject when there is none.
// Locked keyrings are searched too: attributes are not secret.
func (s *secretService) search(attributes map[string]string) (dbus.ObjectPath, error) {
	var unlocked, locked []dbus.ObjectPath
	err := s.call(secretsPath, "Service.SearchItems", attributes).Store(&unlocked, &locked)
	if err != nil {
		return "", s.explain("search keyring", err)
	}
	for _, item := range append(unlocked, locked...) {
		return item, nil
	}
	return noObject, nil
}

// unlock opens the keyring that object is or lies in. It asks the person if one is
// there, and is done at once when nothing is locked.
func (s *secretService) unlock(object dbus.ObjectPath, person bool) error {
	var unlocked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err := s.call(secretsPath, "Service.Unlock", []dbus.ObjectPath{object}).Store(&unlocked, &prompt)
	if err != nil {
		return s.explain("unlock keyring", err)
	}
	if prompt == noObject {
		return nil
	}
	if !person {
		return fmt.Errorf("the keyring is locked and nobody is here to unlock it: %w", ErrLocked)
	}
	return s.prompt(prompt)
}

// prompt shows the keyring's dialogue and waits for its end.
func (s *secretService) prompt(path dbus.ObjectPath) error {
	signals := make(chan *dbus.Signal, 8)
	s.conn.Signal(signals)
	defer s.conn.RemoveSignal(signals)
	err := s.conn.AddMatchSignalContext(s.ctx, dbus.WithMatchObjectPath(path),
		dbus.WithMatchInterface(secretsInterface+"Prompt"), dbus.WithMatchMember("Completed"))
	if err != nil {
		return s.explain("unlock keyring", err)
	}
	if err := s.call(path, "Prompt.Prompt", "").Err; err != nil {
		return s.explain("unlock keyring", err)
	}
	for {
		select {
		case signal, open := <-signals:
			if !open {
				return s.explain("unlock keyring", dbus.ErrClosed)
			}
			if signal.Path != path || signal.Name != secretsInterface+"Prompt.Completed" || len(signal.Body) == 0 {
				continue
			}
			if dismissed, _ := signal.Body[0].(bool); dismissed {
				return fmt.Errorf("unlocking the keyring was refused: %w", ErrLocked)
			}
			return nil
		case <-s.ctx.Done():
			// The dialogue goes away with our connection.
			return s.explain("unlock keyring", context.Cause(s.ctx))
		}
	}
}

// get reads an item's secret.
func (s *secretService) get(item dbus.ObjectPath) ([]byte, error) {
	var secret wireSecret
	if err := s.call(item, "Item.GetSecret", s.session).Store(&secret); err != nil {
		return nil, s.explain("read keyring", err)
	}
	if s.key == nil {
		return secret.Value, nil
	}
	return decryptSecret(s.key, secret.Parameters, secret.Value)
}

// put stores a secret in collection.
func (s *secretService) put(collection dbus.ObjectPath, label string, attributes map[string]string, value []byte) error {
	secret := wireSecret{Session: s.session, Parameters: []byte{}, Value: value, ContentType: "text/plain"}
	if s.key != nil {
		var err error
		if secret.Parameters, secret.Value, err = encryptSecret(s.key, value); err != nil {
			return err
		}
	}
	properties := map[string]dbus.Variant{
		secretsInterface + "Item.Label":      dbus.MakeVariant(label),
		secretsInterface + "Item.Attributes": dbus.MakeVariant(attributes),
	}
	var item, prompt dbus.ObjectPath
	err := s.call(collection, "Collection.CreateItem", properties, secret, true).Store(&item, &prompt)
	if err != nil {
		return s.explain("write keyring", err)
	}
	if prompt != noObject {
		return s.prompt(prompt)
	}
	return nil
}

func (s *secretService) call(path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return s.conn.Object(secretsName, path).CallWithContext(s.ctx, secretsInterface+method, s.flags, args...)
}

// explain tells the reasons apart that callers and people act on.
func (s *secretService) explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case s.ctx.Err() != nil:
		err = context.Cause(s.ctx)
		if errors.Is(err, errSilent) {
			return fmt.Errorf("%s: the keyring %w: %w", what, err, ErrLocked)
		}
	case isDBusError(err, secretsInterface+"Error.IsLocked"):
		return fmt.Errorf("%s: %w", what, ErrLocked)
	case isDBusError(err, "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner"),
		isDBusError(err, "org.freedesktop.DBus.Error.Spawn.ExecFailed", "org.freedesktop.DBus.Error.Spawn.ChildExited"):
		return fmt.Errorf("%s: the session bus has no Secret Service (gnome-keyring, KWallet, KeePassXC): %w", what, errNoService)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func isDBusError(err error, names ...string) bool {
	var refusal dbus.Error
	if !errors.As(err, &refusal) {
		return false
	}
	for _, name := range names {
		if refusal.Name == name {
			return true
		}
	}
	return false
}

package main

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/config"
)

// A node whose certificate the system does not know takes orders by its ca_file.
func TestPushTrustsCAFile(t *testing.T) {
	orders := make(chan string, 10)
	node := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case orders <- string(body):
		default:
		}
		w.WriteHeader(http.StatusOK)
	}))
	refused := &sentinel{word: "TLS handshake error", seen: make(chan struct{})}
	node.Config.ErrorLog = log.New(refused, "", 0)
	node.StartTLS()
	defer node.Close()
	dir := t.TempDir()
	key, ca := filepath.Join(dir, "key"), filepath.Join(dir, "ca.pem")
	for path, data := range map[string][]byte{key: []byte("key\n"), ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: node.Certificate().Raw})} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := &plan{log: slog.New(slog.DiscardHandler), now: time.Now, conf: &config.Daemon{Doveadm: map[string]config.Doveadm{"one": {URL: node.URL, KeyFile: key, CAFile: ca}}}}
	push, err := l.push()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = push.Run(ctx) }()
	defer func() { stop(); <-ended }()
	push.Revoke("ann@example.org")
	select {
	case <-orders:
	case <-refused.seen:
		t.Error("the node's certificate was refused")
	}

	l.conf.Doveadm["one"] = config.Doveadm{URL: node.URL, KeyFile: key, CAFile: key}
	if _, err := l.push(); err == nil {
		t.Error("a ca_file without a certificate was taken")
	}
}

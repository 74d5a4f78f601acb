# make try     the story of docs/design.md section 3 on loopback; needs only Go
# make quick   no peers, under three minutes: before each commit
# make test    every peer once; what CI runs; under 25 minutes
# make long    full sweeps, fuzzing, benchmarks; newest log in docs/proof/
# make live    the same story with a real account: make live ACCOUNT=you@gmail.com

GO       ?= go
LDFLAGS  := -s -w
PREFIX   ?= /usr/local
BINARY   := $(PREFIX)/bin/letterlock
DAEMON   := $(PREFIX)/sbin/letterlockd
FUZZTIME ?= 30s
TRY      ?=

export CGO_ENABLED ?= 0

.PHONY: build try quick check test lab-install cross race lab long fuzz bench live generate install uninstall install-sendmail uninstall-sendmail clean

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/letterlock ./cmd/letterlockd

try: build
	$(GO) build -trimpath -o bin/try ./cmd/try
	@bin/try -letterlock bin/letterlock -letterlockd bin/letterlockd $(if $(filter once,$(TRY)),-once)

quick: check
	$(GO) test ./...

# What a machine can say about the sources without running them.
check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags 'lab long live' ./...
	$(GO) tool -modfile=tools/go.mod staticcheck -tags 'lab long live' ./...
	$(GO) test ./internal/house

# CI. A missing server is a failure: lab-install brings it or says what is missing.
test: lab-install check cross race lab
	$(MAKE) try TRY=once
	@git diff --exit-code --stat || { echo 'the tests changed files that git tracks'; exit 1; }

lab-install:
	internal/lab/install

cross:
	for system in darwin windows freebsd; do GOOS=$$system $(GO) build -o /dev/null ./cmd/letterlock || exit 1; done
	GOOS=freebsd $(GO) build -o /dev/null ./cmd/letterlockd

# Not e2e: it drives the built binary, which has no race detector in it; lab runs it whole.
# Not house: it reads the sources, and check has.
race:
	CGO_ENABLED=1 $(GO) test -race $$($(GO) list ./... | grep -v -e /cmd/letterlock/e2e$$ -e /internal/house$$)

# The packages that have tests with peers; race has run all others. Two at a time: most of
# it is waiting for servers.
lab: build
	$(GO) test -tags lab -p 2 -count 1 -timeout 20m $$(git grep -l '^//go:build.*lab' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's|^|./|')

long: lab-install check
	bench/long

fuzz:
	bench/fuzz $(FUZZTIME)

bench: build
	$(GO) test -run '^$$' -bench . -benchmem ./...
	bench/token
	bench/send
	bench/server
	bench/gateway
	bench/oauth

live: build
	@test -n '$(ACCOUNT)' || { echo 'make live ACCOUNT=you@example.org: the account to sign in with'; exit 64; }
	$(GO) test -tags live -count 1 -v -run TestLive ./cmd/letterlock/e2e -args -account '$(ACCOUNT)'

generate: build
	bin/letterlock gen-docs docs
	bin/letterlockd gen-docs docs

# The names that programs call: below PREFIX, and where Debian's policy wants them.
NAMES    := $(addprefix $(PREFIX)/,sbin/sendmail lib/sendmail bin/mailq bin/newaliases bin/mailx bin/mail bin/mutt_oauth2.py)
SENDMAIL := /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases /usr/bin/mailx /usr/bin/mail
SHARE    := $(DESTDIR)$(PREFIX)/share
UNITS    := $(DESTDIR)$(PREFIX)/lib/systemd

install: build
	dist/names check $(BINARY) '$(DESTDIR)' $(NAMES)
	install -D -m 0755 bin/letterlock $(DESTDIR)$(BINARY)
	install -D -m 0755 bin/letterlockd $(DESTDIR)$(DAEMON)
	dist/names install $(BINARY) '$(DESTDIR)' $(NAMES)
	for page in docs/man/*.[158]; do install -D -m 0644 $$page $(SHARE)/man/man$${page##*.}/$${page##*/} || exit 1; done
	for name in letterlock letterlockd; do \
		install -D -m 0644 docs/completion/$$name.bash $(SHARE)/bash-completion/completions/$$name && \
		install -D -m 0644 docs/completion/_$$name $(SHARE)/zsh/site-functions/_$$name && \
		install -D -m 0644 docs/completion/$$name.fish $(SHARE)/fish/vendor_completions.d/$$name.fish || exit 1; done
	cd dist/systemd && for unit in */*; do install -D -m 0644 $$unit $(abspath $(UNITS))/$$unit || exit 1; done

uninstall:
	dist/names uninstall $(BINARY) '$(DESTDIR)' $(NAMES)
	rm -f $(DESTDIR)$(BINARY) $(DESTDIR)$(DAEMON)
	for page in docs/man/*.[158]; do rm -f $(SHARE)/man/man$${page##*.}/$${page##*/}; done
	for name in letterlock letterlockd; do rm -f $(SHARE)/bash-completion/completions/$$name $(SHARE)/zsh/site-functions/_$$name $(SHARE)/fish/vendor_completions.d/$$name.fish; done
	cd dist/systemd && for unit in */*; do rm -f $(abspath $(UNITS))/$$unit; done

# In place of the system's sendmail and mail. It replaces no file of a package: it
# stops and prints the dpkg-divert that moves it aside.
install-sendmail:
	@test -x $(DESTDIR)$(BINARY) || { echo 'make install first: $(BINARY) is not there'; exit 1; }
	dist/names install $(BINARY) '$(DESTDIR)' $(SENDMAIL)

uninstall-sendmail:
	dist/names uninstall $(BINARY) '$(DESTDIR)' $(SENDMAIL)

clean:
	rm -rf bin .lab

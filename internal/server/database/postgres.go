package database

import (
	"database/sql"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

func (db *DB) openPostgres(place string) error {
	config, err := pgx.ParseConfig(place)
	if err != nil {
		return err // pgx leaves the password out
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "letterlockd"
	}
	// A host that swallows packets must not hold up the next one in the list.
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = max(db.o.Timeout/2, time.Second)
	}
	config.Tracer = commitTracer{}
	db.engine = engine{
		name: postgres,
		words: strings.NewReplacer("{lite}", "--", "{create view}", "CREATE OR REPLACE VIEW", "{barrier}", "WITH (security_barrier = true)", "{text}", `TEXT COLLATE "C"`, "{now}",
			"CAST(extract(epoch FROM now()) * 1000000 AS BIGINT)"),
		options: &sql.TxOptions{Isolation: sql.LevelSerializable},
		reading: &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(db.o.Conns)
	pool.SetMaxIdleConns(db.o.Conns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	// So that after a failover or a change of DNS the load spreads again by itself.
	pool.SetConnMaxLifetime(30 * time.Minute)
	db.writes, db.soft, db.reads = pool, pool, pool
	return nil
}

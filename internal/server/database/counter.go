package database

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Count adds to a counter of a window that began at a time, and returns the sum over all
// instances. A power cut may take the last counts back.
func (db *DB) Count(ctx context.Context, key string, window time.Time, add int) (int, error) {
	var sum int
	err := db.softly(ctx, "count", func(tx *tx) error {
		return tx.returning(`INSERT INTO counter (name, opened, n) VALUES ($1, $2, $3)
			ON CONFLICT (name, opened) DO UPDATE SET n = counter.n + $3 RETURNING n`, []any{key, micros(window), add}, &sum)
	})
	return sum, err
}

// countsAtOnce bounds the parameters of one query.
const countsAtOnce = 200

// Counts reads counters of one window; those never counted are not in the answer.
func (db *DB) Counts(ctx context.Context, keys []string, window time.Time) (map[string]int, error) {
	counts := map[string]int{}
	err := db.snapshot(ctx, "read counters", func(tx *tx) error {
		clear(counts)
		for start := 0; start < len(keys); start += countsAtOnce {
			some := keys[start:min(start+countsAtOnce, len(keys))]
			args := []any{micros(window)}
			marks := make([]string, len(some))
			for i, key := range some {
				args = append(args, key)
				marks[i] = fmt.Sprintf("$%d", i+2)
			}
			err := tx.all(`SELECT name, n FROM counter WHERE opened = $1 AND name IN (`+strings.Join(marks, ", ")+`)`, args,
				func(scan func(...any) error) error {
					var key string
					var n int
					err := scan(&key, &n)
					counts[key] = n
					return err
				})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return counts, err
}

// SweepCounts deletes the counters of windows that began before a time.
func (db *DB) SweepCounts(ctx context.Context, before time.Time) error {
	return db.softly(ctx, "sweep counters", func(tx *tx) error {
		_, err := tx.exec(`DELETE FROM counter WHERE opened < $1`, micros(before))
		return err
	})
}

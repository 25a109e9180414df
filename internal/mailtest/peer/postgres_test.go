package peer_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

func TestPostgresAnswersAgainAfterARestart(t *testing.T) {
	p := peer.Postgres(t)
	for range 2 {
		c, err := pgconn.Connect(context.Background(), p.URL+"?sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		r := c.ExecParams(context.Background(), "SHOW fsync", nil, nil, nil, nil).Read()
		if r.Err != nil || string(r.Rows[0][0]) != "on" {
			t.Errorf("fsync is %q, %v", r.Rows, r.Err)
		}
		c.Close(context.Background())
		p.Restart()
	}
}

package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
)

var background = context.Background()

// migrate runs the steps that the store has not seen, all in one transaction.
// Steps that it has seen must be the same as then.
func migrate(c *conn, schemas []Schema) (err error) {
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer c.rollback()
	t := &tx{c: c, ctx: background}
	if err := addAdditive(t); err != nil {
		return err
	}
	if err := checkNames(schemas); err != nil {
		return err
	}
	for _, schema := range schemas {
		if err := migrateOne(t, schema); err != nil {
			return fmt.Errorf("schema %q: %w", schema.Name, err)
		}
	}
	return c.exec("COMMIT")
}

func checkNames(schemas []Schema) error {
	seen := map[string]bool{}
	for _, schema := range schemas {
		if seen[schema.Name] {
			return fmt.Errorf("schema %q is given twice", schema.Name)
		}
		seen[schema.Name] = true
	}
	return nil
}

// isAdditive tells whether a step says that programs without it can go on, in a
// store of that kind.
func isAdditive(step string, shared bool) bool {
	step = strings.TrimSpace(step)
	return strings.HasPrefix(step, "-- additive\n") || shared && strings.HasPrefix(step, "-- additive where shared\n")
}

func migrateOne(t *tx, schema Schema) error {
	var done []doneStep
	err := t.Rows("SELECT digest, additive FROM store_schema WHERE name = ? ORDER BY step", []any{schema.Name},
		func(scan func(...any) error) error {
			var d doneStep
			err := scan(&d.digest, &d.additive)
			done = append(done, d)
			return err
		})
	if err != nil {
		return err
	}
	todo, err := schema.missing(done)
	if err != nil {
		return err
	}
	for i := len(schema.Steps) - todo; i < len(schema.Steps); i++ {
		step := schema.Steps[i]
		if err := t.c.exec(step); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
		if !t.c.inTransaction() {
			return fmt.Errorf("step %d ends the transaction", i+1)
		}
		digest := sha256.Sum256([]byte(step))
		if _, err := t.Exec("INSERT INTO store_schema (name, step, digest, additive) VALUES (?, ?, ?, ?)", schema.Name, i+1, digest[:], isAdditive(step, false)); err != nil {
			return err
		}
	}
	return nil
}

// addAdditive adds the column to stores that were made before it.
func addAdditive(t *tx) error {
	var n int
	err := t.Row("SELECT 1 FROM pragma_table_info('store_schema') WHERE name = 'additive'", nil, &n)
	if err == ErrNoRow {
		_, err = t.Exec("ALTER TABLE store_schema ADD COLUMN additive INTEGER NOT NULL DEFAULT 0")
	}
	return err
}

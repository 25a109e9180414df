package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
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
	seen := map[string]bool{}
	for _, schema := range schemas {
		if seen[schema.Name] {
			return fmt.Errorf("schema %q is given twice", schema.Name)
		}
		seen[schema.Name] = true
		if err := migrateOne(t, schema); err != nil {
			return fmt.Errorf("schema %q: %w", schema.Name, err)
		}
	}
	return c.exec("COMMIT")
}

func migrateOne(t *tx, schema Schema) error {
	var digests [][]byte
	err := t.Rows("SELECT digest FROM store_schema WHERE name = ? ORDER BY step", []any{schema.Name},
		func(scan func(...any) error) error {
			var d []byte
			err := scan(&d)
			digests = append(digests, d)
			return err
		})
	if err != nil {
		return err
	}
	if len(digests) > len(schema.Steps) {
		return fmt.Errorf("the store was made by a newer letterlock (step %d, this one knows %d)", len(digests), len(schema.Steps))
	}
	for i, step := range schema.Steps {
		digest := sha256.Sum256([]byte(step))
		if i < len(digests) {
			if !bytes.Equal(digests[i], digest[:]) {
				return fmt.Errorf("step %d is not the one that this store was made with", i+1)
			}
			continue
		}
		if err := t.c.exec(step); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
		if !t.c.inTransaction() {
			return fmt.Errorf("step %d ends the transaction", i+1)
		}
		if _, err := t.Exec("INSERT INTO store_schema (name, step, digest) VALUES (?, ?, ?)", schema.Name, i+1, digest[:]); err != nil {
			return err
		}
	}
	return nil
}

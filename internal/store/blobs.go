package store

import (
	"fmt"
	"slices"
	"strings"
)

// blobs is what a shared store knows of its columns of bytes, which it seals.
type blobs struct {
	tables map[string]map[string]blob // by table and column, in lower case
	// former has the other tables that a table's rows may have been sealed for:
	// its names before, and those that its rows were copied from.
	former map[string][]string
}

// blob is a column of bytes.
type blob struct {
	// lookup: it is part of a key or an index, so that it is compared; equal bytes
	// are sealed equally.
	lookup bool
}

func newBlobs() *blobs {
	return &blobs{tables: map[string]map[string]blob{}, former: map[string][]string{}}
}

// learn reads a step of a schema.
func (b *blobs) learn(step string) error {
	fresh := map[string]bool{}
	for _, st := range split(tokens(step)) {
		w := make([]string, min(8, len(st)))
		for i := range w {
			w[i] = st[i].word()
		}
		head := strings.Join(w[:min(2, len(w))], " ")
		var err error
		switch {
		case head == "CREATE TABLE":
			name, body := tableBody(st)
			b.tables[name] = b.columns(body)
			fresh[name] = true
		case head == "CREATE INDEX", head == "CREATE UNIQUE":
			err = b.index(st, fresh)
		case head == "ALTER TABLE":
			err = b.alter(st)
		case head == "DROP TABLE":
			delete(b.tables, lower(st[len(st)-1]))
		case head == "INSERT INTO":
			b.copied(st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func lower(t token) string { return strings.ToLower(t.text) }

// tableBody is the name in CREATE TABLE [IF NOT EXISTS] name ( body ).
func tableBody(st []token) (name string, body []token) {
	for i, t := range st {
		if t.text == "(" {
			return lower(st[i-1]), st[i+1:]
		}
	}
	return lower(st[len(st)-1]), nil
}

// columns reads the definitions of a table's columns.
func (b *blobs) columns(body []token) map[string]blob {
	cols := map[string]blob{}
	for _, def := range commas(body) {
		switch def[0].word() {
		case "PRIMARY", "UNIQUE":
			for _, t := range def {
				if _, ok := cols[lower(t)]; ok {
					cols[lower(t)] = blob{lookup: true}
				}
			}
		case "CHECK", "FOREIGN", "CONSTRAINT":
		default:
			if len(def) > 1 && def[1].word() == "BLOB" {
				cols[lower(def[0])] = blob{lookup: has(def, "PRIMARY") || has(def, "UNIQUE")}
			}
		}
	}
	return cols
}

func has(ts []token, word string) bool {
	return slices.ContainsFunc(ts, func(t token) bool { return t.word() == word })
}

// commas splits what stands before the closing parenthesis at its commas.
func commas(ts []token) (parts [][]token) {
	depth, start := 0, 0
	for i, t := range ts {
		switch t.text {
		case "(":
			depth++
		case ")":
			depth--
		}
		if depth < 0 || depth == 0 && t.text == "," {
			if i > start {
				parts = append(parts, ts[start:i])
			}
			start = i + 1
		}
		if depth < 0 {
			return parts
		}
	}
	return append(parts, ts[start:])
}

// index reads CREATE [UNIQUE] INDEX name ON table ( columns ).
func (b *blobs) index(st []token, fresh map[string]bool) error {
	for i, t := range st {
		if t.word() != "ON" || i+2 >= len(st) {
			continue
		}
		table := lower(st[i+1])
		for _, col := range commas(st[i+3:]) {
			if _, ok := b.tables[table][lower(col[0])]; ok {
				if !fresh[table] {
					return fmt.Errorf("%s.%s holds bytes: its index must be made in the step that makes the table", table, lower(col[0]))
				}
				b.tables[table][lower(col[0])] = blob{lookup: true}
			}
		}
		return nil
	}
	return nil
}

// alter reads ALTER TABLE name ADD [COLUMN] column BLOB, and RENAME TO name.
func (b *blobs) alter(st []token) error {
	if len(st) < 6 {
		return nil
	}
	table, rest := lower(st[2]), st[4:]
	switch st[3].word() {
	case "ADD":
		if rest[0].word() == "COLUMN" {
			rest = rest[1:]
		}
		if len(rest) > 1 && rest[1].word() == "BLOB" {
			if b.tables[table] == nil {
				b.tables[table] = map[string]blob{}
			}
			b.tables[table][lower(rest[0])] = blob{}
		}
	case "RENAME":
		if rest[0].word() != "TO" {
			old := rest[0]
			if old.word() == "COLUMN" {
				old = rest[1]
			}
			if _, ok := b.tables[table][lower(old)]; ok {
				return fmt.Errorf("%s.%s holds bytes, which are sealed for a column of that name", table, lower(old))
			}
			return nil
		}
		to := lower(rest[1])
		b.tables[to] = b.tables[table]
		b.former[to] = append(append(b.former[to], table), b.former[table]...)
		delete(b.tables, table)
	}
	return nil
}

// copied reads INSERT INTO table … SELECT … FROM table.
func (b *blobs) copied(st []token) {
	to := lower(st[2])
	for i, t := range st[:len(st)-1] {
		if w := t.word(); w == "FROM" || w == "JOIN" {
			from := lower(st[i+1])
			b.former[to] = append(append(b.former[to], from), b.former[from]...)
		}
	}
}

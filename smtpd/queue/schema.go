package queue

import "letterlock.org/letterlock/internal/store"

// Schema is the queue's tables.
//
// queue_item has one row for each [Entry] that isn't in the daybook, in the order of their IDs, which
// begin with the time: one that is only remembered touches as few pages as can
// be. What is looked for has partial indexes, so that finding it costs what is
// found, however much is stored:
//
//   - hash: the submission, to recognise a client's repetition;
//   - account, domain, due: what waits, by [lane];
//   - alarm: when somebody must be told that it is late, or that it is given up;
//   - node: what a node works on right now;
//   - state: what a person may want to see, with the bytes of its bodies.
//
// queue_piece holds bodies, sealed, in pieces, so that a large one never has to
// be in memory as a whole. queue_waits names the addresses whose certificates
// held entries wait for. queue_node says which of several nodes on one store live.
//
// queue_page is the daybook, queue_volume its closed volumes by their last pages,
// and queue_found where in them the submissions are.
var Schema = store.Schema{Name: "queue", Steps: []string{
	`CREATE TABLE queue_entry (
		id TEXT PRIMARY KEY, account TEXT NOT NULL, submission TEXT NOT NULL,
		state TEXT NOT NULL, due INTEGER NOT NULL, touched INTEGER NOT NULL,
		body INTEGER NOT NULL, entry BLOB NOT NULL)`,
	`CREATE INDEX queue_entry_due ON queue_entry (state, due)`,
	`CREATE TABLE queue_body (
		id TEXT NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (id, n))`,
	// One page is written for a submission's row, not one in each of three trees:
	// rows lie in the order of their IDs, which begin with the time, and only
	// what waits is indexed.
	`CREATE TABLE queue_ordered (
		id TEXT PRIMARY KEY, account TEXT NOT NULL, submission TEXT NOT NULL,
		state TEXT NOT NULL, due INTEGER NOT NULL, touched INTEGER NOT NULL,
		body INTEGER NOT NULL, entry BLOB NOT NULL) WITHOUT ROWID;
	INSERT INTO queue_ordered SELECT id, account, submission, state, due, touched, body, entry FROM queue_entry;
	DROP TABLE queue_entry;
	ALTER TABLE queue_ordered RENAME TO queue_entry;
	CREATE INDEX queue_entry_due ON queue_entry (due) WHERE state = 'waiting'`,
	// What the first tables held is taken over by New; see adopt.
	`CREATE TABLE queue_item (
		id TEXT PRIMARY KEY, account TEXT NOT NULL, domain TEXT NOT NULL, hash INTEGER NOT NULL,
		state TEXT NOT NULL, node TEXT NOT NULL, due INTEGER NOT NULL, alarm INTEGER NOT NULL,
		touched INTEGER NOT NULL, body INTEGER NOT NULL, entry BLOB NOT NULL) WITHOUT ROWID`,
	`CREATE INDEX queue_item_hash ON queue_item (hash) WHERE hash <> 0`,
	`CREATE INDEX queue_item_lane ON queue_item (account, domain, due) WHERE state = 'waiting' AND node = ''`,
	`CREATE INDEX queue_item_held ON queue_item (due) WHERE state = 'held' AND node = ''`,
	`CREATE INDEX queue_item_alarm ON queue_item (alarm) WHERE alarm > 0`,
	`CREATE INDEX queue_item_node ON queue_item (node) WHERE node <> ''`,
	`CREATE INDEX queue_item_state ON queue_item (state, id, body) WHERE state <> 'sent' AND state <> 'sending'`,
	`CREATE TABLE queue_piece (
		id TEXT NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (id, n))`,
	`CREATE TABLE queue_waits (
		address TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (address, id))`,
	`CREATE INDEX queue_waits_id ON queue_waits (id)`,
	`CREATE TABLE queue_node (node TEXT PRIMARY KEY, until INTEGER NOT NULL)`,
	// Nobody writes into these in a shared store.
	`-- additive where shared
	CREATE TABLE queue_page (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
	CREATE TABLE queue_volume (
		last INTEGER PRIMARY KEY, closed INTEGER NOT NULL, lo TEXT NOT NULL, hi TEXT NOT NULL);
	CREATE INDEX queue_volume_hi ON queue_volume (hi);
	CREATE TABLE queue_found (
		bucket INTEGER NOT NULL, volume INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (bucket, volume)) WITHOUT ROWID`,
}}

package index

import "letterlock.org/letterlock/internal/store"

// transform is the version of the way from a raw message to its rendering,
// envelope and structure. Rows of another version are opened again, with their
// frozen verdict.
const transform = 4

// Schema is the tables of this package, for store.Open.
//
// index_message has a row for every classified UID; index_row one for every
// UID that was opened; index_text the decoded text of opened ones, in pieces.
// index_frozen has the verdict of each opened raw message, which outlives the
// message by keepFrozen. index_opened has the keyed hashes of opened
// Message-IDs, index_packet those of opened packets (account is empty in what
// holds for all): these two are kept for ever, since a reply or a replay may come
// years later, and cost some hundred bytes for each message opened.
var Schema = store.Schema{
	Name: "index",
	Steps: []string{
		`CREATE TABLE index_mailbox (
			id INTEGER PRIMARY KEY,
			account TEXT NOT NULL,
			name TEXT NOT NULL,
			uidvalidity INTEGER NOT NULL,
			UNIQUE (account, name, uidvalidity))`,
		`CREATE TABLE index_message (
			mailbox INTEGER NOT NULL,
			uid INTEGER NOT NULL,
			class TEXT NOT NULL,
			state INTEGER NOT NULL,
			modseq INTEGER NOT NULL,
			header INTEGER NOT NULL,
			masks BLOB,
			reason TEXT NOT NULL,
			mac BLOB,
			PRIMARY KEY (mailbox, uid))`,
		`CREATE TABLE index_row (
			mailbox INTEGER NOT NULL,
			uid INTEGER NOT NULL,
			raw BLOB NOT NULL,
			transform INTEGER NOT NULL,
			size INTEGER NOT NULL,
			sent INTEGER NOT NULL,
			sender TEXT NOT NULL,
			signer TEXT NOT NULL,
			message_id TEXT NOT NULL,
			header BLOB NOT NULL,
			envelope BLOB NOT NULL,
			body BLOB NOT NULL,
			structure BLOB NOT NULL,
			verdict BLOB NOT NULL,
			class TEXT NOT NULL,
			mac BLOB NOT NULL,
			PRIMARY KEY (mailbox, uid))`,
		`CREATE TABLE index_text (
			mailbox INTEGER NOT NULL,
			uid INTEGER NOT NULL,
			kind INTEGER NOT NULL,
			piece INTEGER NOT NULL,
			text BLOB NOT NULL,
			PRIMARY KEY (mailbox, uid, kind, piece))`,
		`CREATE TABLE index_frozen (
			account TEXT NOT NULL,
			raw BLOB NOT NULL,
			verdict BLOB NOT NULL,
			mac BLOB NOT NULL,
			PRIMARY KEY (account, raw))`,
		`CREATE TABLE index_opened (
			account TEXT NOT NULL,
			message_id BLOB NOT NULL,
			PRIMARY KEY (account, message_id))`,
		`CREATE TABLE index_packet (
			account TEXT NOT NULL,
			packet BLOB NOT NULL,
			origin BLOB NOT NULL,
			PRIMARY KEY (account, packet))`,
		`CREATE INDEX index_row_signer ON index_row (signer)`,
		`ALTER TABLE index_frozen ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
		CREATE INDEX index_row_raw ON index_row (raw)`,
	},
}

package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/internal/message"
)

// fetch asks for one section of messages and gives each to take, with its UID.
// The bytes are gathered first: a server may tell the UID after them.
func (s *scan) fetch(uids []uint32, section *imap.FetchItemBodySection, take func(uint32, io.Reader) error) error {
	return s.each(uids, section, func(uid uint32, spool *message.Spool) error {
		defer spool.Close()
		return take(uid, message.Reader(spool))
	})
}

// each streams one section of messages into spools, which take closes. A
// message that is too large for one is settled as such.
func (s *scan) each(uids []uint32, section *imap.FetchItemBodySection, take func(uint32, *message.Spool) error) error {
	set := imap.UIDSet{}
	for _, uid := range uids {
		set.AddNum(imap.UID(uid))
	}
	cmd := s.client.Fetch(set, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{section}})
	defer cmd.Close()
	for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
		uid, spool, err := s.receive(msg)
		if err != nil {
			return err
		}
		if uid == 0 || spool == nil || !slices.Contains(uids, uid) {
			if spool != nil {
				spool.Close()
			}
			continue // flags that changed meanwhile, or what nobody asked for
		}
		if err := take(uid, spool); err != nil {
			return err
		}
	}
	return cmd.Close()
}

// receive reads the items of one FETCH response.
func (s *scan) receive(msg *imapclient.FetchMessageData) (uid uint32, spool *message.Spool, err error) {
	for item := msg.Next(); item != nil; item = msg.Next() {
		switch item := item.(type) {
		case imapclient.FetchItemDataUID:
			uid = uint32(item.UID)
		case imapclient.FetchItemDataBodySection:
			if item.Literal == nil {
				continue
			}
			if spool != nil {
				spool.Close()
			}
			spool = message.NewSpool(s.x.c.Library.c.Spool)
			_, err = io.Copy(spool, item.Literal)
			if errors.Is(err, message.ErrTooLarge) {
				// The rest is read and dropped; opening says that it was too large.
				spool.Close()
				spool, err = nil, nil
				s.tooLarge(uid)
				io.Copy(io.Discard, item.Literal)
			}
			if err != nil {
				spool.Close()
				return 0, nil, fmt.Errorf("fetching a message: %w", err)
			}
		}
	}
	return uid, spool, nil
}

// tooLarge settles a message that no spool takes, if the server told its UID
// before it; else it is tried again.
func (s *scan) tooLarge(uid uint32) {
	if uid == 0 {
		return
	}
	o := tooLarge(s.x.c.Library)
	if err := s.m.settle(context.Background(), uid, o); err != nil {
		s.x.c.Logger.Warn("noting that a message is too large", "error", err)
	}
}

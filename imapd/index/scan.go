package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// How many messages one command asks for: of headers, and of whole messages.
// Between two commands the indexer looks whether it should give way.
const (
	classifyBatch = 100
	openBatch     = 50
)

// openAtOnce is how many messages may wait to be opened and stored: enough that
// they share a sync to disk.
const openAtOnce = 16

// scan looks at one mailbox. It is used by one goroutine.
type scan struct {
	x      *Indexer
	client *imapclient.Client
	box    box
	m      *Mailbox
	uids   []uint32 // ascending
}

// mailbox indexes what is new, and gives the mailbox's UIDVALIDITY, 0 if it
// cannot be had.
func (s *scan) mailbox(ctx context.Context) (uidvalidity uint32, err error) {
	data, err := s.client.Select(s.box.display, &imap.SelectOptions{ReadOnly: true, CondStore: s.client.Caps().Has(imap.CapCondStore)}).Wait()
	if err != nil {
		var no *imap.Error
		if errors.As(err, &no) && no.Type == imap.StatusResponseTypeNo {
			return 0, nil // removed since it was listed, or not ours to read
		}
		return 0, err
	}
	if data.UIDValidity == 0 {
		return 0, nil // its UIDs mean nothing later
	}
	now := snapshot{data.UIDValidity, uint32(data.UIDNext), data.NumMessages}
	if s.x.seen[s.box.name] == now && now.uidnext != 0 {
		return data.UIDValidity, nil
	}
	if s.m, err = s.x.c.Library.Mailbox(ctx, s.box.name, data.UIDValidity); err != nil {
		return 0, err
	}
	defer s.m.Close()
	s.m.SawModSeq(data.HighestModSeq)
	if err := s.listed(ctx, data); err != nil {
		return 0, err
	}
	left, err := s.work(ctx)
	if err != nil {
		return 0, err
	}
	if left == 0 {
		s.x.seen[s.box.name] = now
	}
	return data.UIDValidity, nil
}

// listed learns which messages there are.
func (s *scan) listed(ctx context.Context, data *imap.SelectData) error {
	s.uids = nil
	if data.NumMessages > 0 {
		found, err := s.client.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
		if err != nil {
			return fmt.Errorf("listing messages: %w", err)
		}
		set, _ := found.All.(imap.UIDSet)
		if s.uids, err = uids(set, data.NumMessages); err != nil {
			return err
		}
	}
	if data.UIDNext == 0 || len(s.uids) < int(data.NumMessages) {
		return nil // a server that does not say, or finds a few of all; rows of what is gone stay
	}
	return s.m.Reconcile(ctx, s.uids, uint32(data.UIDNext))
}

// work classifies and opens, newest first, and gives the number of messages
// that are left undone.
func (s *scan) work(ctx context.Context) (left int, err error) {
	defer func() { s.count() }()
	todo := newestFirst(s.m.Unclassified(s.uids))
	for len(todo) > 0 {
		n := min(len(todo), classifyBatch)
		if err := s.classify(ctx, todo[:n]); err != nil {
			return 0, err
		}
		// What looks encrypted among the newest is opened before older mail is
		// classified: it is what people look at.
		if err := s.open(ctx, newestFirst(s.m.Unsettled(oldestFirst(todo[:n])))); err != nil {
			return 0, err
		}
		todo = todo[n:]
		s.count()
	}
	if err := s.open(ctx, newestFirst(s.m.Unsettled(s.uids))); err != nil {
		return 0, err
	}
	return len(s.m.Unsettled(s.uids)) + len(s.m.Unclassified(s.uids)), nil
}

func newestFirst(uids []uint32) []uint32 {
	uids = slices.Clone(uids)
	slices.Reverse(uids)
	return uids
}

func oldestFirst(uids []uint32) []uint32 { return newestFirst(uids) }

// count tells the status how far it is.
func (s *scan) count() {
	done := len(s.uids) - len(s.m.Unclassified(s.uids)) - len(s.m.Unsettled(s.uids))
	s.x.update(func(st *Status) {
		for i := range st.Mailboxes {
			if st.Mailboxes[i].Name == s.box.display {
				st.Mailboxes[i].Total, st.Mailboxes[i].Done = len(s.uids), done
			}
		}
	})
}

var (
	headerSection = &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, Peek: true}
	prefixSection = &imap.FetchItemBodySection{Specifier: imap.PartSpecifierText, Peek: true, Partial: &imap.SectionPartial{Size: PrefixBytes}}
	wholeSection  = &imap.FetchItemBodySection{Peek: true}
)

// classify fetches headers, and the beginnings of those texts that need it.
func (s *scan) classify(ctx context.Context, uids []uint32) error {
	if err := s.x.giveWay(ctx); err != nil {
		return err
	}
	var messages []Classification
	var prefixes []uint32
	at := map[uint32]int{}
	err := s.fetch(uids, headerSection, func(uid uint32, r io.Reader) error {
		header, err := io.ReadAll(io.LimitReader(r, maxHeader))
		if err != nil {
			return err
		}
		at[uid] = len(messages)
		messages = append(messages, Classification{UID: uid, Header: header})
		if NeedsPrefix(header) {
			prefixes = append(prefixes, uid)
		}
		return nil
	})
	if err == nil && len(prefixes) > 0 {
		err = s.fetch(prefixes, prefixSection, func(uid uint32, r io.Reader) error {
			prefix, err := io.ReadAll(io.LimitReader(r, PrefixBytes))
			if i, ok := at[uid]; ok && err == nil {
				messages[i].Prefix = prefix
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	// Of what there is nothing of now there may be something another time.
	messages = slices.DeleteFunc(messages, func(c Classification) bool { return len(c.Header) == 0 && len(c.Prefix) == 0 })
	return s.m.Classify(ctx, messages)
}

// open fetches messages whole and opens them, several at a time.
func (s *scan) open(ctx context.Context, uids []uint32) error {
	failed := s.x.failed[s.m.id]
	if failed == nil {
		failed = map[uint32]int{}
		s.x.failed[s.m.id] = failed
	}
	uids = slices.DeleteFunc(uids, func(uid uint32) bool { return failed[uid] >= maxFailures })
	for len(uids) > 0 {
		n := min(len(uids), openBatch)
		if err := s.openBatch(ctx, uids[:n], failed); err != nil {
			return err
		}
		uids = uids[n:]
	}
	return nil
}

// openBatch opens what one FETCH brings. Locked keys and a failing store end
// it; anything else is counted against its message.
func (s *scan) openBatch(ctx context.Context, uids []uint32, failed map[uint32]int) error {
	if err := s.x.giveWay(ctx); err != nil {
		return err
	}
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		fatal error
		slots = make(chan struct{}, openAtOnce)
	)
	err := s.each(uids, wholeSection, func(uid uint32, spool *message.Spool) error {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer spool.Close()
			err := s.m.index(ctx, uid, spool)
			if err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			failed[uid]++
			if errors.Is(err, pgp.ErrLocked) || errors.Is(err, store.ErrClosed) {
				failed[uid]--
				fatal = err
			}
			s.x.c.Logger.Warn("opening a message to index it", "uid", uid, "error", err)
		})
		return s.x.giveWay(ctx)
	})
	wg.Wait()
	return errors.Join(err, fatal)
}

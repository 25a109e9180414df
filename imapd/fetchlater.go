package imapd

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"letterlock.org/letterlock/imapd/wire"
)

// fetchLater fetches the encrypted messages that could not be answered for.
func (j *fetchJob) fetchLater() error {
	return j.again(func() []uint32 {
		uids := make([]uint32, 0, len(j.later))
		for uid := range j.later {
			uids = append(uids, uid)
		}
		slices.Sort(uids)
		return uids
	}(), "(UID BODY.PEEK[])", j.laterResponse)
}

// fetchAsIs fetches, as the client asked for it, what turned out not to be
// opened.
func (j *fetchJob) fetchAsIs() error {
	slices.Sort(j.asIs)
	items := append(j.withUID(), j.requestsFor(j.items)...)
	return j.again(slices.Compact(j.asIs), "("+strings.Join(items, " ")+")",
		func(seq uint32) error { return j.s.fetchResponse(seq, j.box, []*fetchJob{j}) })
}

// again fetches items of some messages, by the same kind of command as the
// client's, so that EXPUNGE responses come only if the client may have them.
func (j *fetchJob) again(uids []uint32, items string, take func(seq uint32) error) error {
	for chunk := range slices.Chunk(uids, 500) {
		name, numbers := "UID FETCH ", chunk
		if !j.uid {
			name = "FETCH "
			if numbers = j.box.view.numbers(chunk); len(numbers) == 0 {
				continue
			}
		}
		o := (&wire.Out{}).String(name + wire.MakeSet(numbers).String() + " " + items)
		if _, _, err := j.s.relay.run(o, j.pending(take)); err != nil {
			return err
		}
	}
	return nil
}

// laterResponse takes a message that is to be opened.
func (j *fetchJob) laterResponse(seq uint32) error {
	f, err := j.s.up.r.Fetch()
	if err != nil {
		return err
	}
	uid := j.box.view.uid(seq)
	k := &kept{}
	defer func() {
		if k.raw != nil {
			_ = k.raw.Close()
		}
	}()
	var dynamic []dynamicItem
	tooLarge, lost, none := false, false, false
	for {
		item, err := f.Next()
		if j.s.noMore(err) {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case wire.EqualFold(item.Name, "UID"):
			n, err := readUID(item.Value)
			if err != nil || uid != 0 && n != uid {
				return fmt.Errorf("%w: UID changed", wire.ErrDesync)
			}
			uid = n
		case wire.EqualFold(item.Name, "FLAGS"), wire.EqualFold(item.Name, "MODSEQ"):
			if len(dynamic) >= maxItems {
				return fmt.Errorf("%w: FETCH of too many items", wire.ErrDesync)
			}
			if wire.EqualFold(item.Name, "MODSEQ") {
				j.box.sawModSeq(item.Value)
			}
			dynamic = append(dynamic, dynamicItem{bytes.Clone(item.Name), bytes.Clone(item.Value)})
		case wire.EqualFold(item.Name, "BODY[]") && k.raw == nil && item.Literal:
			if k.raw, err = j.s.spool(f, nil, item.Size); err != nil {
				return err
			}
			tooLarge = k.raw == nil && item.Size > j.s.spoolLimit()
			lost = k.raw == nil
		case wire.EqualFold(item.Name, "BODY[]") && !item.Literal:
			none = true
		}
	}
	was := j.later[uid]
	switch {
	case len(dynamic) > 0 && j.merge(uid, dynamic):
	case len(dynamic) > 0:
		return j.dynamicOnly(&gathering{seq: seq, sawUID: true, kept: kept{uid: uid, dynamic: dynamic}})
	}
	if was == nil || k.raw == nil && !tooLarge {
		if was != nil && none {
			j.setAnswered(uid)
			j.write(was, nil, nil)
		}
		if was != nil && lost {
			j.setAnswered(uid)
			j.failed(was, errors.New("upstream gives no message"))
		}
		return nil
	}
	j.setAnswered(uid)
	j.work(&kept{uid: uid, dynamic: was.dynamic, news: was.news, raw: k.raw})
	k.raw = nil
	return nil
}

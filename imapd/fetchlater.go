package imapd

import (
	"errors"
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
	tooLarge, lost, none := false, false, false
	return j.each(seq, func(f *wire.FetchReader, g *gathering, item wire.Item) (err error) {
		switch {
		case !wire.EqualFold(item.Name, "BODY[]") || g.raw != nil:
		case !item.Literal:
			none = true
		default:
			err = j.keepRaw(f, g, item)
			lost = g.raw == nil
			tooLarge = lost && item.Size > j.s.spoolLimit()
		}
		return err
	}, func(g *gathering) error {
		was := j.later[g.uid]
		if was == nil || g.raw == nil && !tooLarge && !none && !lost {
			return nil
		}
		j.setAnswered(g.uid)
		switch {
		case g.raw != nil || tooLarge:
			raw := g.raw
			g.raw = nil // the worker's now
			j.work(&kept{uid: g.uid, dynamic: was.dynamic, news: was.news, raw: raw})
		case none:
			j.write(was, nil, nil)
		default:
			j.failed(was, errors.New("upstream gives no message"))
		}
		return nil
	})
}

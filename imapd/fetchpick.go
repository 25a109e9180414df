package imapd

import (
	"slices"
	"strings"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/imapd/wire"
)

// Sections of header fields are picked by us where the root header comes by
// anyway, since the class is told by it: an upstream that reads a file for that
// need not look into its cache besides. That is done where nobody can read the
// header otherwise (render.ReadRegular); of other messages the upstream is asked,
// after the others.

// picks is one of the client's items that is picked.
type picks struct {
	name []byte // as it is answered
	from *render.Picker
}

// choosePicks tells what to pick, for a FETCH whose classBy was chosen.
func (j *fetchJob) choosePicks() {
	if j.modifiers != nil || j.by != byHeader && j.by != byBeginning || j.ambiguous() ||
		slices.ContainsFunc(j.items, func(i wire.FetchItem) bool { return i.Sets() || j.cutByUs(i) }) {
		return // so that asking once more changes nothing
	}
	for _, i := range j.items {
		if pickable(i) {
			// In capitals and else as asked, as servers answer that read the names.
			j.picks = append(j.picks, picks{[]byte("BODY[" + strings.ToUpper(i.Section.String()) + "]"), render.NewPicker(i.Section.Fields, i.Section.Kind == "HEADER.FIELDS.NOT")})
		}
	}
	if len(j.picks) > 0 {
		parsed, _ := wire.ParseSet(j.set)
		j.uids = j.box.view.resolve(parsed, j.uid)
		j.picked = make([]bool, len(j.uids))
	}
}

// pickable tells whether an item is a section of fields of the root header that
// no server refuses.
func pickable(i wire.FetchItem) bool {
	if !i.Peek || i.Partial != nil || i.Section == nil || len(i.Section.Part) > 0 {
		return false
	}
	if i.Section.Kind != "HEADER.FIELDS" && i.Section.Kind != "HEADER.FIELDS.NOT" {
		return false
	}
	return !slices.ContainsFunc(i.Section.Fields, func(f string) bool { return !render.FieldName(f) })
}

// owesPicks tells whether a message is shown as it arrived and the client asked
// for fields of it that were not picked yet.
func (j *fetchJob) owesPicks(g *gathering) bool {
	if len(j.picks) == 0 || g.picked || !isShown(g.class) {
		return false
	}
	i, ok := slices.BinarySearch(j.uids, g.uid)
	return ok && !j.picked[i]
}

// pick answers for the sections of fields from the header in j.header, once the
// message is known to be shown as it arrived.
func (j *fetchJob) pick(g *gathering) {
	if !g.hasHeader || !j.owesPicks(g) {
		return
	}
	if !g.root.Regular() || g.halved {
		g.short = true
		return
	}
	j.fields = j.fields[:0]
	for _, p := range j.picks {
		from := len(j.fields)
		j.fields = p.from.Append(j.fields, j.header[:g.root.Masks().Header])
		g.contents = append(g.contents, content{name: p.name, bytes: j.fields[from:]})
	}
	g.picked = true
	i, _ := slices.BinarySearch(j.uids, g.uid)
	j.picked[i] = true
}

// unpicked are the messages that the client's fields are still to be asked of.
func (j *fetchJob) unpicked() (uids []uint32) {
	if len(j.picks) == 0 {
		return nil
	}
	for i, uid := range j.uids {
		if !j.picked[i] && isShown(j.class(uid)) {
			uids = append(uids, uid)
		}
	}
	return uids
}

package policy

import "slices"

// words finds the rules that look for one of many words in the subject. It is a
// tree of bytes: the cost of a search follows the length of the subject and of
// the words that are there or begin there, not the number of words.
type words struct {
	next  map[byte]*words
	rules []int // that look for the word which ends here, in rising order
}

// add has rule look for word. Rules must be added in rising order.
func (w *words) add(word string, rule int) {
	for i := range len(word) {
		if w.next == nil {
			w.next = map[byte]*words{}
		}
		child := w.next[word[i]]
		if child == nil {
			child = &words{}
			w.next[word[i]] = child
		}
		w = child
	}
	w.rules = append(w.rules, rule)
}

// in gives the rules of which a word is in one of texts, in order.
func (w *words) in(texts []string) (rules []int) {
	found := map[*words]bool{}
	for _, text := range texts {
		for ; text != ""; text = text[1:] {
			at := w
			for i := 0; i < len(text) && at != nil; i++ {
				if at = at.next[text[i]]; at != nil && len(at.rules) > 0 && !found[at] {
					found[at] = true
					rules = append(rules, at.rules...)
				}
			}
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

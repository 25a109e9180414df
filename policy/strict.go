package policy

import "slices"

// What is stricter stands later.
var (
	byProtection = []Mode{Cleartext, Sign, Prefer, Require, Refuse}
	byThen       = []Then{ThenClear, ThenPassword, ThenHold, ThenDefer, ThenRefuse}
	byMixed      = []Mixed{MixedClear, MixedSplit, MixedRefuse}
)

func stricter[T comparable](order []T, a, b T) T {
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// raise makes ru as strict as o in everything, where o is not to be weakened by
// ru or the reverse. It is named for the one whose mode is the stricter, ru if
// they are alike.
//
// So whatever happens to a copy under the result, under either alone it is no
// better protected: TestRaisingNeverLowers tries all of them.
func (ru *rule) raise(o rule) {
	top, low := *ru, o
	if stricter(byProtection, ru.mode, o.mode) != ru.mode {
		top, low = o, *ru
	}
	if top.protects() && low.protects() {
		for i := range top.then {
			top.then[i] = stricter(byThen, top.then[i], low.then[i])
		}
		if low.trust.AtLeast(top.trust) {
			top.trust = low.trust
		}
		if low.accept == 0 || top.accept != 0 && low.accept > top.accept {
			top.accept = low.accept
		}
		top.least = top.least.Both(low.least)
		if low.headers == HeadersProtect {
			top.headers = HeadersProtect
		}
	}
	top.mixed = stricter(byMixed, top.mixed, low.mixed)
	if low.sign == SignAll || low.mode == Sign {
		top.sign = SignAll
	}
	*ru = top
}

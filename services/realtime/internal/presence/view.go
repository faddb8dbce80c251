package presence

import (
	"slices"
	"sync"
)

// Most is how many people of a team a view names.
const Most = 500

// View is who of a team is here. It does not change; the next one has the next
// Rev.
type View struct {
	Rev   uint64   // 1 and up
	Users []string // their ids, in order: the first Most of them
	Count int      // of all of them

	// Joined and Left are what is different from the view before.
	Joined, Left []string

	full, diff encoding
}

type encoding struct {
	once sync.Once
	text []byte
}

// Full returns the view as encode makes it, encoding it only once for all who
// are told of it.
func (v *View) Full(encode func(*View) []byte) []byte { return v.full.of(v, encode) }

// Diff is Full for what is different from the view before.
func (v *View) Diff(encode func(*View) []byte) []byte { return v.diff.of(v, encode) }

func (e *encoding) of(v *View, encode func(*View) []byte) []byte {
	e.once.Do(func() { e.text = encode(v) })
	return e.text
}

// next returns the view after v, which may be nil, or v itself if nothing is
// different. users are distinct.
func (v *View) next(users []string) *View {
	slices.Sort(users)
	n := &View{Rev: 1, Users: users[:min(len(users), Most)], Count: len(users)}
	if v == nil {
		n.Joined = n.Users
		return n
	}
	n.Rev = v.Rev + 1
	n.Joined, n.Left = without(n.Users, v.Users), without(v.Users, n.Users)
	if len(n.Joined)+len(n.Left) == 0 && n.Count == v.Count {
		return v
	}
	return n
}

// without returns those of list that are not in other; both are sorted.
func without(list, other []string) (rest []string) {
	for _, s := range list {
		if _, ok := slices.BinarySearch(other, s); !ok {
			rest = append(rest, s)
		}
	}
	return rest
}

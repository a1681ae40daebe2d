package ui

import (
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/console/feed"
)

// kind is a sort of thing that is listed.
type kind struct {
	name string
	one  string
	cols []column
	// ids lists all things in their natural order.
	ids func(m *Model, v *feed.View) []string
	// row is a thing by its ID; nil if it is gone.
	row func(m *Model, v *feed.View, id string) any
	// text is what a plain word of a filter is looked for in.
	text func(m *Model, row any) string
	// same reports whether two views list the same things in the same order; nil: nobody knows.
	same func(before, after *feed.View) bool
	// more are fields for filters that have no column.
	more []column
	// trouble says that a row is a problem.
	trouble func(m *Model, row any) bool
}

// column is one fact about a thing.
type column struct {
	name, key string
	// width in cells; 0: it takes what is left. fit, if set, finds it for the present view.
	width int
	fit   func(m *Model) int
	right bool
	// drop: columns with a higher number go first when the line is too short; 0 stays always.
	drop int
	// live values get a question mark when they are stale.
	live bool
	cell func(m *Model, row any) (string, tone)
	// num is for sorting and comparing; nil: by its text.
	num func(m *Model, row any) float64
}

// col makes a column of things of type T.
func col[T any](name, key string, width, drop int, cell func(m *Model, x T) (string, tone)) column {
	return column{name: name, key: key, width: width, drop: drop, cell: func(m *Model, row any) (string, tone) {
		x, ok := row.(T)
		if !ok {
			return "", plain
		}
		return cell(m, x)
	}}
}

// number has a column sorted and compared by a number, and aligned right.
func number[T any](c column, num func(x T) float64) column {
	c.right = true
	c.num = func(_ *Model, row any) float64 {
		x, ok := row.(T)
		if !ok {
			return 0
		}
		return num(x)
	}
	return c
}

// fitted gives a column the width of the longest of its texts.
func fitted(c column, least, most int, texts func(m *Model) []string) column {
	c.fit = func(m *Model) int {
		n := least
		for _, s := range texts(m) {
			n = max(n, cells(s))
		}
		return min(n, most)
	}
	return c
}

// sized gives a column a width that depends on what else is on the screen.
func sized(width func(m *Model) int, c column) column { c.fit = width; return c }

func live(c column) column { c.live = true; return c }

// field finds a column or a further field by its key.
func (k *kind) field(key string) (column, bool) {
	for _, c := range slices.Concat(k.cols, k.more) {
		if c.key == key {
			return c, true
		}
	}
	return column{}, false
}

// keys lists what a filter may name.
func (k *kind) keys() []string {
	var out []string
	for _, c := range slices.Concat(k.cols, k.more) {
		if c.key != "" {
			out = append(out, c.key)
		}
	}
	return out
}

// placed is a column with the cells it got on this line.
type placed struct {
	column
	x, w int
}

// layout chooses and places columns for a line of w cells.
func (k *kind) layout(m *Model, w int) []placed {
	var cols []placed
	for _, c := range k.cols {
		n := c.width
		if c.fit != nil {
			n = c.fit(m)
		}
		cols = append(cols, placed{column: c, w: n})
	}
	for {
		used, grows, last := 0, false, -1
		for i, c := range cols {
			used += c.w + 2
			if c.width == 0 && c.fit == nil {
				grows = true
				used += 10 // fewer are not worth a column
			}
			if c.drop > 0 && (last < 0 || c.drop >= cols[last].drop) {
				last = i
			}
		}
		if used-2 <= w || last < 0 {
			return spread(cols, w, grows)
		}
		cols = slices.Delete(cols, last, last+1)
	}
}

// spread gives the growing column what is left and sets where each begins.
func spread(cols []placed, w int, grows bool) []placed {
	used := -2
	for _, c := range cols {
		used += c.w + 2
	}
	x := 0
	for i := range cols {
		if grows && cols[i].width == 0 && cols[i].fit == nil {
			cols[i].w = max(w-used, 0)
			grows = false
		}
		cols[i].w = min(cols[i].w, max(w-x, 0))
		cols[i].x = x
		x += cols[i].w + 2
	}
	return cols
}

// list is the state of one list on the screen: what is chosen, marked, filtered and sorted. The cursor and the marks
// are IDs, so that they stay with their things whatever happens to the rows.
type list struct {
	kind *kind
	// ids are the visible rows in order.
	ids    []string
	all    int
	cursor string
	top    int
	marks  map[string]bool
	filter filter
	// sort is a column's key; empty: the natural order.
	sort     string
	reverse  bool
	troubled bool
	// of limits a list of VMs to one server (the wide layout).
	of string
	// told is the view that ids were made for.
	told  *feed.View
	dirty bool
	// moved: the cursor was put where it is. Until then it stays on the first row, which in lists of what happened is
	// the newest.
	moved bool
	// resting: the order is not what it should be, because rows must not jump now.
	resting bool
}

// index of the cursor among the visible rows; -1 without rows.
func (l *list) index() int { return slices.Index(l.ids, l.cursor) }

// refresh brings the visible rows up to date. Rows keep their order while sorting rests, so that nothing jumps under
// the cursor. It reports whether it sorted them.
func (l *list) refresh(m *Model, v *feed.View, rest bool) (sorted bool) {
	if v == l.told && !l.dirty && (rest || !l.resting) {
		return false
	}
	selects := l.troubled || l.of != "" || l.filter.line != ""
	if !l.dirty && !selects && l.sort == "" && !l.reverse && l.told != nil && l.kind.same != nil && l.kind.same(l.told, v) {
		l.told = v
		return false
	}
	resort := l.dirty || !rest
	before := l.index()
	all := l.kind.ids(m, v)
	l.all = len(all)
	fresh := all
	if selects {
		fresh = make([]string, 0, len(all))
		for _, id := range all {
			if l.shows(m, l.kind.row(m, v, id)) {
				fresh = append(fresh, id)
			}
		}
	}
	if l.sort != "" || l.reverse {
		sorted, l.resting = resort, !resort
		if resort {
			l.order(m, v, fresh)
		} else {
			fresh = keepOrder(l.ids, fresh)
		}
	}
	l.ids, l.told, l.dirty = fresh, v, false
	if !l.moved && len(l.ids) > 0 {
		l.cursor = l.ids[0]
	}
	if l.index() < 0 {
		l.cursor = ""
		if n := len(l.ids); n > 0 {
			l.cursor = l.ids[min(max(before, 0), n-1)]
		}
	}
	l.unmark(m, v)
	return sorted
}

// shows reports whether a row passes the list's filters.
func (l *list) shows(m *Model, row any) bool {
	if row == nil {
		return false
	}
	if l.troubled && !l.kind.trouble(m, row) {
		return false
	}
	if l.of != "" {
		if c, ok := l.kind.field("server"); ok {
			if s, _ := c.cell(m, row); s != l.of {
				return false
			}
		}
	}
	return l.filter.matches(m, l.kind, row)
}

// keepOrder returns fresh in the order of old, new ones at the end.
func keepOrder(old, fresh []string) []string {
	there := make(map[string]bool, len(fresh))
	for _, id := range fresh {
		there[id] = true
	}
	out := make([]string, 0, len(fresh))
	for _, id := range old {
		if there[id] {
			out = append(out, id)
			delete(there, id)
		}
	}
	for _, id := range fresh {
		if there[id] {
			out = append(out, id)
		}
	}
	return out
}

func (l *list) order(m *Model, v *feed.View, ids []string) {
	c, ok := l.kind.field(l.sort)
	if ok {
		type key struct {
			n float64
			s string
		}
		keys := make(map[string]key, len(ids))
		for _, id := range ids {
			row := l.kind.row(m, v, id)
			if c.num != nil {
				keys[id] = key{n: c.num(m, row)}
			} else {
				s, _ := c.cell(m, row)
				keys[id] = key{s: s}
			}
		}
		slices.SortStableFunc(ids, func(a, b string) int {
			switch ka, kb := keys[a], keys[b]; {
			case ka.n < kb.n:
				return -1
			case ka.n > kb.n:
				return 1
			default:
				return strings.Compare(ka.s, kb.s)
			}
		})
	}
	if l.reverse {
		slices.Reverse(ids)
	}
}

// unmark forgets marks of things that are gone, and says so.
func (l *list) unmark(m *Model, v *feed.View) {
	var gone []string
	for id := range l.marks {
		if l.kind.row(m, v, id) == nil {
			gone = append(gone, id)
			delete(l.marks, id)
		}
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		m.say(busy, "no longer there, unmarked: %s", strings.Join(gone, ", "))
	}
}

// hidden counts marked rows that the filter does not show.
func (l *list) hidden() int {
	n := 0
	for id := range l.marks {
		if !slices.Contains(l.ids, id) {
			n++
		}
	}
	return n
}

// targets are the marked things, or the one under the cursor.
func (l *list) targets() []string {
	if len(l.marks) == 0 {
		if l.cursor == "" {
			return nil
		}
		return []string{l.cursor}
	}
	var out []string
	for id := range l.marks {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// move moves the cursor by n rows.
func (l *list) move(n int) {
	if len(l.ids) == 0 {
		return
	}
	i := min(max(max(l.index(), 0)+n, 0), len(l.ids)-1)
	l.cursor, l.moved = l.ids[i], i > 0
}

// scroll makes the cursor visible in h rows.
func (l *list) scroll(h int) {
	i := max(l.index(), 0)
	l.top = min(l.top, i)
	if i >= l.top+h {
		l.top = i - h + 1
	}
	l.top = max(min(l.top, len(l.ids)-h), 0)
}

// toggle marks or unmarks the row under the cursor and moves on.
func (l *list) toggle() {
	if l.cursor == "" {
		return
	}
	if l.marks[l.cursor] {
		delete(l.marks, l.cursor)
	} else {
		l.marks[l.cursor] = true
	}
	l.move(1)
}

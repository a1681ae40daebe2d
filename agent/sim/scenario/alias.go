package scenario

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// The language's names may begin with a dot, a dash or an underscore and be of any length, a pool's may not. Such a name
// goes by another one inside, which stands nowhere else in the file, and comes out as it was written.

// stemFor returns what is put in front of names of the language that a pool does not allow: nothing else in the text
// begins with it.
func stemFor(text string) string {
	stem := "x"
	for strings.Contains(text, stem+".") || strings.Contains(text, stem+"-") || strings.Contains(text, stem+"_") {
		stem += "x"
	}
	return stem
}

// longPart is how much of a name that is too long is kept inside.
const longPart = 20

// aliases finds the names that the lines introduce and a pool does not allow, and replaces them in all lines.
func (p *parser) aliases(text string, lines []source) {
	odd := map[string]string{}
	stem := stemFor(text)
	note := func(_, name string) {
		if !isName(name) || pool.CheckName("name", name) == nil || odd[name] != "" {
			return
		}
		odd[name] = stem + name
		if pool.CheckName("name", odd[name]) != nil {
			odd[name] = fmt.Sprintf("%s.%d.%s", stem, len(odd), name[:longPart])
		}
		p.file.aliases = append(p.file.aliases, alias{odd[name], name})
	}
	for _, l := range lines {
		introduces(l.tokens, note)
		for _, t := range l.tokens {
			if key, group, _ := strings.Cut(t.text, "="); key == "apart" || key == "together" {
				note("group", group)
			}
		}
	}
	slices.SortFunc(p.file.aliases, func(a, b alias) int {
		if d := len(b.inside) - len(a.inside); d != 0 {
			return d // the longest first: one may be the beginning of another
		}
		return strings.Compare(a.inside, b.inside)
	})
	for _, l := range lines {
		for i, t := range l.tokens {
			if !t.quoted {
				l.tokens[i].text = renamed(t.text, odd)
			}
		}
	}
}

// renamed replaces names in a word: the whole of it, a part of a list, or a value.
func renamed(word string, odd map[string]string) string {
	var out strings.Builder
	for {
		i := strings.IndexAny(word, ",=@/")
		part := word
		if i >= 0 {
			part = word[:i]
		}
		if inside := odd[part]; inside != "" {
			part = inside
		}
		out.WriteString(part)
		if i < 0 {
			return out.String()
		}
		out.WriteByte(word[i])
		word = word[i+1:]
	}
}

// alias is a name inside, and as it was written.
type alias struct{ inside, written string }

// AsWritten gives names in a text that the pool goes by inside back as the scenario writes them.
func (f *File) AsWritten(text string) string {
	for _, a := range f.aliases {
		text = strings.ReplaceAll(text, a.inside, a.written)
	}
	return text
}

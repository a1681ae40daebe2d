package terminal

import (
	"fmt"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"strings"

	"github.com/hinshun/vt10x"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// Size of a cell in pixels, and of the letters in it.
const (
	cellWidth, cellHeight = 9, 19
	letters               = 15
	margin                = 10
)

// Colours of the terminal itself.
var (
	background = color.RGBA{0x16, 0x1a, 0x21, 0xff}
	foreground = color.RGBA{0xd7, 0xda, 0xe0, 0xff}
)

// Picture is the cells of a terminal at one moment.
type Picture struct {
	w, h  int
	cells []vt10x.Glyph
}

// Picture takes the terminal's cells.
func (t *Terminal) Picture() Picture {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := Picture{}
	p.w, p.h = t.vt.Size()
	for y := range p.h {
		for x := range p.w {
			p.cells = append(p.cells, t.vt.Cell(x, y))
		}
	}
	return p
}

// ansi are the first sixteen colours.
var ansi = []color.RGBA{
	{0x16, 0x1a, 0x21, 0xff}, {0xe0, 0x6c, 0x75, 0xff}, {0x98, 0xc3, 0x79, 0xff}, {0xe5, 0xc0, 0x7b, 0xff}, {0x61, 0xaf, 0xef, 0xff}, {0xc6, 0x78, 0xdd, 0xff}, {0x56, 0xb6, 0xc2, 0xff}, {0xc8, 0xcc, 0xd4, 0xff},
	{0x5c, 0x63, 0x70, 0xff}, {0xff, 0x7b, 0x86, 0xff}, {0xb5, 0xe8, 0x90, 0xff}, {0xff, 0xd8, 0x8a, 0xff}, {0x7c, 0xc4, 0xff, 0xff}, {0xdf, 0x9a, 0xf5, 0xff}, {0x6f, 0xd6, 0xe2, 0xff}, {0xff, 0xff, 0xff, 0xff},
}

func rgb(c vt10x.Color) color.RGBA {
	switch {
	case c == vt10x.DefaultFG:
		return foreground
	case c == vt10x.DefaultBG:
		return background
	case c < 16:
		return ansi[c]
	case c < 232:
		n := int(c) - 16
		level := func(v int) uint8 {
			if v == 0 {
				return 0
			}
			return uint8(55 + 40*v) //nolint:gosec // at most 255
		}
		return color.RGBA{level(n / 36), level(n / 6 % 6), level(n % 6), 0xff}
	case c < 256:
		v := uint8(8 + 10*(int(c)-232)) //nolint:gosec // at most 238
		return color.RGBA{v, v, v, 0xff}
	}
	return color.RGBA{uint8(c >> 16), uint8(c >> 8), uint8(c), 0xff} //nolint:gosec // the three bytes of a true colour
}

func hex(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// bold is the mode bit of bold glyphs in vt10x.
const bold = 1 << 2

// run is cells of one look in a row.
type run struct {
	x, y   int
	text   string
	fg, bg color.RGBA
	bold   bool
}

func (p Picture) runs() []run {
	var out []run
	for y := range p.h {
		for x := range p.w {
			g := p.cells[y*p.w+x]
			c := g.Char
			if c == 0 {
				c = ' '
			}
			r := run{x: x, y: y, text: string(c), fg: rgb(g.FG), bg: rgb(g.BG), bold: g.Mode&bold != 0}
			if n := len(out) - 1; n >= 0 && x > 0 && out[n].fg == r.fg && out[n].bg == r.bg && out[n].bold == r.bold {
				out[n].text += r.text
				continue
			}
			out = append(out, r)
		}
	}
	return out
}

// SVG writes the picture as text with colours, which stays sharp at any size.
func (p Picture) SVG(w io.Writer) error {
	var b strings.Builder
	width, height := p.w*cellWidth+2*margin, p.h*cellHeight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="%d">`+"\n",
		width, height, width, height, letters)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="6" fill="%s"/>`+"\n", width, height, hex(background))
	for _, r := range p.runs() {
		x, y, n := margin+r.x*cellWidth, margin+r.y*cellHeight, len([]rune(r.text))
		if r.bg != background {
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", x, y, n*cellWidth, cellHeight, hex(r.bg))
		}
		if strings.TrimSpace(r.text) == "" {
			continue
		}
		weight := ""
		if r.bold {
			weight = ` font-weight="bold"`
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" textLength="%d" lengthAdjust="spacingAndGlyphs" xml:space="preserve" fill="%s"%s>%s</text>`+"\n",
			x, y+cellHeight-5, n*cellWidth, hex(r.fg), weight, html.EscapeString(r.text))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// PNG writes the picture as pixels.
func (p Picture) PNG(w io.Writer) error {
	regular, err := face(gomono.TTF)
	if err != nil {
		return err
	}
	heavy, err := face(gomonobold.TTF)
	if err != nil {
		return err
	}
	img := image.NewRGBA(image.Rect(0, 0, p.w*cellWidth+2*margin, p.h*cellHeight+2*margin))
	draw.Draw(img, img.Bounds(), image.NewUniform(background), image.Point{}, draw.Src)
	for _, r := range p.runs() {
		x, y := margin+r.x*cellWidth, margin+r.y*cellHeight
		n := len([]rune(r.text))
		draw.Draw(img, image.Rect(x, y, x+n*cellWidth, y+cellHeight), image.NewUniform(r.bg), image.Point{}, draw.Src)
		for i, c := range []rune(r.text) {
			if block(img, image.Rect(x+i*cellWidth, y, x+(i+1)*cellWidth, y+cellHeight), c, r.fg, r.bg) {
				continue
			}
			d := font.Drawer{Dst: img, Src: image.NewUniform(r.fg), Face: regular, Dot: fixed.P(x+i*cellWidth, y+cellHeight-5)}
			if r.bold {
				d.Face = heavy
			}
			d.DrawString(string(c))
		}
	}
	return png.Encode(w, img)
}

// block draws the characters of bars and frames, which must meet without gaps.
func block(img draw.Image, r image.Rectangle, c rune, fg, bg color.RGBA) bool {
	fill := func(r image.Rectangle, c color.RGBA) { draw.Draw(img, r, image.NewUniform(c), image.Point{}, draw.Src) }
	mx, my := (r.Min.X+r.Max.X)/2, (r.Min.Y+r.Max.Y)/2
	left, right := image.Rect(r.Min.X, my, mx+1, my+1), image.Rect(mx, my, r.Max.X, my+1)
	up, down := image.Rect(mx, r.Min.Y, mx+1, my+1), image.Rect(mx, my, mx+1, r.Max.Y)
	const gap = 3 // above and below bars
	if eighths := int(c-'▁') + 1; eighths >= 1 && eighths <= 7 {
		high := (r.Dy() - 2*gap) * eighths / 8
		fill(image.Rect(r.Min.X, r.Max.Y-gap-high, r.Max.X, r.Max.Y-gap), fg)
		return true
	}
	switch c {
	case '█':
		fill(image.Rect(r.Min.X, r.Min.Y+gap, r.Max.X, r.Max.Y-gap), fg)
	case '░':
		fill(image.Rect(r.Min.X, r.Min.Y+gap, r.Max.X, r.Max.Y-gap), color.RGBA{mix(fg.R, bg.R), mix(fg.G, bg.G), mix(fg.B, bg.B), 0xff})
	case '─':
		fill(left, fg)
		fill(right, fg)
	case '│':
		fill(up, fg)
		fill(down, fg)
	case '┌':
		fill(right, fg)
		fill(down, fg)
	case '┐':
		fill(left, fg)
		fill(down, fg)
	case '└':
		fill(right, fg)
		fill(up, fg)
	case '┘':
		fill(left, fg)
		fill(up, fg)
	default:
		return false
	}
	return true
}

// mix is the light shade between two colours.
func mix(fg, bg uint8) uint8 { return uint8((int(fg) + 3*int(bg)) / 4) } //nolint:gosec // at most 255

func face(ttf []byte) (font.Face, error) {
	f, err := opentype.Parse(ttf)
	if err != nil {
		return nil, fmt.Errorf("font: %w", err)
	}
	return opentype.NewFace(f, &opentype.FaceOptions{Size: letters, DPI: 72, Hinting: font.HintingFull})
}

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-ha/holdfast/test/terminal"
)

func main() {
	program := flag.String("console", "bin/holdfast-console", "the console's `binary`")
	document := flag.String("document", "docs/console.md", "`file` that gets the frames")
	images := flag.String("images", "docs/images", "`folder` that gets the pictures")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "shot: name the stories")
		os.Exit(2)
	}
	for _, story := range flag.Args() {
		if err := play(story, *program, *document, *images); err != nil {
			fmt.Fprintf(os.Stderr, "shot: %s: %v\n", story, err)
			os.Exit(1)
		}
	}
}

func play(path, program, document, images string) error {
	story, err := terminal.ReadStory(path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	text := string(data)
	err = story.Play(context.Background(), program, func(k terminal.Kept) error {
		fmt.Println("kept", k.Name)
		if k.Drawn {
			return draw(filepath.Join(images, k.Name), k.Picture)
		}
		text, err = terminal.ReplaceFrame(text, k.Name, k.Text)
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(document, []byte(text), 0o644) //nolint:gosec // a document
}

// draw writes a picture in both forms.
func draw(path string, p terminal.Picture) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // documentation
		return err
	}
	svg, err := os.Create(path + ".svg")
	if err != nil {
		return err
	}
	if err := errors.Join(p.SVG(svg), svg.Close()); err != nil {
		return err
	}
	pixels, err := os.Create(path + ".png")
	if err != nil {
		return err
	}
	return errors.Join(p.PNG(pixels), pixels.Close())
}

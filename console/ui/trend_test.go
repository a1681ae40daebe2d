package ui

import (
	"testing"
	"time"
)

func TestAFigureThatIsOldIsNotShownAsThePresent(t *testing.T) {
	b := troubled(t)
	b.press("3")
	b.sees("36%")
	b.pass(figuresFor, true)
	b.sees("36%")
	b.pass(time.Second, true) // the agent talks, but no figures come
	b.seesNot("36%")
}

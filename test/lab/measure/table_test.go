package measure

import (
	"testing"
	"time"
)

func TestMedianOfAnEvenNumberIsBetweenTheTwoInTheMiddle(t *testing.T) {
	for _, c := range []struct{ in, want []time.Duration }{
		{nil, []time.Duration{0, 0, 0}},
		{[]time.Duration{3, 1, 2}, []time.Duration{1, 2, 3}},
		{[]time.Duration{40, 10, 20, 30}, []time.Duration{10, 25, 40}},
	} {
		least, median, most := spread(c.in)
		if least != c.want[0] || median != c.want[1] || most != c.want[2] {
			t.Errorf("spread(%v) = %v, %v, %v; want %v", c.in, least, median, most, c.want)
		}
	}
}

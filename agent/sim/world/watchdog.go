package world

import "time"

// Watchdog is a server's /dev/watchdog: once open, it resets the server when it was not petted for its time-out.
// A clean close disarms it.
type Watchdog struct {
	s *Server
	// Timeout is W.
	Timeout time.Duration
	open    bool
	petted  time.Duration
	timed   bool
}

// Dog returns the watchdog, nil if the server has none.
func (s *Server) Dog() *Watchdog { return s.dog }

// Open arms the device.
func (d *Watchdog) Open() {
	d.open = true
	d.Pet()
}

// Armed reports whether the device is open.
func (d *Watchdog) Armed() bool { return d.open }

// Pet puts the reset off.
func (d *Watchdog) Pet() {
	d.petted = d.s.w.s.Now()
	d.look()
}

// Close disarms the device.
func (d *Watchdog) Close() { d.open = false }

func (d *Watchdog) look() {
	if d.timed || !d.open {
		return
	}
	d.timed = true
	d.s.w.s.At(d.petted+d.Timeout, func() {
		d.timed = false
		switch {
		case !d.open || d.s.dog != d:
		case d.s.w.s.Now() >= d.petted+d.Timeout:
			d.s.Reset()
		default:
			d.look()
		}
	})
}

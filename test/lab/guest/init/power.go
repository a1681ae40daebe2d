//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// inputEvent is struct input_event of a 64-bit kernel (linux/input.h).
type inputEvent struct {
	Sec, Usec  int64
	Type, Code uint16
	Value      int32
}

// keyPower is KEY_POWER and keyEvent is EV_KEY of linux/input-event-codes.h.
const (
	keyEvent = 1
	keyPower = 116
)

// powerButton switches the guest off once any input device reports the power key.
func powerButton() {
	var devices []string
	for range 50 {
		if devices, _ = filepath.Glob("/dev/input/event*"); len(devices) > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, d := range devices {
		go watchPowerKey(d)
	}
}

func watchPowerKey(device string) {
	f, err := os.Open(device)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for {
		var e inputEvent
		if err := binary.Read(f, binary.LittleEndian, &e); err != nil {
			return
		}
		if e.Type == keyEvent && e.Code == keyPower && e.Value == 1 {
			fmt.Println("lab guest: power button")
			_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		}
	}
}

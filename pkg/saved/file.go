package saved

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// Write puts s into the file at path, for root alone. The file is the old one or the new one at any moment, also through
// a loss of power.
func Write(path string, s State) error {
	data, err := Encode(s)
	if err != nil {
		return err
	}
	return statefile.Replace(path, data, 0o600)
}

// Read reads what Write wrote. Errors: pool.ErrNotFound without a file, pool.ErrInvalid for one that cannot be used.
func Read(path string) (State, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("%s: %w", path, pool.ErrNotFound)
	}
	if err != nil {
		return State{}, fmt.Errorf("read the saved state: %w", err)
	}
	s, err := Decode(data)
	if err != nil {
		return State{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

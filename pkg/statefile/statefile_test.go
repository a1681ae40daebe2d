package statefile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAFileIsReplacedAsAWholeAndNothingElseIsLeft(t *testing.T) {
	for name, write := range map[string]func(path string, data []byte) error{
		"through a power cut": func(path string, data []byte) error { return Replace(path, data, 0o600) },
		"in one boot":         ReplaceInBoot,
	} {
		path := filepath.Join(t.TempDir(), "state.json")
		for _, text := range []string{"a long first value", "short"} {
			if err := write(path, []byte(text)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != text {
				t.Errorf("%s: %q, %v; want %q", name, got, err, text)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want a file for root alone", name, info.Mode(), err)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
			t.Errorf("%s: %d files, %v; want one", name, len(left), err)
		}
	}
}

func TestAFileThatCannotBeWrittenLeavesTheOldOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	if err := ReplaceInBoot(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	if err := ReplaceInBoot(path, []byte("new")); err == nil {
		t.Error("no error")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Errorf("%q, %v; want the old value", got, err)
	}
	if err := Replace(filepath.Join(dir, "missing", "state.json"), nil, 0o600); err == nil {
		t.Error("a file in a folder that does not exist: no error")
	}
}

func TestAValueIsLoadedAndAMissingOneIsNoError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	v := struct{ Name string }{"as it was"}
	if found, err := LoadJSON(path, &v); found || err != nil || v.Name != "as it was" {
		t.Errorf("no file: %v, %v, %q", found, err, v.Name)
	}
	if err := ReplaceInBoot(path, []byte(`{"name":"web"}`)); err != nil {
		t.Fatal(err)
	}
	if found, err := LoadJSON(path, &v); !found || err != nil || v.Name != "web" {
		t.Errorf("%v, %v, %q", found, err, v.Name)
	}
	if err := ReplaceInBoot(path, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if found, err := LoadJSON(path, &v); found || err == nil {
		t.Errorf("a torn file: %v, %v; want an error", found, err)
	}
}

package setup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func sampleToken() Token {
	return Token{Pool: "prod", Servers: []string{"10.0.0.1:7400"}, Pin: "sha256:ab", ID: "0a1b", Secret: "s3cret",
		Expires: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func TestATokenReadsBackTheSame(t *testing.T) {
	want := sampleToken()
	got, err := ParseToken("  " + want.String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if got.Pin != want.Pin || got.Secret != want.Secret || got.Servers[0] != want.Servers[0] || !got.Expires.Equal(want.Expires) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if strings.ContainsAny(want.String(), " \n+/=") {
		t.Errorf("a token must be one word: %s", want)
	}
}

func TestADamagedTokenIsNamedAsSuch(t *testing.T) {
	whole := sampleToken().String()
	empty := Token{Pool: "prod"}.String()
	for name, tt := range map[string]struct{ in, want string }{
		"nothing":      {"", "token create"},
		"another word": {"abcdef", "token create"},
		"cut short":    {whole[:len(whole)-3], "copy the whole line"},
		"one letter":   {strings.Replace(whole, whole[20:21], "_", 1), "copy the whole line"},
		"prefix only":  {"hf1-", "copy the whole line"},
		"incomplete":   {empty, "incomplete"},
	} {
		_, err := ParseToken(tt.in)
		if !errors.Is(err, pool.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want ErrInvalid with %q", name, err, tt.want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(sampleToken().String())
	f.Add("hf1-")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			if !errors.Is(err, pool.ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			return
		}
		if _, err := ParseToken(tok.String()); err != nil {
			t.Errorf("%q reads as %+v, which does not read back: %v", s, tok, err)
		}
	})
}

func TestAddressesGetTheAgentsPort(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "10.0.0.1": "10.0.0.1:7400", "10.0.0.1:7500": "10.0.0.1:7500", "srv-1.example": "srv-1.example:7400",
		"fd00::1": "[fd00::1]:7400", "[fd00::1]": "[fd00::1]:7400", "[fd00::1]:1": "[fd00::1]:1",
	} {
		if got := WithPort(in); got != want {
			t.Errorf("WithPort(%q) = %q, want %q", in, got, want)
		}
	}
	if got, err := LocalAddress("127.0.0.1:7400"); err != nil || got != "127.0.0.1:7400" {
		t.Errorf("LocalAddress = %q, %v", got, err)
	}
}

func TestTheHostUUIDComesFromTheFirmwareOrTheMachineID(t *testing.T) {
	root := t.TempDir()
	if _, err := HostUUID(root); !errors.Is(err, pool.ErrNotFound) {
		t.Errorf("no source: %v", err)
	}
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	put("sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n")
	if got, err := HostUUID(root); err != nil || got != "01234567-89ab-cdef-0123-456789abcdef" {
		t.Errorf("firmware without UUID: %q, %v", got, err)
	}
	put("sys/class/dmi/id/product_uuid", "4C4C4544-0042-4210-8058-B7C04F4A4D32\n")
	if got, err := HostUUID(root); err != nil || got != "4c4c4544-0042-4210-8058-b7c04f4a4d32" {
		t.Errorf("firmware: %q, %v", got, err)
	}
}

package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
)

// ErrBusy reports that too many passwords are being checked already.
var ErrBusy = errors.New("too many sign-ins at once")

// The cost of a guess: what OWASP recommends for argon2id.
const (
	memoryKiB = 19456
	passes    = 2
	lanes     = 1
	saltLen   = 16
	keyLen    = 32
)

// patience is how long a sign-in waits for its turn to hash.
const patience = 10 * time.Second

var b64 = base64.RawStdEncoding

// hasher hashes and verifies passwords, some at a time: each takes memory that
// an attacker must not be able to multiply.
type hasher struct {
	slots chan struct{}
	key   func(password, salt []byte, t, m uint32, p uint8, n uint32) []byte
	decoy string // verified against when there is no account, to take as long
}

func newHasher(slots int) (*hasher, error) {
	if slots == 0 {
		slots = 2
	}
	salt := make([]byte, saltLen)
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	// No password is known to have this key; it only has the right shape.
	return &hasher{make(chan struct{}, slots), argon2.IDKey, phc(salt, make([]byte, keyLen))}, nil
}

// hash returns the PHC string of a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLen)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("read random bytes: %w", err)
	}
	key, err := h.derive(ctx, password, salt, passes, memoryKiB, lanes, keyLen)
	if err != nil {
		return "", err
	}
	return phc(salt, key), nil
}

// HashPassword returns the PHC string of a password, for seeds.
func HashPassword(ctx context.Context, password string) (string, error) {
	h, err := newHasher(1)
	if err != nil {
		return "", err
	}
	return h.hash(ctx, password)
}

// verify tells whether a password has the hash. A hash that was made with
// other costs is verified with those.
func (h *hasher) verify(ctx context.Context, password, hash string) (bool, error) {
	part := strings.Split(hash, "$") // "", argon2id, v=19, m=…,t=…,p=…, salt, key
	if len(part) != 6 || part[1] != "argon2id" {
		return false, errors.New("stored hash is not argon2id")
	}
	var version int
	var m, t uint32
	var p uint8
	if _, err := fmt.Sscanf(part[2], "v=%d", &version); err != nil || version != argon2.Version {
		return false, fmt.Errorf("stored hash has version %q", part[2])
	}
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &m, &t, &p); err != nil || t < 1 || p < 1 || m > 1<<20 {
		return false, fmt.Errorf("stored hash has costs %q", part[3])
	}
	salt, err := b64.DecodeString(part[4])
	if err != nil {
		return false, fmt.Errorf("read salt: %w", err)
	}
	want, err := b64.DecodeString(part[5])
	if err != nil || len(want) < 16 {
		return false, errors.New("stored hash has no key")
	}
	key, err := h.derive(ctx, password, salt, t, m, p, uint32(len(want)))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(key, want) == 1, nil
}

// derive waits for its turn, and gives up with the caller or after a while.
func (h *hasher) derive(ctx context.Context, password string, salt []byte, t, m uint32, p uint8, n uint32) ([]byte, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, ErrBusy
	}
	defer func() { <-h.slots }()
	return h.key([]byte(password), salt, t, m, p, n), nil
}

func phc(salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memoryKiB, passes, lanes,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

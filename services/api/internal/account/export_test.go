package account

import "context"

// Hasher is the hasher, for its tests.
type Hasher struct{ h *hasher }

func NewHasher(slots int) (*Hasher, error) {
	h, err := newHasher(slots)
	return &Hasher{h}, err
}

func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	return h.h.hash(ctx, password)
}

func (h *Hasher) Verify(ctx context.Context, password, hash string) (bool, error) {
	return h.h.verify(ctx, password, hash)
}

// Watch hears +1 and -1 around each derivation.
func (h *Hasher) Watch(f func(delta int64)) {
	derive := h.h.key
	h.h.key = func(password, salt []byte, t, m uint32, p uint8, n uint32) []byte {
		f(1)
		defer f(-1)
		return derive(password, salt, t, m, p, n)
	}
}

// Fill takes all turns until release is called.
func (h *Hasher) Fill() (release func()) {
	for range cap(h.h.slots) {
		h.h.slots <- struct{}{}
	}
	return func() {
		for range cap(h.h.slots) {
			<-h.h.slots
		}
	}
}

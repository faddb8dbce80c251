// Package ticket lets somebody who is signed in connect where cookies do not
// go, by something that is good once and for half a minute.
//
// What a ticket stands for is sealed by the ticket itself: who reads Redis, or
// this process's memory, learns nothing from it. With Redis a ticket is good
// once over all nodes; a failover that loses the use of one, in its half
// minute, lets it be used again.
package ticket

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// The errors of tickets.
var (
	// ErrUnknown reports a ticket that was used, has expired or never was.
	ErrUnknown = errors.New("ticket is not good")
	// ErrUnavailable reports that nobody can tell, so that nobody gets in.
	ErrUnavailable = errors.New("tickets are not available")
)

// Life is how long a ticket is good.
const Life = 30 * time.Second

// most is how many tickets memory holds.
const most = 100_000

// length of a ticket: 32 random bytes in base64url.
var length = base64.RawURLEncoding.EncodedLen(32)

// Tickets gives them out and takes them back. It is safe for concurrent use.
type Tickets struct {
	client redis.UniversalClient // nil: memory
	wait   time.Duration
	now    func() time.Time

	mu     sync.Mutex
	sealed map[string]entry
}

type entry struct {
	text []byte
	ends time.Time
}

// New returns tickets that are held in client, or in this process's memory if
// it is nil. There is nothing to be closed. now is the clock of memory; nil
// means time.Now.
func New(client redis.UniversalClient, now func() time.Time) *Tickets {
	if now == nil {
		now = time.Now
	}
	return &Tickets{client: client, wait: time.Second, now: now, sealed: map[string]entry{}}
}

// Issue returns a ticket for secret: 43 letters, digits, - and _.
func (t *Tickets) Issue(ctx context.Context, secret string) (string, error) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	ticket := base64.RawURLEncoding.EncodeToString(random)
	name, seal, err := open(ticket)
	if err != nil {
		return "", err
	}
	// The key is for this one text, so that no nonce can come twice.
	text := seal.Seal(nil, make([]byte, seal.NonceSize()), []byte(secret), nil) //nolint:gosec // see above
	if t.client == nil {
		return ticket, t.hold(name, text)
	}
	ctx, cancel := context.WithTimeout(ctx, t.wait)
	defer cancel()
	if err := t.client.Set(ctx, name, text, Life).Err(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return ticket, nil
}

func (t *Tickets) hold(name string, text []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.sealed) >= most {
		for n, e := range t.sealed {
			if now.After(e.ends) {
				delete(t.sealed, n)
			}
		}
		if len(t.sealed) >= most {
			return ErrUnavailable
		}
	}
	t.sealed[name] = entry{text: text, ends: now.Add(Life)}
	return nil
}

// Redeem returns what a ticket was issued for, once.
func (t *Tickets) Redeem(ctx context.Context, ticket string) (secret string, err error) {
	if len(ticket) != length {
		return "", ErrUnknown
	}
	name, seal, err := open(ticket)
	if err != nil {
		return "", err
	}
	text, err := t.use(ctx, name)
	if err != nil {
		return "", err
	}
	b, err := seal.Open(nil, make([]byte, seal.NonceSize()), text, nil)
	if err != nil {
		return "", ErrUnknown
	}
	return string(b), nil
}

func (t *Tickets) use(ctx context.Context, name string) ([]byte, error) {
	if t.client == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		e, ok := t.sealed[name]
		delete(t.sealed, name)
		if !ok || t.now().After(e.ends) {
			return nil, ErrUnknown
		}
		return e.text, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.wait)
	defer cancel()
	text, err := t.client.GetDel(ctx, name).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, ErrUnknown
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return text, nil
}

// open returns where a ticket is kept, and what opens it: two keys that HKDF
// (RFC 5869) derives from it.
func open(ticket string) (name string, _ cipher.AEAD, err error) {
	id, err := hkdf.Key(sha256.New, []byte(ticket), nil, "crewbeat ticket name", 16)
	if err != nil {
		return "", nil, fmt.Errorf("derive ticket name: %w", err)
	}
	key, err := hkdf.Key(sha256.New, []byte(ticket), nil, "crewbeat ticket seal", 32)
	if err != nil {
		return "", nil, fmt.Errorf("derive ticket key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", nil, fmt.Errorf("derive ticket cipher: %w", err)
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return "", nil, fmt.Errorf("derive ticket cipher: %w", err)
	}
	return "rt:t:{" + base64.RawURLEncoding.EncodeToString(id) + "}", seal, nil
}

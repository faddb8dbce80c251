package caching

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Digest stands for an identifier in a key: 22 characters of base64, of an
// HMAC-SHA256 under secret, cut to 128 bits. Nobody without the secret can tell
// whose it is, nor try. Parts are told apart by their lengths: "a", "bc" is not
// "ab", "c".
func Digest(secret string, parts ...string) string {
	h := hmac.New(sha256.New, []byte(secret))
	var size [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		_, _ = h.Write(size[:])      // never fails
		_, _ = h.Write([]byte(part)) // never fails
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

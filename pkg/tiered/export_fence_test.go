package tiered

// Evict does what ristretto does when it gives a key up.
func (c *Cache[K, V]) Evict(key K) { c.s.l1.evict(c.hash(key)) }

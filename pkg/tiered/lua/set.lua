
-- KEYS data, lease. ARGV channel, entry, ttl ms, min version, head and tail of
-- the message, version above which nothing is done (0: none).
-- Returns the entry's version, or 0 if nothing was done.
return put(clock(), KEYS[1], KEYS[2], unpack(ARGV))

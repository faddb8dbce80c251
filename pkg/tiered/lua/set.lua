-- KEYS data, lease. ARGV entry, ttl ms, min version, channel, head and tail of the message.
-- Returns the entry's version.
local now = clock()
local v = following(now, KEYS[1], KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], stamped(ARGV[1], v, now, ARGV[2]), 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[4], ARGV[5] .. text(v) .. ARGV[6])
return v

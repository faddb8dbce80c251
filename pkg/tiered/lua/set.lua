-- KEYS data, lease. ARGV entry, ttl ms, min version, channel, head and tail of the message.
-- Returns the entry's version.
local now = clock()
local v, held = following(now, KEYS[1], KEYS[2], ARGV[3])
store(KEYS[1], ARGV[1], v, now, ARGV[2])
if held then redis.call('DEL', KEYS[2]) end
redis.call('PUBLISH', ARGV[4], ARGV[5] .. text(v) .. ARGV[6])
return v

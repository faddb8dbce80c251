-- KEYS tag. ARGV min version, ttl ms, channel, head and tail of the message.
-- Returns the tag's new version.
local now = clock()
local v = math.max(now, number(read('GET', KEYS[1]), now) + 1, number(ARGV[1], now) + 1)
redis.call('SET', KEYS[1], text(v), 'PX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4] .. text(v) .. ARGV[5])
return v

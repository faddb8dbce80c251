-- KEYS tag. ARGV min version, ttl ms, channel, head and tail of the message,
-- version at or above which nothing is done (0: none).
-- Returns the tag's version, a new one unless nothing was done.
local now = clock()
local stored = number(read('GET', KEYS[1]), now)
local newest = tonumber(ARGV[6])
if newest > 0 and stored >= newest then return stored end
local v = math.max(now, stored + 1, number(ARGV[1], now) + 1)
redis.call('SET', KEYS[1], text(v), 'PX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4] .. text(v) .. ARGV[5])
return v

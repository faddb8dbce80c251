-- KEYS data, lease. ARGV entry, ttl ms, min version, channel, head and tail of
-- the message, version above which nothing is done (0: none).
-- Returns the entry's version, or 0 if nothing was done.
local now = clock()
local newest = tonumber(ARGV[7])
if newest > 0 and version(read('GETRANGE', KEYS[1], 0, 47), now) > newest then return 0 end
local v, held = following(now, KEYS[1], KEYS[2], ARGV[3])
store(KEYS[1], ARGV[1], v, now, ARGV[2])
if held then redis.call('DEL', KEYS[2]) end
redis.call('PUBLISH', ARGV[4], ARGV[5] .. text(v) .. ARGV[6])
return v

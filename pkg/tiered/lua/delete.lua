-- KEYS data, lease. ARGV tombstone, ttl ms, min version, channel, head and tail
-- of the message, version above which nothing is done (0: none).
-- Returns the tombstone's version, or 0 if nothing was done.
local now = clock()
local newest = tonumber(ARGV[7])
if newest > 0 and version(read('GETRANGE', KEYS[1], 0, 47), now) > newest then return 0 end
local v = following(now, KEYS[1], KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], stamped(ARGV[1], v, now, ARGV[2]), 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[4], ARGV[5] .. text(v) .. ARGV[6])
return v

-- KEYS data, lease, mark. ARGV tombstone, ttl ms, version of the write, channel,
-- head and tail of the message, 1 to do it in any case.
-- Removes what is cached unless the write or a newer one has been put there:
-- who wrote it may have died before. Returns the tombstone's version or 0.
local now = clock()
local newest = mark(KEYS[3], now)
if newest >= tonumber(ARGV[3]) and ARGV[7] ~= '1' then return 0 end
local v = following(now, KEYS[1], KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], stamped(ARGV[1], v, now, ARGV[2]), 'PX', ARGV[2])
redis.call('SET', KEYS[3], text(math.max(newest, tonumber(ARGV[3]))), 'PX', 600000)
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[4], ARGV[5] .. text(v) .. ARGV[6])
return v

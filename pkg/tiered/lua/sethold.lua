-- KEYS data, lease. ARGV token, entry, ttl ms, channel, head and tail of the message.
-- Stores an entry if its lease is held still, and tells the others. Returns its
-- version, or 0 if something was written, or the lease taken, since.
if redis.pcall('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local now = clock()
local v = following(now, KEYS[1], KEYS[2], '0')
redis.call('SET', KEYS[1], stamped(ARGV[2], v, now, ARGV[3]), 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[4], ARGV[5] .. text(v) .. ARGV[6])
return v

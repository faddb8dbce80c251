-- KEYS data, lease. ARGV tombstone, ttl ms, min version, channel, head and tail
-- of the message. Deletes what is there, or takes the lease from who loads it.
-- Returns {version, 1 if there was an entry}; version 0 if there was neither.
local now = clock()
local there = redis.call('EXISTS', KEYS[1]) == 1
local head = read('GETRANGE', KEYS[1], 0, 47)
if version(head, now) > 0 and math.floor(string.byte(head, 4) / 4) % 2 == 1 then there = false end
if not there and redis.call('EXISTS', KEYS[2]) == 0 then return {0, 0} end
local v = following(now, KEYS[1], KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], stamped(ARGV[1], v, now, ARGV[2]), 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[4], ARGV[5] .. text(v) .. ARGV[6])
return {v, there and 1 or 0}

-- KEYS data, lease, mark. ARGV entry, ttl ms, version of the write, version that
-- the data must have (0: any), channel, head and tail of the message.
-- Stores a queued write's value unless a newer write's is there. The mark says
-- whose is: the data's own version is also moved by loads.
-- Returns the entry's version, 0 if a newer write was first, -1 if the data
-- have another version.
local now = clock()
if number(read('GET', KEYS[3]), now) > tonumber(ARGV[3]) then return 0 end
if ARGV[4] ~= '0' and version(read('GETRANGE', KEYS[1], 0, 47), now) ~= tonumber(ARGV[4]) then return -1 end
local v = following(now, KEYS[1], KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], stamped(ARGV[1], v, now, ARGV[2]), 'PX', ARGV[2])
redis.call('SET', KEYS[3], ARGV[3], 'PX', math.max(tonumber(ARGV[2]), 600000))
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[5], ARGV[6] .. text(v) .. ARGV[7])
return v

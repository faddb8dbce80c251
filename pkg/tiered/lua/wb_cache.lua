-- KEYS data, lease, mark. ARGV entry, ttl ms, version of the write, version that
-- the data must have (0: any), channel, head and tail of the message, 1 if the
-- write is whole.
-- Stores a queued write's value unless a newer write's is there. The mark says
-- whose is: the data's own version is also moved by loads.
-- Returns the entry's version, 0 if a newer write was first, which may have been
-- put over a value without this one, -1 if the data have another version, and -2
-- if a newer whole write was first, in whose place nothing is missing.
local now = clock()
local newest, whole = mark(KEYS[3], now)
if newest > tonumber(ARGV[3]) then
  if whole > tonumber(ARGV[3]) then return -2 end
  return 0
end
if ARGV[4] ~= '0' and version(read('GETRANGE', KEYS[1], 0, 47), now) ~= tonumber(ARGV[4]) then return -1 end
local v = following(now, KEYS[1], KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], stamped(ARGV[1], v, now, ARGV[2]), 'PX', ARGV[2])
if ARGV[8] == '1' then whole = ARGV[3] else whole = text(whole) end
redis.call('SET', KEYS[3], ARGV[3] .. ':' .. whole, 'PX', math.max(tonumber(ARGV[2]), 600000))
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[5], ARGV[6] .. text(v) .. ARGV[7])
return v

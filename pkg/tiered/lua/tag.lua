-- KEYS tag. ARGV version that is known, ttl ms, channel, head and tail of the message.
-- Returns the tag's version.
-- An absent tag, or one that has lost an invalidation, gets a new version: it
-- must never look like one that was not invalidated. If somebody may have seen
-- the old one, all are told.
local now = clock()
local known = number(ARGV[1], now)
local v = number(read('GET', KEYS[1]), now)
if v > 0 and v >= known then
  -- Not with every read: it is a write, which is replicated and tracked.
  if redis.call('PTTL', KEYS[1]) < ARGV[2] / 2 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return v
end
v = math.max(now, known + 1)
redis.call('SET', KEYS[1], text(v), 'PX', ARGV[2])
if known > 0 then redis.call('PUBLISH', ARGV[3], ARGV[4] .. text(v) .. ARGV[5]) end
return v

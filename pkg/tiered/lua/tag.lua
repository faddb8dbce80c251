-- KEYS tag. ARGV version that is known, ttl ms. Returns the tag's version.
-- An absent tag, or one that has lost an invalidation, gets a new version: it
-- must never look like one that was not invalidated.
local now = clock()
local known = number(ARGV[1], now)
local v = number(read('GET', KEYS[1]), now)
if v > 0 and v >= known then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return v
end
v = math.max(now, known + 1)
redis.call('SET', KEYS[1], text(v), 'PX', ARGV[2])
return v

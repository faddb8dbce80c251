-- KEYS data, lease. ARGV token, entry, ttl ms.
-- Stores what was loaded unless something was written since the load began.
if redis.pcall('GET', KEYS[2]) ~= ARGV[1] then return 0 end
store(KEYS[1], ARGV[2], tonumber(ARGV[1]), clock(), ARGV[3])
redis.call('DEL', KEYS[2])
return 1

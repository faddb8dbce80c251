-- KEYS number of partitions. ARGV the caller's. Returns the one that holds.
local n = redis.call('GET', KEYS[1])
if n then return n end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]

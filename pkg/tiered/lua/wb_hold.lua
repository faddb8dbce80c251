-- KEYS lease. ARGV token, ms. Keeps the lease for so long, or gives it back if
-- 0. Returns 1 if the caller had it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])

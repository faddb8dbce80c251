-- KEYS lease. ARGV token. Gives up a load, so that others need not wait.
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])

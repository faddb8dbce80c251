-- KEYS data, lease. ARGV token, version that the data must have, ttl ms, grace
-- ms, cost of the load µs; to tell the others also channel, head and tail of the
-- message. Gives what is there a new version, which is the token if nobody is
-- told, and a new life, instead of a value that would be the same. Returns the
-- version, 0 if something was written since the load began, -1 if the data are
-- not there any more.
if redis.pcall('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local now = clock()
if version(read('GETRANGE', KEYS[1], 0, 47), now) ~= tonumber(ARGV[2]) then return -1 end
local v = tonumber(ARGV[1])
if ARGV[6] then
  v = following(now, KEYS[1], KEYS[2], '0')
  redis.call('PUBLISH', ARGV[6], ARGV[7] .. text(v) .. ARGV[8])
end
redis.call('DEL', KEYS[2])
patch(KEYS[1], v, now, ARGV[3], ARGV[4], ARGV[5])
return v

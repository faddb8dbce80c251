-- KEYS stream, then the index of each entry's key. ARGV group, then their ids.
-- Whoever has the lease now: the sink has these. Returns what is left.
for i = 2, #KEYS do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  redis.call('XDEL', KEYS[1], ARGV[i])
  redis.call('LREM', KEYS[i], 1, ARGV[i])
end
return redis.call('XLEN', KEYS[1])

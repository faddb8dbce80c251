-- Reads where a channel stands and what follows an id, as of one moment.
-- KEYS: stream, meta.
-- ARGV: id, how many, epoch to begin if there is none, ttl ms of the channel.
-- Returns {epoch, base, last, entries}.
local meta = redis.call('HMGET', KEYS[2], 'e', 'b', 'l')
local epoch, base, last = meta[1], meta[2], meta[3]
if not epoch or not base or not last then
  epoch, base, last = ARGV[3], '0-0', '0-0'
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'e', epoch, 'b', base, 'l', last)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if tonumber(ARGV[2]) == 0 then
  return {epoch, base, last, {}}
end
return {epoch, base, last, redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])}

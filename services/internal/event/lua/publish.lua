-- Publishes one event exactly once, and links it to the one before.
-- KEYS: stream, meta, idempotency key.
-- ARGV: pub/sub channel, kind, event id, body, publisher's ms, random number,
--       epoch to begin if there is none, length of the stream, ttl ms of the
--       channel, ttl ms of the idempotency key.
-- Returns {epoch, prev, id, 1 if it was published before}.
local known = redis.call('HMGET', KEYS[3], 'e', 'p', 'i')
if known[1] then
  return {known[1], known[2], known[3], 1}
end

local meta = redis.call('HMGET', KEYS[2], 'e', 'l')
local epoch, last = meta[1], meta[2]
if not epoch or not last then
  epoch, last = ARGV[7], '0-0'
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'e', epoch, 'l', last, 'b', last)
end

local id, prev = last, last
if ARGV[2] == 'd' then
  local ms, seq = string.match(last, '^(%d+)-(%d+)$')
  ms, seq = tonumber(ms), tonumber(seq)
  local now, random = tonumber(ARGV[5]), tonumber(ARGV[6])
  -- The random part keeps an id that a failover lost from being given to
  -- another event.
  if now > ms then
    ms, seq = now, random
  else
    seq = seq + 1 + random
  end
  id = string.format('%.0f-%.0f', ms, seq)
  local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[8], id, 'p', prev, 'k', ARGV[3], 'd', ARGV[4])
  if type(added) == 'table' and added.err then
    -- The stream is ahead of what meta says, or is no stream at all:
    -- somebody meddled. Begin anew.
    epoch, prev = ARGV[7], '0-0'
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[2], 'e', epoch, 'b', prev)
    redis.call('XADD', KEYS[1], id, 'p', prev, 'k', ARGV[3], 'd', ARGV[4])
  end
  redis.call('HSET', KEYS[2], 'l', id)
  redis.call('PEXPIRE', KEYS[1], ARGV[9])
  redis.call('HSET', KEYS[3], 'e', epoch, 'p', prev, 'i', id)
  redis.call('PEXPIRE', KEYS[3], ARGV[10])
end
redis.call('PEXPIRE', KEYS[2], ARGV[9])
redis.call('PUBLISH', ARGV[1], '1' .. ARGV[2] .. ' ' .. epoch .. ' ' .. prev .. ' ' .. id .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
return {epoch, prev, id, 0}

-- Publishes events of one channel, each exactly once and linked to the one
-- before, in their order.
-- KEYS: stream, meta, then the idempotency key of each event.
-- ARGV: PUBLISH or SPUBLISH, pub/sub channel, publisher's ms, epoch to begin
--       if there is none, length of the stream, ttl ms of the channel, ttl ms
--       of the idempotency keys, then of each event: kind, event id, body,
--       random number.
-- Returns epoch, prev, id and 1 if it was published before, of each event; an
-- answer that ends early says that the rest could not be written.
local publish, channel, now, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5]
local meta = redis.call('HMGET', KEYS[2], 'e', 'l')
local epoch, last = meta[1], meta[2]
if not epoch or not last then
  epoch, last = ARGV[4], '0-0'
  redis.call('HSET', KEYS[2], 'e', epoch, 'l', last, 'b', last) -- first: a full Redis refuses it
  redis.call('DEL', KEYS[1])
end
local ms, seq = string.match(last, '^(%d+)-(%d+)$')
ms, seq = tonumber(ms), tonumber(seq)

local answer, failed, appended = {}, nil, false
for n = 3, #KEYS do
  local arg = 8 + (n - 3) * 4
  local kind, event, body = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2]
  local known = redis.call('GET', KEYS[n])
  local prev, id = last, last
  if known then
    local e, p, i = string.match(known, '^(%S+) (%S+) (%S+)$')
    answer[#answer + 1], answer[#answer + 2], answer[#answer + 3], answer[#answer + 4] = e, p, i, 1
  else
    if kind == 'd' then
      -- The random part keeps an id that a failover lost from being given to
      -- another event.
      if now > ms then
        ms, seq = now, tonumber(ARGV[arg + 3])
      else
        seq = seq + 1 + tonumber(ARGV[arg + 3])
      end
      id = string.format('%.0f-%.0f', ms, seq)
      local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', keep, id, 'p', prev, 'k', event, 'd', body)
      if type(added) == 'table' and added.err then
        if not (string.find(added.err, 'equal or smaller', 1, true) or string.find(added.err, 'WRONGTYPE', 1, true)) then
          failed = added -- out of memory, a replica: nothing is wrong with what is there
          break
        end
        -- The stream is ahead of what meta says, or is no stream at all:
        -- somebody meddled. Begin anew.
        epoch, prev = ARGV[4], '0-0'
        redis.call('DEL', KEYS[1])
        redis.call('HSET', KEYS[2], 'e', epoch, 'b', prev)
        redis.call('XADD', KEYS[1], id, 'p', prev, 'k', event, 'd', body)
      end
      last, appended = id, true
      redis.call('SET', KEYS[n], epoch .. ' ' .. prev .. ' ' .. id, 'PX', ARGV[7])
    end
    redis.call(publish, channel, '1' .. kind .. ' ' .. epoch .. ' ' .. prev .. ' ' .. id .. ' ' .. event .. ' ' .. body)
    answer[#answer + 1], answer[#answer + 2], answer[#answer + 3], answer[#answer + 4] = epoch, prev, id, 0
  end
end

if appended then
  redis.call('HSET', KEYS[2], 'l', last)
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
end
if failed and #answer == 0 then
  return failed
end
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return answer

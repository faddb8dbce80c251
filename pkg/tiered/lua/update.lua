-- KEYS data, lease, operations. ARGV entry, ttl ms, min version, channel, head
-- and tail of the message, the first 48 bytes that must be there still, the
-- operation's field, its number, ms for which it is remembered.
-- Stores what was made of that entry unless something was written since.
-- Returns its version, also if this operation has been here before and only its
-- answer was lost; 0 if it is refused.
local now = clock()
local done = redis.pcall('HGET', KEYS[3], ARGV[8])
if type(done) == 'string' then
  local number, v = string.match(done, '^(%d+) (%d+)$')
  if number == ARGV[9] then return tonumber(v) end
end
if (read('GETRANGE', KEYS[1], 0, 47) or '') ~= ARGV[7] then return 0 end
local v = following(now, KEYS[1], KEYS[2], ARGV[3])
-- First what may be refused (by an ACL), so that an error means that nothing was stored.
redis.call('PUBLISH', ARGV[4], ARGV[5] .. text(v) .. ARGV[6])
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[1], stamped(ARGV[1], v, now, ARGV[2]), 'PX', ARGV[2])
local added = redis.pcall('HSET', KEYS[3], ARGV[8], ARGV[9] .. ' ' .. text(v))
if type(added) == 'table' then -- of another type
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[3], ARGV[8], ARGV[9] .. ' ' .. text(v))
elseif added == 1 and redis.call('HLEN', KEYS[3]) % 512 == 0 then
  -- Fields of processes that are no more.
  local all = redis.call('HGETALL', KEYS[3])
  for i = 1, #all, 2 do
    local at = tonumber(string.match(all[i + 1], '%d+$') or '0')
    if at < now - ARGV[10] * 1000 then redis.call('HDEL', KEYS[3], all[i]) end
  end
end
redis.call('PEXPIRE', KEYS[3], ARGV[10])
return v

-- KEYS stream, lease, scratch. ARGV token, lease ms, batch, age µs (0: whatever there is), widen, group.
-- Takes the lease of the partition and what is to be flushed: what was taken and
-- not acknowledged, by whomever, or else the oldest new entries if there are
-- enough of them or they are old enough.
-- Returns {-1, 0} if another has the lease, {0, length} if there is nothing to
-- do, else {1, length, {id, fields, deliveries before}...}.
local group, me, batch = ARGV[6], ARGV[1], tonumber(ARGV[3])
redis.call('DEL', KEYS[3]) -- a script whose first write frees memory may go on when Redis is full
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= me then return {-1, 0} end
local length = redis.call('XLEN', KEYS[1])
if length == 0 then
  redis.call('DEL', KEYS[2])
  return {0, 0}
end
redis.call('SET', KEYS[2], me, 'PX', ARGV[2])
local pending = redis.pcall('XPENDING', KEYS[1], group)
if pending.err then
  redis.call('XGROUP', 'CREATE', KEYS[1], group, '0')
  pending = {0}
end
local out, n = {}, pending[1]
if n > 0 then
  local rows = redis.call('XPENDING', KEYS[1], group, '-', '+', n)
  local claimed = redis.call('XAUTOCLAIM', KEYS[1], group, me, 0, '0-0', 'COUNT', n)[2]
  local entry, owners = {}, {}
  for i = 1, #claimed do
    if claimed[i] and claimed[i][2] then entry[claimed[i][1]] = claimed[i][2] end
  end
  for _, row in ipairs(rows) do
    if entry[row[1]] then
      table.insert(out, {row[1], entry[row[1]], row[4]})
    else
      redis.call('XACK', KEYS[1], group, row[1]) -- somebody has deleted it by hand
    end
    if row[2] ~= me then owners[row[2]] = true end
  end
  for owner in pairs(owners) do redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, owner) end
  n = #out
end
if n == 0 or ARGV[5] == '1' and n < 2 * batch then
  local age = tonumber(ARGV[4])
  if n == 0 and age > 0 and length < batch then
    local t = redis.call('TIME')
    local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
    if t[1] * 1000000 + t[2] - tonumber(string.match(first[1], '^%d+')) < age then
      redis.call('DEL', KEYS[2])
      return {0, length}
    end
  end
  local new = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', math.max(batch - n, 1), 'STREAMS', KEYS[1], '>')
  if not new and n == 0 then
    -- Entries that are neither new nor taken: somebody has acknowledged them by
    -- hand or moved the group. What the sink has had is not in the stream.
    redis.call('XGROUP', 'SETID', KEYS[1], group, '0')
    new = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', batch, 'STREAMS', KEYS[1], '>')
  end
  if new then
    for _, e in ipairs(new[1][2]) do table.insert(out, {e[1], e[2], 0}) end
  end
end
if #out == 0 then
  redis.call('DEL', KEYS[2])
  return {0, redis.call('XLEN', KEYS[1])}
end
return {1, redis.call('XLEN', KEYS[1]), out}

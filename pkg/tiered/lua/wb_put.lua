-- KEYS stream, index of the key. ARGV max length, deadline µs, min version, key, kind, payload.
-- Returns {version, length}, {-1, length} if the stream is full, or {-2, version
-- it would have had} if that is past the deadline: the caller has given up then.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local length = redis.call('XLEN', KEYS[1])
if length >= tonumber(ARGV[1]) then return {-1, length} end
local last = 0
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if not info.err then
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '^%d+')) end
  end
end
local v = math.max(now, last + 1, tonumber(ARGV[3]) + 1)
if v > tonumber(ARGV[2]) then return {-2, v} end
local id = string.format('%.0f-0', v)
redis.call('XADD', KEYS[1], id, 'k', ARGV[4], 'p', ARGV[5], 'v', ARGV[6])
redis.call('RPUSH', KEYS[2], id)
return {v, length + 1}

-- Takes from a fixed window, which begins with its first call.
-- KEYS[1] "used end"   ARGV limit, window in µs, how many: fewer are given, but
-- one, where that is more than a sixteenth of what is left
-- Returns {given, remaining, µs until reset, µs until one more}.
-- The end is part of the value, and the TTL of the same SET: a key that lacks
-- its TTL, however that came about, still bans nobody for ever.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])

local used, ends = 0, now + window
local u, e = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
u, e = tonumber(u), tonumber(e)
if e and e > now and e <= now + 2 * window then -- beyond that the clock was set back
  used, ends = u, math.min(e, now + window)
end

if used >= limit then
  return {0, 0, ends - now, ends - now}
end
local given = math.max(1, math.min(tonumber(ARGV[3]), math.floor((limit - used) / 16)))
used = used + given
redis.call('SET', KEYS[1], string.format('%.0f %.0f', used, ends), 'PX', math.ceil((ends - now) / 1000))
return {given, limit - used, ends - now, ends - now}

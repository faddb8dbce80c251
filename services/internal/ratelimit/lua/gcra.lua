-- Takes by the generic cell rate algorithm.
-- KEYS[1] when the whole limit will be there again, in µs
-- ARGV limit, µs in which one is given back, how many: fewer are given, but
-- one, where that is more than a sixteenth of what is left
-- Returns {given, remaining, µs until reset, µs until one more}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local limit, step = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = limit * step

local whole = tonumber(redis.call('GET', KEYS[1]) or 0) or 0
if whole > now + 2 * full then -- the clock was set back
  whole = now
end
whole = math.min(math.max(whole, now), now + full)

if whole + step > now + full then
  return {0, 0, whole - now, whole + step - full - now}
end
local given = math.max(1, math.min(tonumber(ARGV[3]), math.floor((full - (whole - now)) / step / 16)))
whole = whole + given * step
redis.call('SET', KEYS[1], string.format('%.0f', whole), 'PX', math.ceil((whole - now) / 1000))
local left = math.floor((full - (whole - now)) / step)
return {given, left, whole - now, whole - now + (left + 1) * step - full}

-- Takes one from a sliding window.
-- KEYS[1] a list of when calls were admitted, oldest first, in µs: at most
-- limit of them   ARGV limit, window in µs
-- Returns {admitted, remaining, µs until reset, µs until one more}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])

local newest = tonumber(redis.call('LINDEX', KEYS[1], -1) or 0)
if newest > now + window then -- the clock was set back
  redis.call('DEL', KEYS[1])
  newest = 0
end
local oldest = redis.call('LINDEX', KEYS[1], 0)
while oldest and tonumber(oldest) <= now - window do
  redis.call('LPOP', KEYS[1])
  oldest = redis.call('LINDEX', KEYS[1], 0)
end

local used = redis.call('LLEN', KEYS[1])
if used >= limit then
  -- A limit that was lowered waits for more than the oldest to leave.
  local leaves = tonumber(redis.call('LINDEX', KEYS[1], used - limit)) + window - now
  redis.call('PEXPIRE', KEYS[1], math.ceil((newest + window - now) / 1000))
  return {0, 0, newest + window - now, leaves}
end
newest = math.max(newest, now)
redis.call('RPUSH', KEYS[1], string.format('%.0f', newest))
redis.call('PEXPIRE', KEYS[1], math.ceil((newest + window - now) / 1000))
return {1, limit - used - 1, newest + window - now, tonumber(oldest or newest) + window - now}

-- KEYS data, lease. ARGV lease ms, version up to which data are not wanted.
-- Returns {0, data, version, version} if there are fresh data, {token, stale or
-- nil, token, version} if the caller shall load, {-1, stale or nil, token,
-- version} if another does; version is that of what is there, also a tombstone.
local now = clock()
local data = read('GET', KEYS[1])
local v = version(data, now)
local wanted = v > 0 and v > number(ARGV[2], now) and math.floor(string.byte(data, 4) / 4) % 2 == 0
if wanted and struct.unpack('>I8', data, 17) > now then return {0, data, v, v} end
if not wanted then data = false end
local held = number(read('GET', KEYS[2]), now)
if held > 0 then return {-1, data, held, v} end
local token = math.max(now, v + 1, number(ARGV[2], now) + 1)
redis.call('SET', KEYS[2], text(token), 'PX', ARGV[1])
return {token, data, token, v}

-- KEYS data, lease. ARGV ttl ms, min version, channel, head and tail of the
-- message, version up to which data are not wanted, bytes to return.
-- Gives a value that is there and fresh a new version and its TTL from now.
-- Returns {version, version before, its first bytes}, or {0} if there is none.
local now = clock()
local head = read('GETRANGE', KEYS[1], 0, 47)
local before = version(head, now)
if before == 0 or before <= number(ARGV[6], now) then return {0} end
local flags = string.byte(head, 4)
if math.floor(flags / 2) % 4 ~= 0 then return {0} end -- negative or tombstone
local soft, hard = struct.unpack('>I8I8', head, 17)
if soft <= now or hard < soft then return {0} end
local v = following(now, KEYS[1], KEYS[2], ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4] .. text(v) .. ARGV[5])
redis.call('DEL', KEYS[2])
patch(KEYS[1], v, now, ARGV[1], (hard - soft) / 1000)
return {v, before, redis.call('GETRANGE', KEYS[1], 0, ARGV[7] - 1)}

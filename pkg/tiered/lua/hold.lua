-- KEYS data, lease. ARGV lease ms, min version, 1 if the source is about to be
-- written. Takes the lease from whoever has it. Returns {token, data or ''}.
-- While the source is written, data live no longer than the lease: if the
-- writer dies in between, they end with it.
local now = clock()
local v = following(now, KEYS[1], KEYS[2], ARGV[2])
redis.call('SET', KEYS[2], text(v), 'PX', ARGV[1])
local data = read('GET', KEYS[1]) or ''
local before = version(data, now)
if ARGV[3] == '1' and before > 0 and math.floor(string.byte(data, 4) / 4) % 2 == 0 then
  local soft = struct.unpack('>I8', data, 17)
  if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[1]) then
    patch(KEYS[1], before, now, math.min(ARGV[1], math.max((soft - now) / 1000, 0)), 0)
  end
end
if ARGV[3] == '1' then data = '' end
return {v, data}

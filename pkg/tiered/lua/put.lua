
-- Stores an entry under the next version and tells the others, unless what is
-- there is newer than newest (0: whatever is there). Returns the version, or 0.
local function put(now, key, lease, channel, entry, ttl, min, head, tail, newest)
  newest = tonumber(newest)
  if newest > 0 and version(read('GETRANGE', key, 0, 47), now) > newest then return 0 end
  local v, held = following(now, key, lease, min)
  store(key, entry, v, now, ttl)
  if held then redis.call('DEL', lease) end
  redis.call('PUBLISH', channel, head .. text(v) .. tail)
  return v
end

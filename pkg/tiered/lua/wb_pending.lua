-- KEYS stream, index of a key. Returns the key's queued entries, oldest first,
-- as {id, fields}.
local out = {}
for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local e = redis.call('XRANGE', KEYS[1], id, id)[1]
  if e then
    table.insert(out, e)
  else
    redis.call('LREM', KEYS[2], 1, id) -- somebody has trimmed the stream by hand
  end
end
return out

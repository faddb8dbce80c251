-- KEYS stream, lease, scratch, dead letters, index of the key. ARGV token, group, id, cause, attempts.
-- Moves an entry to the dead letters, if the caller has the lease still.
redis.call('DEL', KEYS[3]) -- see wb_take.lua
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local e = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if e then
  local dead = {'id', ARGV[3], 'cause', ARGV[4], 'attempts', ARGV[5]}
  for _, f in ipairs(e[2]) do table.insert(dead, f) end
  redis.call('XADD', KEYS[4], '*', unpack(dead))
end
redis.call('XACK', KEYS[1], ARGV[2], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
redis.call('LREM', KEYS[5], 1, ARGV[3])
return 1

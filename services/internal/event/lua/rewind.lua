-- Begins a new epoch if nobody else has: the history was found rewound.
-- KEYS: meta.
-- ARGV: the epoch that was rewound, the new one, pub/sub channel, PUBLISH or
--       SPUBLISH.
-- Returns the epoch that holds.
local meta = redis.call('HMGET', KEYS[1], 'e', 'l')
if meta[1] ~= ARGV[1] or not meta[2] then
  return meta[1] or ''
end
redis.call('HSET', KEYS[1], 'e', ARGV[2], 'b', meta[2])
redis.call(ARGV[4], ARGV[3], '1r ' .. ARGV[2] .. ' ' .. meta[2] .. ' ' .. meta[2] .. ' - -')
return ARGV[2]


-- KEYS data and lease of each. ARGV channel, then what set.lua has after it, of each.
-- Returns of each its version, 0 if nothing was done, or its error as a text.
local now = clock()
local out = {}
for i = 1, #KEYS / 2 do
  local at = 6 * i - 4
  local ok, v = pcall(put, now, KEYS[2 * i - 1], KEYS[2 * i], ARGV[1], unpack(ARGV, at, at + 5))
  if not ok then -- a table in Redis 7, before a text with the line in front
    if type(v) == 'table' then v = v.err end
    v = string.gsub(tostring(v), '^@?user_script:%s*%d+:%s*%-?', '')
  end
  out[i] = v
end
return out

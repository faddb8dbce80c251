-- Which write the cached value has: the newest, and the newest whole one that it
-- has or builds on, 0 if that is not known.
local function mark(key, now)
  local newest, whole = string.match(read('GET', key) or '', '^(%d+):?(%d*)$')
  return number(newest, now), number(whole, now)
end

-- Shared head of the scripts that read entries (see entry.go).
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- The version of an entry or its header; 0 if it is none, or if its version is
-- a day ahead, which only a damaged entry's can be.
local function version(b, now)
  if type(b) ~= 'string' or #b < 48 or string.sub(b, 1, 3) ~= 'TC\1' then return 0 end
  local v = struct.unpack('>I8', b, 9)
  if v > now + 86400000000 then return 0 end
  return v
end

-- What a key holds, or false if it is absent or of another type.
local function read(cmd, ...)
  local b = redis.pcall(cmd, ...)
  if type(b) == 'string' then return b end
  return false
end

local function number(s, now)
  local v = tonumber(s or '0') or 0
  if v > now + 86400000000 then return 0 end
  return v
end

-- The next version: above the clock, what is stored, who loads, and min. Also
-- whether there is a lease.
local function following(now, key, lease, min)
  local v = version(read('GETRANGE', key, 0, 47), now)
  local held = read('GET', lease)
  return math.max(now, v + 1, number(held, now) + 1, number(min, now) + 1), held ~= false
end

local function text(v) return string.format('%.0f', v) end

-- An entry with its version, and its expiries moved so that the hard one is when
-- Redis drops the key: the writer's idea of Redis's clock does not matter.
local function stamped(entry, v, now, ttl)
  local soft, hard = struct.unpack('>I8I8', entry, 17)
  local gone = now + ttl * 1000
  return string.sub(entry, 1, 8) .. struct.pack('>I8I8I8', v, math.max(gone - (hard - soft), 0), gone) .. string.sub(entry, 33)
end

-- Stores an entry so stamped. A large one is not put together here, which would
-- hash it and copy it three times more; a user who may not SETRANGE has it so.
local function store(key, entry, v, now, ttl)
  if #entry >= 4096 then
    redis.call('SET', key, entry, 'PX', ttl)
    local done = redis.pcall('SETRANGE', key, 8, string.sub(stamped(string.sub(entry, 1, 48), v, now, ttl), 9, 32))
    if type(done) == 'number' then return end
  end
  redis.call('SET', key, stamped(entry, v, now, ttl), 'PX', ttl)
end

-- Gives what is stored another version and life, and if there is one another
-- cost of its load, and leaves its value alone.
local function patch(key, v, now, ttl, grace, cost)
  local soft = now + math.floor(ttl * 1000)
  local head = struct.pack('>I8I8I8', v, soft, soft + math.floor(grace * 1000))
  if cost then head = head .. struct.pack('>I4', cost) end
  redis.call('SETRANGE', key, 8, head)
  redis.call('PEXPIRE', key, text(math.ceil(ttl + grace)))
end

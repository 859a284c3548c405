-- Shared by acquire.lua and settle.lua: it is put before each of them when they are loaded.
--
-- Arithmetic is integer throughout. A bucket counts what was spent, in parts of 1/60000 unit: a
-- limit of L units a minute then gives back exactly L parts a millisecond, with nothing to round.
-- Spent parts that came back ("drained") leave in the order in which they were charged. A lease
-- knows the place in that queue where its charge ends, so a refund gives back only what has not
-- come back by itself, and nobody gains a second burst by reserving much and using little.
--
-- Keys are garbage only after they expire: every time-to-live is longer than the state can matter,
-- so that losing a key to its TTL never changes a decision.

local PARTS = 60000
local DAY_MS = 86400000
local SLACK_MS = 60000
local KEPT_LONGER_MS = 3600000      -- a time-to-live is renewed once an hour, not by each request
local LEASE_KEPT_MS = 32 * DAY_MS   -- an abandoned lease can be given back within its month
local LEDGER_DAYS = 400
local LEDGER_MS = string.format('%.0f', (LEDGER_DAYS + 1) * DAY_MS)

local REBASE = 2 ^ 50               -- far below 2^53, where whole numbers end to be exact

local RATES = {'requests', 'chars'}

-- What limits a request: the key it came with, and the key's tenant. Each counts by itself.
local function scope_at(i)
  return {
    spent = KEYS[i], leases = KEYS[i + 1], lapsed = KEYS[i + 2], usage = KEYS[i + 3],
    requests = KEYS[i + 4], chars = KEYS[i + 5],
  }
end

-- Redis's clock. Tests that need to move time hand in their own; production never does.
local function clock_ms(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- A whole number as text: Lua's own conversion turns large ones into 1e+15.
local function text(number)
  return string.format('%.0f', number)
end

-- Live at least `ms` longer; never shorten.
local function keep(key, ms)
  if redis.call('PTTL', key) < ms then
    redis.call('PEXPIRE', key, text(ms + KEPT_LONGER_MS))
  end
end

-- Proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
local function civil(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local d = doy - math.floor((153 * mp + 2) / 5) + 1
  local m = mp < 10 and mp + 3 or mp - 9
  local y = yoe + era * 400 + (m <= 2 and 1 or 0)
  return y, m, d
end

-- The UTC day and month of a moment: their names, when they end, and the month's length in days.
local function windows(ms)
  local day = math.floor(ms / DAY_MS)
  local y, m, d = civil(day)
  local first = day - d + 1
  local _, _, overshoot = civil(first + 31)        -- lies in the next month whatever this one's length
  local days = 31 - (overshoot - 1)
  return {
    day = string.format('%04d-%02d-%02d', y, m, d),
    day_ends = (day + 1) * DAY_MS,
    month = string.format('%04d-%02d', y, m),
    month_ends = (first + days) * DAY_MS,
    month_days = days,
    day_number = day,
  }
end

-- What drained is counted on and on: begin at nought again before its last digit could be lost.
local function rebase(bucket)
  if bucket.drained > REBASE then
    for _, lease in ipairs(redis.call('ZRANGE', bucket.places, 0, -1)) do
      redis.call('ZINCRBY', bucket.places, text(-bucket.drained), lease)
    end
    bucket.drained, bucket.rebased = 0, true
  end
end

-- The buckets as they are `now`: what was spent, less what drained at the rate last in force.
local function load_buckets(scope, now)
  local stored = redis.call('HMGET', scope.spent, 'at', 'requests:spent', 'requests:drained',
    'requests:rate', 'chars:spent', 'chars:drained', 'chars:rate')
  local at = tonumber(stored[1]) or now
  local buckets = {at = math.max(at, now)}         -- a clock that steps back refills nothing
  for i, name in ipairs(RATES) do
    local spent = tonumber(stored[3 * i - 1]) or 0
    local rate = tonumber(stored[3 * i + 1]) or 1
    local flow = math.min(spent, (buckets.at - at) * rate)
    buckets[name] = {
      spent = spent - flow,
      drained = (tonumber(stored[3 * i]) or 0) + flow,
      rate = rate,
      places = scope[name],
    }
    rebase(buckets[name])
  end
  return buckets
end

local function save_buckets(scope, buckets, lease_ms)
  local fields = {'at', text(buckets.at)}
  local ttl = lease_ms
  for _, name in ipairs(RATES) do
    local bucket = buckets[name]
    fields[#fields + 1] = name .. ':spent'
    fields[#fields + 1] = text(bucket.spent)
    fields[#fields + 1] = name .. ':drained'
    fields[#fields + 1] = text(bucket.drained)
    fields[#fields + 1] = name .. ':rate'
    fields[#fields + 1] = text(bucket.rate)
    ttl = math.max(ttl, math.ceil(bucket.spent / bucket.rate))
  end
  redis.call('HSET', scope.spent, unpack(fields))
  keep(scope.spent, ttl + SLACK_MS)
end

-- Charge a bucket and note where in the queue of spent parts the charge ends.
local function charge(bucket, lease, units, lease_ms)
  bucket.spent = bucket.spent + units * PARTS
  redis.call('ZADD', bucket.places, text(bucket.drained + bucket.spent), lease)
  keep(bucket.places, lease_ms + SLACK_MS)
end

-- End a lease's charge, giving back `units` of it as far as they have not drained yet.
local function give_back(bucket, lease, units)
  local place = redis.call('ZSCORE', bucket.places, lease)
  if not place then
    return
  end
  redis.call('ZREM', bucket.places, lease)
  local parts = math.min(units * PARTS, math.max(0, tonumber(place) - bucket.drained))
  if parts <= 0 then
    return
  end
  bucket.spent = bucket.spent - parts
  for _, later in ipairs(redis.call('ZRANGEBYSCORE', bucket.places, '(' .. place, '+inf')) do
    redis.call('ZINCRBY', bucket.places, text(-parts), later)   -- the queue before it is shorter
  end
end

-- A lease's id says what was reserved and for how long: <random>.<chars>.<milliseconds>.
local function reserved_by(lease)
  local chars, lease_ms = string.match(lease, '%.(%d+)%.(%d+)$')
  return tonumber(chars), tonumber(lease_ms)
end

-- Add to the calendar windows of the moment of admission, which are the quotas and the ledger.
local function count_chars(scope, window, chars)
  if chars ~= 0 then
    redis.call('HINCRBY', scope.usage, window.day .. ':chars', text(chars))
    redis.call('HINCRBY', scope.usage, window.month .. ':chars', text(chars))
  end
end

-- Close a live lease that used `used` characters; `whole`: as if it had never been admitted.
local function close_lease(scope, buckets, lease, expires, used, whole)
  local chars, lease_ms = reserved_by(lease)
  redis.call('ZREM', scope.leases, lease)
  give_back(buckets.chars, lease, chars - used)
  give_back(buckets.requests, lease, whole and 1 or 0)
  if used ~= chars or whole then
    local window = windows(expires - lease_ms)     -- of its admission
    count_chars(scope, window, used - chars)
    if whole then
      redis.call('HINCRBY', scope.usage, window.day .. ':requests', -1)
    end
  end
end

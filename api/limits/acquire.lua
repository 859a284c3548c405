-- Decide one request: everything is charged, or nothing. See common.lua for the arithmetic.
--
-- Answer: {code, index of the binding limit, wait ms, keyring version or -1, sunset ms or -1,
--          now ms, days of this month,
--          then for each limit in policy.LIMIT_NAMES: remaining, ms until whole again}

local REVOKED, POINTER, FIRST_USE = KEYS[1], KEYS[2], KEYS[3]
local keys = {
  buckets = KEYS[4], leases = KEYS[5], lapsed = KEYS[6], usage = KEYS[7],
  requests = KEYS[8], chars = KEYS[9], last_used = KEYS[10],
}
local now = clock_ms(ARGV[1])
local peeking = ARGV[2] == 'peek'
local lease, lease_ms, chars = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local never = ARGV[6] == '1'                       -- the plan could never admit so much
local address = ARGV[7]
local role, deadline_ms, grace_ms = ARGV[8], tonumber(ARGV[9]) * 1000, tonumber(ARGV[10]) * 1000
local limits = {
  requests = tonumber(ARGV[11]), chars = tonumber(ARGV[12]), day = tonumber(ARGV[13]),
  month = tonumber(ARGV[14]), concurrency = tonumber(ARGV[15]),
}
local CONCURRENCY_RETRY_MS = tonumber(ARGV[16])

local version = tonumber(redis.call('GET', POINTER)) or -1
local sunset = -1

if redis.call('EXISTS', REVOKED) == 1 then
  return {'invalid_key', 0, 0, version, sunset, now, 0}
end

if role == 'new' then
  redis.call('SET', FIRST_USE, text(now), 'NX', 'PX', text(math.max(0, deadline_ms - now) + DAY_MS))
elseif role == 'old' then
  local first_use = tonumber(redis.call('GET', FIRST_USE))
  sunset = first_use and math.min(deadline_ms, first_use + grace_ms) or deadline_ms
  if now >= sunset then
    return {'invalid_key', 0, 0, version, sunset, now, 0}
  end
end

-- A call that its sender gave up and settled before it was even read: nobody waits for it.
if not peeking and redis.call('ZSCORE', keys.lapsed, '!' .. lease) then
  return {'settled', 0, 0, version, sunset, now, 0}
end

local buckets = load_buckets(keys, now)
local changed = false
for _, name in ipairs(RATES) do
  -- Under a changed plan what was used stays used, and drains at the new rate from here on.
  local bucket = buckets[name]
  changed = changed or (bucket.spent > 0 and bucket.rate ~= limits[name])
  bucket.rate = limits[name]
end

-- Leases whose holder never came back: the slot and what was reserved are free again. Each is
-- remembered for a day, so that a holder who does come back is charged what was used after all.
local lapsed = redis.call('ZRANGEBYSCORE', keys.leases, '-inf', text(now), 'WITHSCORES')
for i = 1, #lapsed, 2 do
  close_lease(keys, buckets, lapsed[i], tonumber(lapsed[i + 1]), 0, false)
  redis.call('ZADD', keys.lapsed, lapsed[i + 1], lapsed[i])
end
if #lapsed > 0 then
  changed = true
  redis.call('ZREMRANGEBYSCORE', keys.lapsed, '-inf', text(now - DAY_MS))
  redis.call('PEXPIRE', keys.lapsed, text(DAY_MS + SLACK_MS))
end
if changed then
  save_buckets(keys, buckets, 0)
end

local window = windows(now)
local used = redis.call('HMGET', keys.usage, window.day .. ':chars', window.month .. ':chars')
local day_used, month_used = tonumber(used[1]) or 0, tonumber(used[2]) or 0
local running = redis.call('ZCARD', keys.leases)

-- How long this very request has to wait for each limit; 0 where it need not.
local function bucket_wait(name, units)
  local missing = buckets[name].spent + (units - limits[name]) * PARTS
  return missing > 0 and math.ceil(missing / limits[name]) or 0
end
local waits = {
  bucket_wait('requests', 1),
  bucket_wait('chars', chars),
  day_used + chars > limits.day and window.day_ends - now or 0,
  month_used + chars > limits.month and window.month_ends - now or 0,
  running >= limits.concurrency and CONCURRENCY_RETRY_MS or 0,
}
local binding, wait = 0, 0
for i, one in ipairs(waits) do
  if one > wait then
    binding, wait = i, one
  end
end

local code = ''
if never then
  code = 'exceeds_plan'
elseif wait > 0 then
  code = 'refused'
end

if not peeking then
  if code == '' then
    charge(buckets.requests, lease, 1, lease_ms)
    charge(buckets.chars, lease, chars, lease_ms)
    save_buckets(keys, buckets, lease_ms)
    redis.call('ZADD', keys.leases, text(now + lease_ms), lease)
    keep(keys.leases, lease_ms + LEASE_KEPT_MS)
    count_chars(keys, now, chars)
    redis.call('HSET', keys.last_used, 'at', text(math.floor(now / 1000)), 'address', address)
    redis.call('PEXPIRE', keys.last_used, text((LEDGER_DAYS + 1) * DAY_MS))
    if redis.call('HINCRBY', keys.usage, window.day .. ':requests', 1) == 1 then
      -- The first of a day clears what is older than the ledger reaches back.
      local oldest = windows((window.day_number - LEDGER_DAYS) * DAY_MS)
      for _, field in ipairs(redis.call('HKEYS', keys.usage)) do
        local date = string.match(field, '^(%d+%-%d+%-?%d*):')
        if date and date < (#date == 7 and oldest.month or oldest.day) then
          redis.call('HDEL', keys.usage, field)
        end
      end
    end
    day_used, month_used, running = day_used + chars, month_used + chars, running + 1
  else
    redis.call('HINCRBY', keys.usage, window.day .. ':refused', 1)
  end
  redis.call('PEXPIRE', keys.usage, text((LEDGER_DAYS + 1) * DAY_MS))
end

local function left(name)
  local bucket, limit = buckets[name], limits[name]
  return math.max(0, math.floor((limit * PARTS - bucket.spent) / PARTS)),
    math.ceil(bucket.spent / limit)
end
local requests_left, requests_reset = left('requests')
local chars_left, chars_reset = left('chars')
return {
  code, binding, wait, version, sunset, now, window.month_days,
  requests_left, requests_reset,
  chars_left, chars_reset,
  math.max(0, limits.day - day_used), day_used > 0 and window.day_ends - now or 0,
  math.max(0, limits.month - month_used), month_used > 0 and window.month_ends - now or 0,
  math.max(0, limits.concurrency - running), 0,
}

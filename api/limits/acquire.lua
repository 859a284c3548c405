-- Decide one request: everything is charged, or nothing. See common.lua for the arithmetic.
--
-- KEYS: revoked marker, keyring pointer, first use of a rotation, last use; then six for each scope
-- that limits: the key, and its tenant if that has caps; then, of a request with an idempotency key,
-- its record.
-- Answer: {code, index of the binding limit, wait ms, keyring version or -1, sunset ms or -1,
--          now ms, days of this month,
--          then for each scope, for each limit in policy.LIMIT_NAMES: remaining (-1: there is no
--          such limit), ms until whole again}
-- To a request that was made before: {'known', ... as above ..., characters charged, complete, seed},
-- and nothing is charged: the caller asks again, for the rest.

local REVOKED, POINTER, FIRST_USE, LAST_USED = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = clock_ms(ARGV[1])
local peeking = ARGV[2] == 'peek'
local lease, lease_ms, chars = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local never = ARGV[6] == '1'                       -- a limit could never admit so much
local address = ARGV[7]
local role, deadline_ms, grace_ms = ARGV[8], tonumber(ARGV[9]) * 1000, tonumber(ARGV[10]) * 1000
local CONCURRENCY_RETRY_MS = tonumber(ARGV[11])
local digest, seed, known_charged = ARGV[12], ARGV[13], tonumber(ARGV[14])
local record = KEYS[#KEYS]                         -- if there is a digest
local FIRST_LIMIT = 15
local RECORD_MS = DAY_MS

local scopes = {}
for i = 5, #KEYS - 5, 6 do
  local at = FIRST_LIMIT + 5 * #scopes
  local scope = scope_at(i)
  scope.limits = {
    requests = tonumber(ARGV[at]), chars = tonumber(ARGV[at + 1]), day = tonumber(ARGV[at + 2]),
    month = tonumber(ARGV[at + 3]), concurrency = tonumber(ARGV[at + 4]),
  }
  scopes[#scopes + 1] = scope
end
local key = scopes[1]

local known = redis.call('MGET', POINTER, REVOKED)
local version = tonumber(known[1]) or -1
local sunset = -1

if known[2] then
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
if not peeking and redis.call('ZSCORE', key.lapsed, '!' .. lease) then
  return {'settled', 0, 0, version, sunset, now, 0}
end

local first_time = true
if digest ~= '' then
  local held = redis.call('HMGET', record, 'digest', 'until', 'charged', 'complete', 'seed')
  if held[1] then
    first_time = false
    if held[1] ~= digest then
      return {'idempotency_key_reused', 0, 0, version, sunset, now, 0}
    elseif tonumber(held[2]) > now then
      return {'request_in_progress', 0, 0, version, sunset, now, 0}
    elseif tonumber(held[3]) ~= known_charged then
      return {'known', 0, 0, version, sunset, now, 0, tonumber(held[3]), tonumber(held[4]), held[5]}
    end
  end
end

local window = windows(now)

-- The scope as it is now: changed limits in force, leases whose holder never came back closed.
local function look(scope)
  local limits, buckets = scope.limits, load_buckets(scope, now)
  local changed = false
  for _, name in ipairs(RATES) do
    local bucket = buckets[name]
    changed = changed or bucket.rebased
    if limits[name] > 0 then
      -- Under a changed limit what was used stays used, and drains at the new rate from here on.
      changed = changed or (bucket.spent > 0 and bucket.rate ~= limits[name])
      bucket.rate = limits[name]
    end
  end
  -- A lapsed lease's slot and reservation are free again. It is remembered for a day, so that a
  -- holder who does come back is charged what was used after all.
  local lapsed = redis.call('ZRANGEBYSCORE', scope.leases, '-inf', text(now), 'WITHSCORES')
  for i = 1, #lapsed, 2 do
    close_lease(scope, buckets, lapsed[i], tonumber(lapsed[i + 1]), 0, false)
    redis.call('ZADD', scope.lapsed, lapsed[i + 1], lapsed[i])
  end
  if #lapsed > 0 then
    changed = true
    redis.call('ZREMRANGEBYSCORE', scope.lapsed, '-inf', text(now - DAY_MS))
    redis.call('PEXPIRE', scope.lapsed, text(DAY_MS + SLACK_MS))
  end
  if changed then
    save_buckets(scope, buckets, 0)
  end
  local used = redis.call('HMGET', scope.usage, window.day .. ':chars', window.month .. ':chars')
  scope.buckets = buckets
  scope.day_used, scope.month_used = tonumber(used[1]) or 0, tonumber(used[2]) or 0
  scope.running = redis.call('ZCARD', scope.leases)
end

-- How long this very request has to wait for each limit of a scope; 0 where it need not.
local function waits(scope)
  local limits = scope.limits
  local function bucket_wait(name, units)
    local limit = limits[name]
    local missing = scope.buckets[name].spent + (units - limit) * PARTS
    return limit > 0 and missing > 0 and math.ceil(missing / limit) or 0
  end
  local function quota_wait(limit, used, ends)
    return limit > 0 and used + chars > limit and ends - now or 0
  end
  local full = limits.concurrency > 0 and scope.running >= limits.concurrency
  return {
    bucket_wait('requests', 1),
    bucket_wait('chars', chars),
    quota_wait(limits.day, scope.day_used, window.day_ends),
    quota_wait(limits.month, scope.month_used, window.month_ends),
    full and CONCURRENCY_RETRY_MS or 0,
  }
end

local binding, wait = 0, 0
for number, scope in ipairs(scopes) do
  look(scope)
  for i, one in ipairs(waits(scope)) do
    if one > wait then
      binding, wait = 5 * (number - 1) + i, one
    end
  end
end

local code = ''
if never then
  code = 'exceeds_plan'
elseif wait > 0 then
  code = 'refused'
end

local function admit(scope)
  local buckets, limits = scope.buckets, scope.limits
  if limits.requests > 0 then
    charge(buckets.requests, lease, 1, lease_ms)
  end
  if limits.chars > 0 then
    charge(buckets.chars, lease, chars, lease_ms)
  end
  save_buckets(scope, buckets, lease_ms)
  redis.call('ZADD', scope.leases, text(now + lease_ms), lease)
  keep(scope.leases, lease_ms + LEASE_KEPT_MS)
  count_chars(scope, window, chars)
  if redis.call('HINCRBY', scope.usage, window.day .. ':requests', 1) == 1 then
    -- The first of a day renews the ledger, and clears what is older than it reaches back.
    redis.call('PEXPIRE', scope.usage, LEDGER_MS)
    redis.call('PEXPIRE', LAST_USED, LEDGER_MS)
    local oldest = windows((window.day_number - LEDGER_DAYS) * DAY_MS)
    for _, field in ipairs(redis.call('HKEYS', scope.usage)) do
      local date = string.match(field, '^(%d+%-%d+%-?%d*):')
      if date and date < (#date == 7 and oldest.month or oldest.day) then
        redis.call('HDEL', scope.usage, field)
      end
    end
  end
  scope.day_used, scope.month_used = scope.day_used + chars, scope.month_used + chars
  scope.running = scope.running + 1
end

-- Reading one's account and administering are uses of a key as well.
if peeking or code == '' then
  local seconds = text(math.floor(now / 1000))
  if redis.call('HSET', LAST_USED, 'at', seconds, 'address', address) > 0 or peeking then
    redis.call('PEXPIRE', LAST_USED, LEDGER_MS)     -- else the first request of a day does
  end
end

if not peeking then
  for _, scope in ipairs(scopes) do
    if code == '' then
      admit(scope)
    elseif redis.call('HINCRBY', scope.usage, window.day .. ':refused', 1) == 1 then
      redis.call('PEXPIRE', scope.usage, LEDGER_MS)
    end
  end
  if code == '' and digest ~= '' then
    redis.call('HSET', record, 'lease', lease, 'until', text(now + lease_ms))
    if first_time then
      redis.call('HSET', record, 'digest', digest, 'seed', seed, 'charged', 0, 'complete', 0)
      redis.call('PEXPIRE', record, text(math.max(RECORD_MS, lease_ms + SLACK_MS)))
    end
  end
end

local answer = {code, binding, wait, version, sunset, now, window.month_days}
local function tell(limit, left, reset_ms)
  answer[#answer + 1] = limit > 0 and math.max(0, left) or -1
  answer[#answer + 1] = limit > 0 and reset_ms or 0
end
for _, scope in ipairs(scopes) do
  local limits = scope.limits
  for _, name in ipairs(RATES) do
    local limit, spent = limits[name], scope.buckets[name].spent
    tell(limit, math.floor((limit * PARTS - spent) / PARTS), math.ceil(spent / limit))
  end
  tell(limits.day, limits.day - scope.day_used, scope.day_used > 0 and window.day_ends - now or 0)
  tell(limits.month, limits.month - scope.month_used,
    scope.month_used > 0 and window.month_ends - now or 0)
  tell(limits.concurrency, limits.concurrency - scope.running, 0)
end
return answer

-- End one admitted request: what was not used goes back, the slot is free. See common.lua.
--
-- KEYS: six for each scope that limited it: the key, and its tenant if that had caps; then, of a
-- request with an idempotency key, its record.
-- Safe to repeat. Answer: 1 settled; 2 settled late (its lease had lapsed, or Redis was away when
-- it was admitted): the calendar counters alone are charged; 0 there was nothing left to settle.

local now = clock_ms(ARGV[1])
local lease, used, whole = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local granted_elsewhere_at = tonumber(ARGV[5])      -- 0 unless the instance admitted it alone
local recorded = ARGV[6]                            -- '', 'complete' or 'incomplete'

local function settle(scope)
  local expires = tonumber(redis.call('ZSCORE', scope.leases, lease))
  if expires then
    local buckets = load_buckets(scope, now)
    close_lease(scope, buckets, lease, expires, used, whole)
    save_buckets(scope, buckets, 0)
    return 1
  end
  local late = tonumber(redis.call('ZSCORE', scope.lapsed, lease))
  if late then
    redis.call('ZREM', scope.lapsed, lease)
    if late > now - DAY_MS then
      local _, lease_ms = reserved_by(lease)
      count_chars(scope, windows(late - lease_ms), used)
    end
    return 2
  end
  if whole or granted_elsewhere_at == 0 then
    return 0
  end
  local window = windows(granted_elsewhere_at)
  count_chars(scope, window, used)
  redis.call('HINCRBY', scope.usage, window.day .. ':requests', 1)
  redis.call('PEXPIRE', scope.usage, LEDGER_MS)
  return 2
end

local key = scope_at(1)
if granted_elsewhere_at > 0 then
  -- Whether or not Redis knows of it, what an instance granted alone is settled only once.
  if redis.call('ZADD', key.lapsed, 'NX', text(now), '!' .. lease) == 0 then
    return 0
  end
  redis.call('ZREMRANGEBYSCORE', key.lapsed, '-inf', text(now - DAY_MS))
  keep(key.lapsed, DAY_MS + SLACK_MS)
end
local answer = settle(key)
if #KEYS >= 12 then
  settle(scope_at(7))
end

-- What was charged is charged: who asks again with this idempotency key pays only for the rest.
local record = KEYS[#KEYS]
if recorded ~= '' and redis.call('HGET', record, 'lease') == lease then
  local charged = redis.call('HINCRBY', record, 'charged', text(used))
  if recorded == 'complete' then
    redis.call('HSET', record, 'complete', 1)
  elseif charged == 0 and redis.call('HGET', record, 'complete') == '0' then
    redis.call('DEL', record)
    return answer
  end
  redis.call('HSET', record, 'lease', '', 'until', 0)
end
return answer

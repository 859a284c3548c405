-- End one admitted request: what was not used goes back, the slot is free. See common.lua.
--
-- Safe to repeat. Answer: 1 settled; 2 settled late (its lease had lapsed, or Redis was away when
-- it was admitted): the calendar counters alone are charged; 0 there was nothing left to settle.

local keys = {
  buckets = KEYS[1], leases = KEYS[2], lapsed = KEYS[3], usage = KEYS[4],
  requests = KEYS[5], chars = KEYS[6],
}
local now = clock_ms(ARGV[1])
local lease, used, whole = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local granted_elsewhere_at = tonumber(ARGV[5])      -- 0 unless the instance admitted it alone

if granted_elsewhere_at > 0 then
  -- Whether or not Redis knows of it, what an instance granted alone is settled only once.
  if redis.call('ZADD', keys.lapsed, 'NX', text(now), '!' .. lease) == 0 then
    return 0
  end
  redis.call('ZREMRANGEBYSCORE', keys.lapsed, '-inf', text(now - DAY_MS))
  keep(keys.lapsed, DAY_MS + SLACK_MS)
end

local expires = tonumber(redis.call('ZSCORE', keys.leases, lease))
if expires then
  local buckets = load_buckets(keys, now)
  close_lease(keys, buckets, lease, expires, used, whole)
  save_buckets(keys, buckets, 0)
  return 1
end

local late = tonumber(redis.call('ZSCORE', keys.lapsed, lease))
if late then
  redis.call('ZREM', keys.lapsed, lease)
  if late > now - DAY_MS then
    local _, lease_ms = reserved_by(lease)
    count_chars(keys, late - lease_ms, used)
  end
  return 2
end

if whole then
  return 0
end

if granted_elsewhere_at > 0 then
  count_chars(keys, granted_elsewhere_at, used)
  redis.call('HINCRBY', keys.usage, windows(granted_elsewhere_at).day .. ':requests', 1)
  redis.call('PEXPIRE', keys.usage, text((LEDGER_DAYS + 1) * DAY_MS))
  return 2
end
return 0

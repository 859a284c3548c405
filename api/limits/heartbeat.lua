-- Tell of this instance, and answer how many were heard of in the last minute: so many share the
-- limits when Redis is away. Its key is nobody's, hence a script of its own: see common.lua.

local HEARTBEAT_MS = 60000
local now = clock_ms(ARGV[1])
redis.call('ZADD', KEYS[1], text(now), ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - HEARTBEAT_MS))
redis.call('PEXPIRE', KEYS[1], HEARTBEAT_MS)
return redis.call('ZCARD', KEYS[1])

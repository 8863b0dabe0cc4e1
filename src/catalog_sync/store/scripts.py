"""The Lua scripts. Each is safe to repeat after an answer that got lost."""

from __future__ import annotations

STAGE = """
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""
"""KEYS: hash. ARGV: TTL in s, field, value, ... Fields and TTL go in one step, so that a writer killed between two
commands never leaves a key that stays for ever."""

COPY_HASH = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local reply = redis.pcall('COPY', KEYS[1], KEYS[2], 'REPLACE')
if type(reply) == 'table' and reply.err then
  if string.find(string.lower(reply.err), 'unknown') then return -1 end
  return reply
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1
"""
"""KEYS: source, target. ARGV: TTL in s. 0: no source; -1: a server before 6.2, which has no COPY."""

COUNT_FIELDS = """
local present = 0
for i = 1, #ARGV do present = present + redis.call('HEXISTS', KEYS[1], ARGV[i]) end
return present
"""
"""KEYS: hash. ARGV: field, ..."""

COMMIT = """
local version, token, grace = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if redis.call('HGET', KEYS[9], 'committed') == ARGV[2] then
  return {'ok', redis.call('HGET', KEYS[9], 'previous') or ''}
end
local receipt = KEYS[10] and redis.call('GET', KEYS[10])
if receipt and receipt ~= version then return {'published', receipt} end
local highest = tonumber(redis.call('GET', KEYS[2]) or '0')
if token < highest then return {'stale', tostring(highest)} end
for i = 4, 8 do
  local actual = redis.call('HLEN', KEYS[i])
  if actual ~= tonumber(ARGV[i]) then return {'incomplete', KEYS[i], tostring(actual), ARGV[i]} end
end
if redis.call('HEXISTS', KEYS[9], 'json') == 0 then return {'incomplete', KEYS[9], '0', '1'} end
local previous = redis.call('GET', KEYS[1])
for i = 4, 9 do redis.call('PERSIST', KEYS[i]) end
redis.call('HSET', KEYS[9], 'committed', ARGV[2], 'previous', previous or '')
redis.call('SET', KEYS[2], ARGV[2])
if tonumber(redis.call('GET', KEYS[3]) or '0') < token then redis.call('SET', KEYS[3], ARGV[2]) end
redis.call('SET', KEYS[1], version)
if KEYS[10] then redis.call('SET', KEYS[10], version, 'EX', 86400) end
if previous and previous ~= version then
  for i = 10, #ARGV do redis.call('EXPIRE', ARGV[9] .. previous .. ':' .. ARGV[i], grace) end
end
return {'ok', previous or ''}
"""
"""KEYS: current, fence, fence:seq, the five data hashes, meta; the receipt where there is one. ARGV: version, token,
grace in s, the five counts, prefix of version keys, names of a version's hashes. The keys of the previous version carry
the same hash tag."""

LOCK_ACQUIRE = """
local held = redis.call('GET', KEYS[1])
local claim = ARGV[1]
if held then
  if string.sub(held, 1, #claim) == claim then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return {'ok', string.sub(held, #claim + 1, -2)}
  end
  return {'busy', held, redis.call('PTTL', KEYS[1])}
end
local floor = tonumber(ARGV[3])
local fence = tonumber(redis.call('GET', KEYS[3]) or '0')
if fence > floor then floor = fence end
local current = redis.call('GET', KEYS[4])
if current then
  local published = tonumber(redis.call('HGET', ARGV[4] .. current .. ':meta', 'fence') or '0')
  if published and published > floor then floor = published end
end
local token = redis.call('INCR', KEYS[2])
if token <= floor then
  token = floor + 1
  redis.call('SET', KEYS[2], string.format('%.0f', token))
end
local text = string.format('%.0f', token)
redis.call('SET', KEYS[1], claim .. text .. '}', 'PX', ARGV[2])
return {'ok', text}
"""
"""KEYS: lock, fence:seq, fence, current. ARGV: claim (JSON up to the token), TTL in ms, lowest token seen elsewhere,
prefix of version keys. The counter may go back in a failover, so the token is also kept above everything published."""

LOCK_RENEW = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
"""KEYS: lock. ARGV: claim, TTL in ms."""

LOCK_RELEASE = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
"""KEYS: lock. ARGV: claim."""

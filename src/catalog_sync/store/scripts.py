"""The Lua scripts. Each is safe to repeat if its answer was lost."""

from __future__ import annotations

STAGE = """
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""
"""KEYS: hash. ARGV: TTL in s, field, value, ... Fields and TTL are set in one step, so that a writer killed between two
commands never leaves a key without expiry."""

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

SCAN_LINES = """
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local names, texts = {}, {}
for i = 1, #page[2], 2 do
  names[#names + 1] = page[2][i]
  texts[#texts + 1] = page[2][i + 1]
end
return {page[1], #names, table.concat(names, '\\n'), table.concat(texts, '\\n')}
"""
"""KEYS: hash. ARGV: cursor, COUNT. Returns the next cursor, the number of fields, their names and their values, one per
line: a client reads two long texts in a fraction of the time that it needs for thousands of short ones."""

_READING = """
local function own(held, claim) return held and string.sub(held, 1, #claim) == claim end
local function text(...)
  local found = redis.pcall(...)
  return type(found) == 'string' and found
end
local function token_in(...)
  local number = tonumber(text(...) or '')
  return number and number > 0 and number < 2^53 and number or 0
end
"""
"""``text``: the reply of a reading command; false if the key is missing or has another type. ``token_in``: the fencing
token in it; 0 if it is not one, so that damaged keys are replaced by the next publication and block none."""

COMMIT = (
    _READING
    + """
local version, token, claim, grace = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', KEYS[10], 'committed') == token then
  return {'ok', redis.call('HGET', KEYS[10], 'previous') or ''}
end
local receipt = KEYS[12] and redis.call('GET', KEYS[12])
if receipt and receipt ~= version then return {'published', receipt} end
local highest = token_in('GET', KEYS[2])
if tonumber(token) < highest then return {'stale', string.format('%.0f', highest)} end
if text('GET', KEYS[4]) ~= claim .. token .. '}' then return {'lock lost'} end
for i = 5, 9 do
  local actual = redis.call('HLEN', KEYS[i])
  if actual ~= tonumber(ARGV[i]) then return {'incomplete', KEYS[i], tostring(actual), ARGV[i]} end
end
if redis.call('HEXISTS', KEYS[10], 'json') == 0 then return {'incomplete', KEYS[10], '0', '1'} end
local previous = text('GET', KEYS[1])
redis.call('HSET', KEYS[10], 'committed', token, 'previous', previous or '')
for i = 5, 10 do redis.call('PERSIST', KEYS[i]) end
redis.call('SET', KEYS[2], token)
if token_in('GET', KEYS[3]) < tonumber(token) then redis.call('SET', KEYS[3], token) end
redis.call('SET', KEYS[1], version)
if KEYS[12] then redis.call('SET', KEYS[12], version, 'EX', 86400) end
if redis.call('TYPE', KEYS[11]).ok ~= 'zset' then redis.call('UNLINK', KEYS[11]) end
redis.call('ZREM', KEYS[11], version)
local function keys_of(old, act)
  for i = 13, #ARGV do act(ARGV[12] .. old .. ':' .. ARGV[i]) end
end
if previous and previous ~= version then
  keys_of(previous, function(key) redis.call('EXPIRE', key, grace) end)
  redis.call('ZADD', KEYS[11], token, previous)
  redis.call('EXPIRE', KEYS[11], grace)
end
local bytes = 0
for place, old in ipairs(redis.call('ZREVRANGE', KEYS[11], 0, -1)) do
  keys_of(old, function(key)
    local size = redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', 20)
    if type(size) == 'number' then bytes = bytes + size end
  end)
  if place > tonumber(ARGV[10]) or (place > 1 and bytes > tonumber(ARGV[11])) then
    keys_of(old, function(key) redis.call('UNLINK', key) end)
    redis.call('ZREM', KEYS[11], old)
  end
end
return {'ok', previous or ''}
"""
)
"""KEYS: current, fence, fence:seq, lock, the five data hashes, meta, the replaced versions; the receipt if there is
one. ARGV: version, token, claim of the lock, grace in s, the five counts, maximum number and bytes of replaced versions
that are kept, prefix of version keys, names of a version's hashes. The keys of replaced versions have the same hash
tag. The most recently replaced version is kept however large it is, for running readers.

The lock must still be the one of this run, including its token: after FLUSHALL or the promotion of an older replica the
highest published token may be any number, and alone says nothing."""

FORGET_REPLACED = """
local versions = redis.pcall('ZRANGE', KEYS[1], 0, -1)
local gone = redis.call('DEL', KEYS[1])
for _, old in ipairs(versions) do
  for i = 2, #ARGV do gone = gone + redis.call('DEL', ARGV[1] .. old .. ':' .. ARGV[i]) end
end
return gone
"""
"""KEYS: the replaced versions. ARGV: prefix of version keys, names of a version's hashes. Returns how many keys were
deleted. If the key is not a sorted set, the first reply has no elements. ``DEL`` instead of ``UNLINK``: the memory must
be free for the next command."""

LOCK_ACQUIRE = (
    _READING
    + """
local claim, ttl, resumed = ARGV[1], ARGV[2], ARGV[5]
if KEYS[5] then
  local status = redis.call('HGET', KEYS[5], 'status') or 'gone'
  if status ~= 'queued' and status ~= 'running' then return {'ended', status} end
end
local held = text('GET', KEYS[1])
if own(held, claim) then
  redis.call('PEXPIRE', KEYS[1], ttl)
  return {'ok', string.sub(held, #claim + 1, -2)}
end
if held then
  if redis.call('PTTL', KEYS[1]) == -1 then redis.call('PEXPIRE', KEYS[1], ttl) end
  return {'busy', held, redis.call('PTTL', KEYS[1])}
end
local published = token_in('GET', KEYS[3])
local current = text('GET', KEYS[4])
if current then published = math.max(published, token_in('HGET', ARGV[4] .. current .. ':meta', 'fence')) end
if resumed ~= '' and published > tonumber(resumed) and not (KEYS[6] and redis.call('GET', KEYS[6])) then
  return {'published', string.format('%.0f', published)}
end
local time = redis.call('TIME')
local counted = token_in('GET', KEYS[2])
local token = math.max(time[1] * 1000000 + time[2], counted + 1, published + 1, tonumber(ARGV[3]) + 1)
local text = string.format('%.0f', token)
redis.call('SET', KEYS[2], text)
redis.call('SET', KEYS[1], claim .. text .. '}', 'PX', ttl)
return {'ok', text}
"""
)
"""KEYS: lock, fence:seq, fence, current; for a job its record and the receipt of its publication. ARGV: claim (JSON up
to the token), TTL in ms, lower bound of the token, prefix of version keys, the job's previous token or nothing.

The token is the server's clock in microseconds, raised above every token that the server knows: unlike a counter, it
does not repeat after FLUSHALL or a failover to a lagging replica. Doubles represent it exactly until the year 2255. A
lock without expiry is not ours: it gets one. A job gets the lock only while it is queued or running, and re-acquires a
lost one only if no one else has published meanwhile."""

LOCK_RENEW = (
    _READING
    + """
if KEYS[2] then
  local status = redis.call('HGET', KEYS[2], 'status')
  if status ~= 'queued' and status ~= 'running' then return 'ended' end
end
local held = text('GET', KEYS[1])
if not held then return 'free' end
if not own(held, ARGV[1]) then return 'lost' end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'ok'
"""
)
"""KEYS: lock; for a job its record. ARGV: claim, TTL in ms. Extends a held lock, and never acquires one: ``free``,
``lost`` (another run has it) and ``ended`` (the job has ended) change nothing."""

LOCK_RELEASE = (
    _READING
    + """
if own(text('GET', KEYS[1]), ARGV[1]) then return redis.call('DEL', KEYS[1]) end
return 0
"""
)
"""KEYS: lock. ARGV: claim."""

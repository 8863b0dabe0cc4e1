"""The Lua scripts of jobs. Each is safe to repeat if its answer was lost.

``only`` removes a key that holds the wrong type of data, so that foreign data blocks nothing.

Times are those of the Redis server, in milliseconds: the clocks of the workers do not matter. Record fields: see
:mod:`catalog_sync.jobs.records`. Step fields: ``{step}:claim``, ``{step}:until``, ``{step}:starts``, ``{step}:sent``.
"""

from __future__ import annotations

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function only(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('UNLINK', key) end
end
local function announce(job)
  only(KEYS[#KEYS], 'stream')
  redis.call('XADD', KEYS[#KEYS], 'MAXLEN', '~', 1000, '*', 'job', job)
end
"""

SUBMIT = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[3]) == 1 then return {'ok', ARGV[1]} end
only(KEYS[1], 'string')
only(KEYS[2], 'zset')
local active = redis.call('GET', KEYS[1])
if active then
  local status = redis.pcall('HGET', ARGV[2] .. active, 'status')
  if status == 'queued' or status == 'running' then return {'busy', active} end
end
redis.call('HSET', KEYS[3], 'status', 'queued', 'created_ms', now, unpack(ARGV, 4))
redis.call('SET', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], now, ARGV[1])
local old = redis.call('ZREVRANGE', KEYS[2], ARGV[3], -1)
for _, id in ipairs(old) do
  redis.call('UNLINK', ARGV[2] .. id, ARGV[2] .. id .. ':steps', ARGV[2] .. id .. ':parts')
  redis.call('ZREM', KEYS[2], id)
end
announce(ARGV[1])
return {'ok', ARGV[1]}
"""
)
"""KEYS: active, index, record, changes. ARGV: job, prefix of records, how many are kept, field, value, ..."""

START = (
    _NOW
    + """
local job, step, claim, ttl, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'gone'} end
if status ~= 'queued' and status ~= 'running' then return {'ended'} end
local held = redis.call('HGET', KEYS[2], step .. ':claim')
if redis.call('HEXISTS', KEYS[3], step) == 1 then return {'done'} end
local stop = redis.call('HMGET', KEYS[1], 'cancel', 'fatal')
if step == 'publish' then
  local missing = tonumber(redis.call('HGET', KEYS[1], 'missing') or '1')
  if missing > 0 and not stop[1] and not stop[2] then return {'early'} end
elseif stop[1] or stop[2] then
  return {'stopped'}
end
local ends = tonumber(redis.call('HGET', KEYS[2], step .. ':until') or '0')
if held and held ~= claim and ends > now then return {'busy'} end
local starts = tonumber(redis.call('HGET', KEYS[2], step .. ':starts') or '0')
if held ~= claim then
  if starts >= most then return {'dead', tostring(starts)} end
  starts = redis.call('HINCRBY', KEYS[2], step .. ':starts', 1)
end
redis.call('HSET', KEYS[2], step .. ':claim', claim, step .. ':until', now + ttl)
if status == 'queued' then
  redis.call('HSET', KEYS[1], 'status', 'running', 'started_at', ARGV[6], 'deadline_ms', now + tonumber(ARGV[7]))
  announce(job)
end
local deadline = tonumber(redis.call('HGET', KEYS[1], 'deadline_ms') or '0')
return {'ok', tostring(starts), tostring(deadline - now)}
"""
)
"""KEYS: record, steps, parts, changes. ARGV: job, step, claim, TTL in ms, maximum starts, time as text, time limit of
the sync in ms. Returns ``ok`` with the number of starts and the ms left, or why the step must not run."""

BEAT = (
    _NOW
    + """
local step = ARGV[1]
if redis.call('HGET', KEYS[2], step .. ':claim') ~= ARGV[2] then return 'lost' end
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'running' then return 'stop' end
redis.call('HSET', KEYS[2], step .. ':until', now + tonumber(ARGV[3]))
if step ~= 'publish' then
  local stop = redis.call('HMGET', KEYS[1], 'cancel', 'fatal')
  if stop[1] or stop[2] then return 'stop' end
end
return 'ok'
"""
)
"""KEYS: record, steps. ARGV: step, claim, TTL in ms."""

PROGRESS = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'status') ~= 'running' then return 0 end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return 0 end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
announce(ARGV[1])
return 1
"""
)
"""KEYS: record, parts, changes. ARGV: job, step, field of the record, progress."""

PLANNED = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'status') ~= 'running' then return 0 end
if redis.call('HSETNX', KEYS[3], 'plan', ARGV[2]) == 0 then return 0 end
redis.call('HDEL', KEYS[2], 'plan:claim', 'plan:until')
redis.call('HSET', KEYS[1], 'missing', ARGV[3], unpack(ARGV, 4))
announce(ARGV[1])
return 1
"""
)
"""KEYS: record, steps, parts, changes. ARGV: job, the plan, number of steps after it, field of record, value, ..."""

FINISH = (
    _NOW
    + """
local step = ARGV[2]
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'running' then return {'ended', '0'} end
local first = redis.call('HSETNX', KEYS[3], step, ARGV[3])
if first == 1 then
  redis.call('HDEL', KEYS[2], step .. ':claim', step .. ':until')
  redis.call('HSET', KEYS[1], ARGV[4], ARGV[5])
  redis.call('HINCRBY', KEYS[1], 'missing', -1)
  if ARGV[6] ~= '' then redis.call('HSETNX', KEYS[1], 'fatal', ARGV[6]) end
  announce(ARGV[1])
end
local ready = tonumber(redis.call('HGET', KEYS[1], 'missing')) <= 0
ready = ready or redis.call('HEXISTS', KEYS[1], 'fatal') == 1 or redis.call('HEXISTS', KEYS[1], 'cancel') == 1
local ours = redis.call('HGET', KEYS[3], step) == ARGV[3]
return {ours and 'ok' or 'done', ready and '1' or '0'}
"""
)
"""KEYS: record, steps, parts, changes. ARGV: job, step, result, field of the record, progress, the error that ends the
sync or nothing. Only the first result counts. Returns whether it was this one, and whether the last step can start."""

STOP = (
    _NOW
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'queued' and status ~= 'running' then return 0 end
redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3])
announce(ARGV[1])
return 1
"""
)
"""KEYS: record, changes. ARGV: job, field (``cancel`` or ``fatal``), value."""

RELEASE = """
if redis.call('HGET', KEYS[1], ARGV[1] .. ':claim') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1] .. ':claim', ARGV[1] .. ':until')
return 1
"""
"""KEYS: steps. ARGV: step, claim."""

SEND = (
    _NOW
    + """
local sent = tonumber(redis.call('HGET', KEYS[1], ARGV[1] .. ':sent') or '0')
if now - sent < tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1] .. ':sent', now)
return 1
"""
)
"""KEYS: steps. ARGV: step, minimum ms since it was last sent. Returns whether only the caller should send it now."""

END = (
    _NOW
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'gone' end
if status ~= 'queued' and status ~= 'running' then return status end
if ARGV[4] == 'queued' and status ~= 'queued' then return status end
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'ended_ms', now, unpack(ARGV, 5))
if redis.call('GET', KEYS[4]) == ARGV[1] then redis.call('DEL', KEYS[4]) end
local lock = redis.call('GET', KEYS[5])
if lock and string.find(lock, '"job:' .. ARGV[1] .. '"', 1, true) then redis.call('DEL', KEYS[5]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], 3600)
redis.call('EXPIRE', KEYS[3], 3600)
announce(ARGV[1])
return 'ok'
"""
)
"""KEYS: record, steps, parts, active, lock, changes. ARGV: job, status, seconds to keep the record, ``queued`` to end
it only if it has not started, field, value, ... The lock of the job is released with it: once it has visibly ended, the
next one can start."""

END_LOST = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
only(KEYS[1], 'zset')
redis.call('HSET', KEYS[2], 'created_ms', now, 'ended_ms', now, unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
announce(ARGV[1])
return 1
"""
)
"""KEYS: index, record, changes. ARGV: job, seconds to keep the record, field, value, ... Records the end of a job whose
record is gone, once."""

ADD_DEAD_LETTER = """
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then redis.call('UNLINK', KEYS[1]) end
if not tonumber(redis.pcall('GET', KEYS[2]) or '0') then redis.call('UNLINK', KEYS[2]) end
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
return redis.call('INCR', KEYS[2])
"""
"""KEYS: dead letters, their count. ARGV: the letter, how many are kept."""

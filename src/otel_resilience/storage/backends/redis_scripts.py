"""The steps of :mod:`otel_resilience.storage.documents` as Lua scripts: one round trip, atomic, on the server's clock.

Each gets a key, the step as JSON and the milliseconds that an unused key lives. A document that cannot be read counts
as empty.
"""

from __future__ import annotations

SERVER_CLOCK = """
local seconds = redis.call('TIME')
local now = tonumber(seconds[1]) + tonumber(seconds[2]) / 1000000
"""
"""Sets ``now``. Clocks of clients play no part."""

_BEGIN = """
local step = cjson.decode(ARGV[1])
local raw = redis.call('GET', KEYS[1])
local readable, doc = pcall(cjson.decode, raw or '{}')
if not readable or type(doc) ~= 'table' then doc = {} end
local function keep() redis.call('SET', KEYS[1], cjson.encode(doc), 'PX', ARGV[2]) end
"""

BREAKER = (
    _BEGIN
    + """
local WIDTH = step.period / 10
doc.generation = doc.generation or 0
doc.state = doc.state or 'closed'
doc.openings = doc.openings or 0
doc.good = doc.good or 0
doc.run = doc.run or 0
doc.leases = doc.leases or {}
doc.run_began = doc.run_began or 0
doc.run_last = doc.run_last or 0
if math.abs((doc.width or 0) - WIDTH) > 1e-9 then doc.width = WIDTH; doc.window = {} end
local moved, granted, stale, expired = false, false, false, 0

local function sum(column)
  local total = 0
  for _, bucket in ipairs(doc.window) do total = total + bucket[column] end
  return total
end

local function bucket()
  local index = math.floor(now / WIDTH)
  local last = doc.window[#doc.window]
  if not last or last[1] < index then
    last = {index, 0, 0, 0}
    table.insert(doc.window, last)
  end
  return last
end

local function add(column, number)
  local last = bucket()
  last[column] = last[column] + number
end

local function forget()
  doc.leases = {}
  doc.good = 0
  doc.run = 0
  if doc.state == 'closed' then doc.window = {} end
end

local function open_left()
  return math.max(0, math.min((doc.open_until or now) - now, doc.open_for or 0))
end

local function enter(target, reason)
  if target == 'open' or target == 'forced_open' then
    if doc.state == 'closed' then doc.opened_at = now end
    doc.openings = doc.openings + 1
  end
  doc.generation = doc.generation + 1
  doc.state = target
  doc.changed_at = now
  doc.reason = reason
  doc.error_type = target == 'open' and step.error_type or ''
  if target == 'closed' then doc.openings = 0 end
  forget()
  moved = true
end

local function open(reason)
  local bound = math.min(step.cap, step.reset_timeout * 2 ^ math.min(doc.openings, 60))
  local open_for = bound / 2 + bound / 2 * step.fraction
  if step.hint then open_for = math.max(open_for, math.min(step.hint, step.max_retry_after)) end
  doc.open_until = now + open_for
  doc.open_for = open_for
  enter('open', reason)
end

local function merge(claim)
  if claim.state == doc.state then
    doc.generation = math.max(doc.generation, claim.generation)
    if claim.state == 'open' and claim.open_left > open_left() then
      doc.open_until = now + claim.open_left
      doc.open_for = claim.open_left
    end
    doc.openings = math.max(doc.openings, claim.openings)
    return
  end
  if doc.changed_at and claim.age >= now - doc.changed_at then
    if claim.generation >= doc.generation then doc.generation = claim.generation + 1 end
    return
  end
  doc.generation = math.max(doc.generation + 1, claim.generation)
  doc.state = claim.state
  doc.changed_at = now - claim.age
  doc.open_until = now + claim.open_left
  doc.open_for = claim.open_left
  doc.openings = claim.openings
  doc.opened_at = now - claim.opened_age
  doc.reason = 'shared'
  doc.error_type = ''
  forget()
end

local function current()
  return doc.state == 'closed' and step.generation == doc.generation
end

local function end_probe()
  local held = doc.leases[step.lease] ~= nil
  doc.leases[step.lease] = nil
  local counts = held or (doc.state == 'half_open' and step.generation == doc.generation)
  stale = not counts
  return counts
end

local function slots_used()
  local used, first = 0, nil
  for _, until_ in pairs(doc.leases) do
    used = used + 1
    if not first or until_ < first then first = until_ end
  end
  return used, first
end

local function tripped()
  local failures = sum(3)
  if step.failure_threshold and failures >= step.failure_threshold then return 'failure_threshold' end
  if step.consecutive_failures and doc.run >= step.consecutive_failures then return 'consecutive_failures' end
  local calls = failures + sum(2)
  if step.failure_rate and calls >= step.minimum_calls and failures >= step.failure_rate * calls then
    return 'failure_rate'
  end
end

local act = {}

function act.look() end

function act.slow()
  if not current() then stale = true return end
  add(4, 1)
  local calls = sum(2) + sum(3)
  if calls >= step.minimum_calls and sum(4) >= step.slow_call_rate * calls then open('slow_call_rate') end
end

function act.fail()
  if step.lease ~= '' then
    if end_probe() then open('probe_failed') end
    return
  end
  if not current() then stale = true return end
  add(3, 1)
  doc.run = doc.run + 1
  doc.run_last = now
  if doc.run == 1 then doc.run_began = now end
  local reason = tripped()
  if reason then open(reason) elseif step.slow then act.slow() end
end

function act.probe()
  if doc.state == 'open' and open_left() <= 0 then enter('half_open', 'open_time_ended') end
  if doc.state ~= 'half_open' then return end
  local used = slots_used()
  if used >= step.slots then
    for lease, until_ in pairs(doc.leases) do
      if until_ <= now then
        doc.leases[lease] = nil
        used = used - 1
        expired = expired + 1
      end
    end
  end
  if used < step.slots then
    doc.leases[step.lease] = now + step.lease_for
    granted = true
  end
end

function act.succeed()
  if not end_probe() then return end
  if step.slow then return open('slow_call_rate') end
  doc.good = doc.good + 1
  if doc.good >= step.slots then enter('closed', 'probe_succeeded') end
end

function act.release() doc.leases[step.lease] = nil end

function act.force_open() if doc.state ~= 'forced_open' then enter('forced_open', 'manual') end end

function act.close() if doc.state ~= 'closed' then enter('closed', 'manual') end end

function act.reset()
  if doc.state ~= 'closed' then return enter('closed', 'manual') end
  doc.generation = doc.generation + 1
  forget()
end

if step.claim then merge(step.claim) end
local first = math.floor(now / WIDTH) - 10
local window = {}
for _, each in ipairs(doc.window) do
  if each[1] > first then table.insert(window, each) end
end
doc.window = window
if step.successes > 0 and current() then
  add(2, step.successes)
  local begun = now - step.success_age
  if begun >= doc.run_last then
    doc.run = 0
  elseif begun >= doc.run_began then
    doc.run = 1
    doc.run_began = doc.run_last
  end
end
act[step.action]()

local used, soonest = slots_used()
local busy_for = 0
if doc.state == 'half_open' and used >= step.slots then
  busy_for = math.max(0, math.min(soonest - now, step.lease_for))
end
local failures, successes = sum(3), sum(2)
if cjson.encode(doc) ~= raw then keep() else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return cjson.encode({
  generation = doc.generation,
  state = doc.state,
  age = doc.changed_at and math.max(0, now - doc.changed_at),
  open_left = doc.state == 'open' and open_left() or 0,
  openings = doc.openings,
  opened_age = math.max(0, now - (doc.opened_at or now)),
  reason = doc.reason or 'shared',
  error_type = doc.error_type or '',
  failures = failures,
  calls = failures + successes,
  slow = sum(4),
  run = doc.run,
  moved = moved,
  granted = granted,
  stale = stale,
  expired = expired,
  busy_for = busy_for,
})
"""
)

BUDGET = (
    _BEGIN
    + """
local tokens = doc.tokens
if not tokens then
  tokens = step.claim or step.capacity
elseif step.claim and step.merge == 'replace' then
  tokens = step.claim
else
  tokens = tokens + math.max(0, math.min(now - doc.at, step.ran)) * step.refill_rate
  if step.claim and step.merge == 'lower' then tokens = math.min(tokens, step.claim) end
end
tokens = math.min(math.max(tokens + step.given, 0), step.capacity)
local granted = step.cost > 0 and tokens >= step.cost
if granted then tokens = tokens - step.cost end
doc.tokens = tokens
doc.at = now
keep()
return cjson.encode({tokens = tokens, granted = granted})
"""
)

PAUSE = (
    _BEGIN
    + """
local left = math.max(0, math.min((doc['until'] or now) - now, doc.seconds or 0))
if step.seconds > left then
  doc['until'] = now + step.seconds
  doc.seconds = step.seconds
  left = step.seconds
  keep()
end
return cjson.encode({left = left})
"""
)

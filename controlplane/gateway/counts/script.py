"""The script that counts in Redis (6 or later), all lines of a request in one step that nothing comes between.

KEYS: the lines. ARGV: what to do, this gateway, the time in seconds (negative: Redis' own), the key of all gateways,
after how many seconds without a beat one is gone; then kind, limit, amount and life in seconds of each line.
Returns what is left and the wait of each line taken, and last the number of gateways.
"""

from __future__ import annotations

SCRIPT = """
local what, me, now, gateways, gone = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
if now < 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1e6
end

local function text(number) return string.format('%.17g', number) end

if what == 'beat' or what == 'leave' then
  if what == 'beat' then redis.call('ZADD', gateways, text(now), me) else redis.call('ZREM', gateways, me) end
  redis.call('ZREMRANGEBYSCORE', gateways, '-inf', text(now - gone))
  return {redis.call('ZCARD', gateways)}
end

local function level(key, limit)
  local kept = redis.call('HMGET', key, 'level', 'at', 'limit')
  if not kept[1] or tonumber(kept[3]) ~= limit then return limit end
  return math.min(limit, tonumber(kept[1]) + math.max(0, now - tonumber(kept[2])) * limit / 60)
end

local function taken(key)
  local places, all = redis.call('HGETALL', key), 0
  for at = 1, #places, 2 do
    local beat = redis.call('ZSCORE', gateways, places[at])
    if places[at] == me or (beat and tonumber(beat) > now - gone) then
      all = all + tonumber(places[at + 1])
    else
      redis.call('HDEL', key, places[at])
    end
  end
  return all
end

local function left_and_wait(key, kind, limit, amount, life)
  if kind == 'rate' then
    local left = level(key, limit)
    return left, math.max(0, (math.min(amount, limit) - left) * 60 / limit)
  elseif kind == 'sum' then
    local used = tonumber(redis.call('GET', key) or '0')
    local fits = used + amount <= limit or (used <= 0 and limit > 0)
    return limit - used, fits and 0 or life
  end
  local left = limit - taken(key)
  return left, left >= 1 and 0 or 1
end

local function add(key, kind, limit, amount, life)
  if kind == 'rate' then
    local left = math.min(limit, level(key, limit) - amount)
    redis.call('HSET', key, 'level', text(left), 'at', text(now), 'limit', text(limit))
    redis.call('EXPIRE', key, math.ceil((limit - left) * 60 / limit) + 60)
  elseif kind == 'sum' then
    redis.call('INCRBYFLOAT', key, text(amount))
    redis.call('EXPIRE', key, life + 86400)
  else
    if redis.call('HINCRBY', key, me, amount) <= 0 then redis.call('HDEL', key, me) end
    redis.call('EXPIRE', key, 86400)
  end
end

local answer, passes = {}, true
for at = 1, #KEYS do
  local kind, limit, amount = ARGV[4 * at + 2], tonumber(ARGV[4 * at + 3]), tonumber(ARGV[4 * at + 4])
  local life = tonumber(ARGV[4 * at + 5])
  if what == 'take' then
    local left, wait = left_and_wait(KEYS[at], kind, limit, amount, life)
    passes = passes and wait <= 0
    answer[2 * at - 1], answer[2 * at] = left, wait
  elseif what == 'settle' then
    add(KEYS[at], kind, limit, kind == 'places' and -1 or amount, life)
  elseif kind == 'sum' then
    add(KEYS[at], kind, limit, amount, life)
  else
    redis.call('HSET', KEYS[at], me, amount)
  end
end
for at = 1, math.floor(#answer / 2) do
  if passes then
    local kind, limit, amount = ARGV[4 * at + 2], tonumber(ARGV[4 * at + 3]), tonumber(ARGV[4 * at + 4])
    add(KEYS[at], kind, limit, amount, tonumber(ARGV[4 * at + 5]))
    answer[2 * at - 1] = answer[2 * at - 1] - amount
  end
  answer[2 * at - 1], answer[2 * at] = text(answer[2 * at - 1]), text(answer[2 * at])
end
answer[#answer + 1] = redis.call('ZCARD', gateways)
return answer
"""

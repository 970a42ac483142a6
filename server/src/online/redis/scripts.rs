//! The scripts that run in Redis. Each looks at everything before its first write, since an error in a script takes nothing
//! back; none reads a clock or a random number.

/// A commit. KEYS: progress, positions and places of the shard, then record and chunks of each record, then, if some record is followed,
/// changes and marks of the shard. ARGV: batch, number of partitions, of records, whether positions are kept; for each partition its
/// field, token, expected state, new value, its name and its next offset as positions have it; for each record the expected stamp (empty: none), the new
/// value (empty: it stays), its name among the changes (empty: nobody follows it), the number of chunks, and for each its field and
/// value (empty: gone).
///
/// Answers: `done`; `moved`, place, stored value; `conflict`, then place and stored value of each record that has changed.
pub const COMMIT: &str = r#"
local batch, partitions, records, positioned = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local at = 5
local done = 0
local moved, found = nil, nil
for i = 1, partitions do
  local stored = redis.call('HGET', KEYS[1], ARGV[at])
  if stored and string.sub(stored, 2, 17) == ARGV[at + 1] and string.sub(stored, 18, 33) == batch then
    done = done + 1
  elseif not moved and (not stored or string.sub(stored, 2, 17) ~= ARGV[at + 1]
      or string.sub(stored, 34, 49) ~= ARGV[at + 2]) then
    moved, found = i - 1, stored
  end
  at = at + 6
end
if done == partitions then return {'done'} end
if moved then return {'moved', moved, found or ''} end
local conflict = {'conflict'}
for i = 1, records do
  local stamp = redis.call('GETRANGE', KEYS[2 + 2 * i], 0, 15)
  if stamp ~= ARGV[at] then
    table.insert(conflict, i - 1)
    table.insert(conflict, redis.call('GET', KEYS[2 + 2 * i]) or '')
  end
  local chunks = tonumber(ARGV[at + 3])
  if chunks > 0 then redis.call('HLEN', KEYS[3 + 2 * i]) end
  at = at + 4 + 2 * chunks
end
if #conflict > 1 then return conflict end
local length, places = 0, {}
if positioned then
  length = redis.call('STRLEN', KEYS[2])
  for i = 1, partitions do places[i] = redis.call('HGET', KEYS[3], ARGV[3 + 6 * i]) end
  if length == 0 then places = {} end
end
local changes, marks, number = KEYS[4 + 2 * records], KEYS[5 + 2 * records], nil
if changes then
  redis.call('HLEN', marks)
  local newest = redis.call('ZRANGE', changes, 0, 0, 'REV', 'WITHSCORES')
  number = tonumber(newest[2] or 0) + 1
end
at = 5 + 6 * partitions
for i = 1, records do
  if ARGV[at + 1] ~= '' then redis.call('SET', KEYS[2 + 2 * i], ARGV[at + 1]) end
  if ARGV[at + 2] ~= '' then redis.call('ZADD', changes, string.format('%.0f', number), ARGV[at + 2]) end
  local chunks = tonumber(ARGV[at + 3])
  at = at + 4
  for _ = 1, chunks do
    if ARGV[at + 1] == '' then
      redis.call('HDEL', KEYS[3 + 2 * i], ARGV[at])
    else
      redis.call('HSET', KEYS[3 + 2 * i], ARGV[at], ARGV[at + 1])
    end
    at = at + 2
  end
end
if number then
  redis.call('HSET', marks, string.format('%.0f', number), batch)
  redis.call('HDEL', marks, string.format('%.0f', number - 4096))
end
if positioned and length == 0 then redis.call('UNLINK', KEYS[3]) end
at = 5
for i = 1, partitions do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 3])
  if places[i] then
    redis.call('SETRANGE', KEYS[2], places[i], ARGV[at + 5])
  elseif positioned then
    redis.call('HSET', KEYS[3], ARGV[at + 4], length + #ARGV[at + 4] + 1)
    length = redis.call('APPEND', KEYS[2], ARGV[at + 4] .. '=' .. ARGV[at + 5] .. '\n')
  end
  at = at + 6
end
return {'done'}
"#;

/// A claim. KEYS: progress and positions of the shard. ARGV: the token, what stands for a partition without progress, the number of tokens (or of
/// their beginnings) that may be replaced (empty: any may), these, and then fields. Answers `done` and what was stored, with the old
/// tokens; or `fenced` and what is stored with a token that may not be replaced; or `leftover` where the shard has records and no
/// progress that would say what is in them. In both of these nothing was changed.
pub const CLAIM: &str = r#"
if redis.call('EXISTS', KEYS[1]) == 0 and redis.call('EXISTS', KEYS[2]) == 1 then return {'leftover'} end
local known = tonumber(ARGV[3]) or 0
local function may_go(stored)
  if ARGV[3] == '' or not stored then return true end
  for i = 4, 3 + known do
    if string.sub(stored, 2, 1 + #ARGV[i]) == ARGV[i] then return true end
  end
  return false
end
local answer = {'done'}
for i = 4 + known, #ARGV do
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  if not may_go(stored) then return {'fenced', stored} end
  table.insert(answer, stored or '')
end
for i = 4 + known, #ARGV do
  local stored = answer[i - 2 - known]
  if stored ~= '' then
    redis.call('HSET', KEYS[1], ARGV[i], string.sub(stored, 1, 1) .. ARGV[1] .. string.sub(stored, 18))
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[2])
  end
end
return answer
"#;

/// Chunks of a record. KEYS: record, chunks. ARGV: the stamp of the record that the caller has, up to how many chunks it wants all of
/// them (0: it does not), then fields. Answers `changed` and the record where it is another one by now; `all` and each chunk behind its field; or
/// `same` and the chunks of the fields.
pub const CHUNKS: &str = r#"
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then
  return {'changed', redis.call('GET', KEYS[1]) or ''}
end
local most = tonumber(ARGV[2])
if most > 0 and redis.call('HLEN', KEYS[2]) <= most then
  local answer = redis.call('HGETALL', KEYS[2])
  table.insert(answer, 1, 'all')
  return answer
end
local answer = {'same'}
for i = 3, #ARGV do
  table.insert(answer, redis.call('HGET', KEYS[2], ARGV[i]) or '')
end
return answer
"#;

/// What has changed in a shard. KEYS: changes and marks of the shard. ARGV: number and name of the commit up to which the caller knows
/// (empty: none). Answers `same` if the shard still knows that commit, else `all`; number and name of the last commit (empty: none);
/// then the names of the records that have changed since, or of all.
pub const CHANGES: &str = r#"
local known, since = false, '-inf'
if ARGV[1] ~= '' and redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then
  known, since = true, '(' .. ARGV[1]
end
local newest = redis.call('ZRANGE', KEYS[1], 0, 0, 'REV', 'WITHSCORES')
local number = newest[2] and string.format('%.0f', tonumber(newest[2])) or ''
local answer = {known and 'same' or 'all', number, redis.call('HGET', KEYS[2], number) or ''}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], since, '+inf', 'BYSCORE')) do
  table.insert(answer, member)
end
return answer
"#;

/// The number of a topic. KEYS: numbers of the topics of a source. ARGV: the topic, the number that is to be replaced (empty: none),
/// the id that brokers give the topic (empty: not known), and all topics of the source. Numbers are given out in the order of the
/// definition, and never again. Answers the number, and the id of the topic that got it.
pub const TOPIC: &str = r#"
local function give(topic)
  local number = redis.call('HINCRBY', KEYS[1], '', 1) - 1
  redis.call('HSET', KEYS[1], topic, number)
end
for i = 4, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then give(ARGV[i]) end
end
local id = ARGV[1] .. '#id'
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  give(ARGV[1])
  redis.call('HDEL', KEYS[1], id)
end
if ARGV[3] ~= '' then redis.call('HSETNX', KEYS[1], id, ARGV[3]) end
return {tonumber(redis.call('HGET', KEYS[1], ARGV[1])), redis.call('HGET', KEYS[1], id) or ''}
"#;

/// Forgets keys of a shard that has no progress. KEYS: progress of the shard, then what is to be forgotten, its positions last of
/// all: as long as they are there, nobody begins with the shard. Answers how many that were; none if somebody has begun with the
/// shard, and what it has is theirs.
pub const FORGET: &str = r#"
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local gone = 0
for i = 2, #KEYS do gone = gone + redis.call('UNLINK', KEYS[i]) end
return gone
"#;

/// Tries what the other scripts do, on a key of its own that goes again. KEYS: it.
pub const PROBE: &str = r#"
redis.call('SET', KEYS[1], '')
redis.call('GETRANGE', KEYS[1], 0, 15)
redis.call('GET', KEYS[1])
redis.call('APPEND', KEYS[1], 'a')
redis.call('SETRANGE', KEYS[1], 0, 'b')
redis.call('STRLEN', KEYS[1])
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'a', 'b')
redis.call('HGET', KEYS[1], 'a')
redis.call('HLEN', KEYS[1])
redis.call('HDEL', KEYS[1], 'a')
redis.call('ZADD', KEYS[1], 1, 'a')
redis.call('ZRANGE', KEYS[1], 0, 0)
redis.call('UNLINK', KEYS[1])
return redis.call('EXISTS', KEYS[1])
"#;

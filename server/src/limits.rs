//! Every limit of the process, each with its reason.

use std::time::Duration;

/// Rows that go through decode, apply and publish together: readers wait for the publishing of at most this many events.
pub const BATCH_ROWS: usize = 1024;
/// Bytes of one event as it is sent. Larger ones are dead letters: a feature reads columns, not documents.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// Bytes that a dead letter keeps of its event.
pub const DEAD_LETTER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one gRPC message that is received, and of an HTTP body.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Rows of one push: bounds the memory of its decoded form.
pub const PUSH_ROWS_MAX: usize = 100_000;
/// Keys of one Get: with 5,000 features an answer stays below what a client can take in.
pub const GET_KEYS_MAX: usize = 10_000;
/// Cells (keys times features) of one Get.
pub const GET_CELLS_MAX: usize = 5_000_000;
/// Names that a request may list.
pub const GET_FEATURES_MAX: usize = 5_000;
/// Pushes that wait for the log; each is at most `MESSAGE_BYTES_MAX`. A full queue makes callers wait, then fail.
pub const PUSH_QUEUE: usize = 64;
/// How long a push waits for a place in the queue before it is refused.
pub const PUSH_WAIT: Duration = Duration::from_secs(5);
/// Rows of a file that go into the log together: enough for one fsync to pay off, few enough that a push behind them waits some
/// ten milliseconds.
pub const FEED_ROWS: u64 = 8 * 1024;
/// Bytes of the same, about: wide rows come in smaller chunks.
pub const FEED_BYTES: usize = 8 << 20;
/// Files of one source's history: each is a partition, and answers name the position of each.
pub const HISTORY_FILES_MAX: usize = 10_000;
/// How often it is said how far a history is loaded.
pub const HISTORY_SAYS_EVERY: Duration = Duration::from_secs(5);
/// Bytes of records of one source that wait undecoded, in KiB: what a slow disk makes the client library hold.
pub const KAFKA_QUEUED_KBYTES: usize = 64 * 1024;
/// Bytes that a broker sends at once.
pub const KAFKA_FETCH_BYTES: usize = 16 << 20;
/// Chunks of records of one source that wait for the log: while one is written the next are decoded, and pushes of others still
/// find room in the queue.
pub const KAFKA_CHUNKS_IN_FLIGHT: usize = 8;
/// How long a broker may take to answer a question.
pub const KAFKA_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a bad event may take into its topic before it is tried again.
pub const KAFKA_DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often topics are looked at for new partitions.
pub const KAFKA_LOOK_EVERY: Duration = Duration::from_secs(3);
/// How often it is written down how records of a topic look, and told how far reading is.
pub const KAFKA_NOTE_EVERY: Duration = Duration::from_secs(2);
/// Records of a partition by which its topic is recognised: some of them outlive compaction and truncation.
pub const KAFKA_FINGERPRINTS: usize = 6;
/// Longest pause between two tries to reach brokers.
pub const KAFKA_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Bytes of keys of changed entities that wait for a sink, and of those that wait for their time, each: some hundred thousand keys.
/// Of more it is only known where they are in the log, and the sink goes on from there.
pub const SINK_KEYS_BYTES: usize = 16 << 20;
/// Bytes that a key takes besides its own, about: its length, its place in a table.
pub const SINK_KEY_OVERHEAD: usize = 48;
/// Entities whose values a sink reads at once: the writer waits for some hundred microseconds.
pub const SINK_READ_KEYS: usize = 256;
/// Entities of one round of a sink that sends all of them, about: a crash repeats one round.
pub const SINK_FILL_KEYS: usize = 4_096;
/// Bytes of messages of one sink that are under way, in KiB: what brokers that are away make the client library hold.
pub const SINK_QUEUE_KBYTES: usize = 32 * 1024;
/// How often it is written down how far a sink is: after a crash about so much is sent again.
pub const SINK_NOTE_EVERY: Duration = Duration::from_secs(1);
/// Microseconds by which an event may be dated ahead for a sink to wait for its time; `max_future_skew` is mostly minutes. With
/// arrivals that are declared it may be dated years ahead.
pub const SINK_AHEAD_MAX: i64 = 3_600_000_000;
/// How long nothing may be acknowledged until a sink says that it waits.
pub const SINK_SILENT: Duration = Duration::from_secs(2);
/// Durable batches that wait to be applied.
pub const APPLY_QUEUE: usize = 64;
/// Pushes of one stream that are under way at once.
pub const STREAM_IN_FLIGHT: usize = 16;
/// Bytes after which the log starts a new segment: small enough to read at once, large enough for few files.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes of the log that are sorted and sealed at once: bounds the memory that sealing and reading what is sealed take, some
/// five times as much. A segment is mostly below.
pub const SEAL_PIECE_BYTES: u64 = 128 << 20;
/// Adjacent pieces of about the same size that are worth to be made one. Each step makes pieces so many times as large, so an
/// event is written again once for each power of it.
pub const COMPACT_PIECES: usize = 4;
/// Most of them at once: bounds the files that are open, and the work that is lost when the process ends in the middle.
pub const COMPACT_PIECES_MAX: usize = 16;
/// Bytes of the log that one piece has at most after compaction. A walk over frames reads it in slices of `SEAL_PIECE_BYTES`,
/// and looks through all of it for each: at most four times.
pub const COMPACTED_BYTES: u64 = 512 << 20;
/// Compaction leaves at least so many pieces of a log whose size is limited: retention cuts whole pieces, and so keeps it
/// within a few percent of what was asked for.
pub const KEPT_PIECES: u64 = 16;
/// Rows of each input that a merge holds at once.
pub const MERGE_ROWS: usize = 4096;
/// Pause between two looks at whether retention has something to do.
pub const RETENTION_EVERY: Duration = Duration::from_secs(2);
/// Rows after which a sealed file begins a new row group, at the next bucket: small enough that one of 32 ranges of buckets
/// touches a few, large enough to compress.
pub const SEALED_GROUP_ROWS: usize = 1 << 16;
/// Rows that a scan of the log hands over at once.
pub const SCAN_ROWS: usize = 8192;
/// Pause before sealing is tried again that failed.
pub const SEAL_RETRY: Duration = Duration::from_secs(60);
/// Bytes of one frame of the log, above what the limits of a push can make of it; larger claims are damage.
pub const FRAME_BYTES_MAX: usize = 1 << 30;
/// Bytes that the dead letters of one push keep of their events; later ones keep the reason only.
pub const DEAD_LETTERS_BYTES_MAX: usize = 32 << 20;
/// Bytes of decoded events that reads of the past keep in memory.
pub const HISTORY_CACHE_BYTES: usize = 512 << 20;
/// Reads of the log of one request that are made one by one, each over the decoded events that are in memory; more are made
/// together, by one walk over the log, which takes as long as some fifteen of them (measured on the flights).
pub const LOG_READS_APART: usize = 8;
/// Events of the log that one explanation lists; the totals say how many more there are.
pub const EXPLAIN_EVENTS_MAX: usize = 1_000;
/// How long state may wait for the disk; after a crash this much is replayed from the log. A record that changes again meanwhile is
/// written once.
pub const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Shards of a data directory, fixed when it is made: units of ownership once several processes share the work.
pub const SHARDS: usize = 256;
/// Requests under way on one connection.
pub const STREAMS_PER_CONNECTION: u32 = 256;
/// Requests under way in the process; more are refused at once, so that those accepted stay fast.
pub const REQUESTS_MAX: usize = 4_096;
/// Connections; each costs some 10 kB.
pub const CONNECTIONS_MAX: usize = 10_000;
/// How long a request may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long open requests may go on when the server stops.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Idle connections are asked for a sign of life after this long, so that half-open ones go away.
pub const KEEPALIVE: Duration = Duration::from_secs(30);
/// Bytes of HTTP/2 headers of a request.
pub const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Files of a project's definitions, and bytes of one.
pub const DEFINITION_FILES_MAX: usize = 1_000;
/// Bytes of one definition file.
pub const DEFINITION_BYTES_MAX: u64 = 4 << 20;
/// Events that a thread of a replay holds at once, about: more of a view are read some buckets of keys at a time.
pub const REPLAY_EVENTS: u64 = 1 << 19;
/// Bytes of gathered events of one view that a replay holds in memory before it writes them to temporary files.
pub const PILE_BYTES: usize = 256 << 20;
/// Bytes of a joined table's rows in a replay: events see rows of any key, so all of them are in memory.
pub const TABLE_BYTES_MAX: usize = 2 << 30;
/// Values that a replay holds at once, each some 64 bytes: a spine with more is read part by part, with a walk over the log for
/// each.
pub const REPLAY_CELLS: usize = 8_000_000;
/// Spine rows that are read at once.
pub const REPLAY_ROWS_MAX: usize = 2_000_000;
/// Exports, snapshots and histories under way at once; each uses all cores.
pub const JOBS_MAX: usize = 2;
/// Answers that wait to be kept for verification; more at once are left out.
pub const SAMPLE_QUEUE: usize = 4_096;
/// Bytes of one file of kept answers, and how many files there are: with 1 kB an answer some 64,000 of them.
pub const SAMPLE_SEGMENT_BYTES: usize = 16 << 20;
/// Files of kept answers.
pub const SAMPLE_SEGMENTS: usize = 4;
/// Differences that one verification shows; the total says how many more there are.
pub const VERIFY_DIFFERENCES_MAX: usize = 100;
/// Differences of one verification that are explained: each takes a look at all events of its entity.
pub const VERIFY_EXPLAINED_MAX: usize = 5;
/// Answers that the verification in the background recomputes by one walk over the log. A walk costs about the same for one
/// as for many, and what is gathered for so many stays well below a job's memory.
pub const TRICKLE_ANSWERS: usize = 10_000;
/// Least pause of the verification in the background: answers gather meanwhile, so that a short log is not walked all the time.
pub const TRICKLE_PAUSE: Duration = Duration::from_secs(1);
/// Pause before it is tried again after an error, such as damage of the log.
pub const TRICKLE_RETRY: Duration = Duration::from_secs(60);
/// Longest pause: a clock that jumped ahead must not stop it for good.
pub const TRICKLE_PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// Rows of a spine that are read at once: enough for columns to pay off, few enough to stay in the processor's caches.
pub const SPINE_ROWS_MAX: usize = 64 * 1024;
/// Bytes of a spine that are read at once, about: wide rows come in smaller batches.
pub const SPINE_BATCH_BYTES: usize = 64 << 20;
/// Bytes of one row of a CSV or NDJSON spine. A quote that is never closed would else read the rest of the file as one cell.
pub const SPINE_ROW_BYTES_MAX: usize = 16 << 20;
/// Columns of a spine. An NDJSON file that uses values as names would else have one for each row.
pub const SPINE_COLUMNS_MAX: usize = 10_000;
/// Rows of a row group of a training set: enough for dictionaries and pages to pay off, and what a reader skips or takes.
pub const EXPORT_GROUP_ROWS: usize = 128 * 1024;
/// Rows of one file of a training set: some gigabytes at most, so that readers share the work by files.
pub const EXPORT_FILE_ROWS: u64 = 4 << 20;
/// Bytes of rows that wait for their row groups to be whole, over all files; beyond it the largest is written as it is.
pub const EXPORT_BUFFER_BYTES: usize = 128 << 20;
/// Files of a training set that are open at once: a process may usually have 1,024, and the server needs its own.
pub const EXPORT_FILES_OPEN: usize = 256;
/// Events that are folded into records at once where state is derived from the log: the more, the fewer copies of records, until
/// they do not fit into the processor's caches any more.
pub const ROUND_EVENTS: usize = 1 << 16;
/// Bytes of decoded events of one such round; three of them are in memory.
pub const ROUND_BYTES: usize = 64 << 20;
/// Share of a segment: where less of the log than that is missing in a view that is new, the server applies it before it answers
/// anything, some half a second with segments of the usual size. A longer stretch is built while everything else serves.
pub const BUILD_AT_START_SHARE: u64 = 4;
/// Bytes of changed records that a build holds back from the disk: bounds the memory of one commit.
pub const BUILD_COMMIT_BYTES: u64 = 256 << 20;
/// A build commits no more often than this; what a kill takes away is done again.
pub const BUILD_COMMIT_EVERY: Duration = Duration::from_millis(250);
/// A build goes on for so many times as long as its last commit took before it commits again: so commits take a tenth of it.
pub const BUILD_COMMIT_REST: u32 = 9;
/// Events that the applier folds in when a view is switched in, while pushes wait: some milliseconds.
pub const HANDOVER_EVENTS: u64 = 16 * 1024;
/// How often a build runs after the applier before it hands over however much is missing: events come in faster than it builds.
pub const BUILD_PASSES_MAX: usize = 20;
/// Back-fills that wait; they are done one after the other.
pub const BUILDS_WAITING: usize = 16;
/// Versions of a view that are kept besides the one in force: a rollback goes back one, seldom two, and each costs the disk as much
/// as the view.
pub const VERSIONS_KEPT: usize = 2;
/// How long a connection to an object store may take to come about.
pub const OBJECT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request to an object store may take, its bytes included: a part at a quarter of a megabyte a second.
pub const OBJECT_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request to an object store is tried again, with pauses that double from a tenth of a second on.
pub const OBJECT_RETRIES: usize = 4;
/// Longest pause between two tries.
pub const OBJECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// No request is tried again after this long: whoever waits should hear of it.
pub const OBJECT_RETRY_TIME: Duration = Duration::from_secs(30);
/// Bytes of an object that one request carries; longer objects go in parts. S3 takes parts from 5 MiB on, and at most 10,000.
pub const OBJECT_PART_BYTES: usize = 16 << 20;
/// Objects that one list may have: their names are in memory together.
pub const OBJECTS_LISTED_MAX: usize = 1_000_000;
/// Bytes of a spine in an object store. It is fetched whole into the data directory before it is read, beside the event log.
pub const SPINE_OBJECT_BYTES_MAX: u64 = 32 << 30;
/// Bytes of a history's file in an object store, for the same reason; one at a time is here.
pub const HISTORY_FILE_BYTES_MAX: u64 = 32 << 30;
/// Bytes of a manifest in an object store: that of a log of a hundred terabytes, some kilobyte for each 64 MB.
pub const MANIFEST_OBJECT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of archived files of the event log that stay on this machine: a disk's worth of reads without the network.
pub const ARCHIVE_CACHE_BYTES: u64 = 10 << 30;
/// Bytes of a file beside the log in its archive: the names of the files of a source.
pub const COMPANION_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a spine that is sent: it lies in a temporary file while its features are read.
pub const HISTORY_SPINE_BYTES_MAX: u64 = 64 << 30;
/// Bytes of one message of a history's answer: most clients take no more than 4 MB at once.
pub const HISTORY_CHUNK_BYTES: usize = 1 << 20;
/// How long a job waits for a caller who neither sends nor takes anything. It has one of few places.
pub const CALLER_IDLE: Duration = Duration::from_secs(60);
/// Bytes of the header of one message of an Arrow stream: 10,000 columns with long names take some 2 MB.
pub const ARROW_HEADER_BYTES_MAX: usize = 16 << 20;
/// Bytes of the body of one message of an Arrow stream: a record batch is in memory as a whole.
pub const ARROW_BODY_BYTES_MAX: usize = 256 << 20;
/// Bytes of all dictionaries of an Arrow stream, which stay in memory as long as it is read.
pub const ARROW_DICTIONARY_BYTES_MAX: usize = 256 << 20;
/// Bytes of a message's schema with all that it refers to. Those of a thousand fields with their documents take some 300 kB.
pub const SCHEMA_BYTES_MAX: usize = 4 << 20;
/// How deep the values of a message are nested at most, where the schema itself sets no end (lists of a type of itself).
pub const MESSAGE_DEPTH_MAX: usize = 64;
/// Schemas of one source that are ready to read messages with. A topic has as many as its producers have versions; beyond this the
/// oldest is fetched anew.
pub const LAYOUTS_MAX: usize = 1_000;
/// How long a registry's answer counts that it has no schema of a number, in microseconds: its copies are seconds behind at most,
/// and a flood of such messages must not become a flood of requests.
pub const UNKNOWN_SCHEMA_MICROS: i64 = 10_000_000;
/// How long a connection to a schema registry may take to come about.
pub const REGISTRY_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one request to a schema registry may take: a schema is small, and its source waits.
pub const REGISTRY_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often each address of a schema registry is asked before whoever waits is told that it is away, and asks again.
pub const REGISTRY_TRIES: usize = 4;
/// Unknown numbers at one time beyond which a registry's first word is believed: each of them would hold its source up for all the
/// tries.
pub const UNKNOWN_SCHEMAS_PATIENCE: usize = 20;
/// Schemas that are kept as they were registered: messages of several kinds come from one.
pub const SCHEMAS_KEPT: usize = 8;
/// Longest pause between two tries.
pub const REGISTRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Schemas that one schema refers to, directly or not: each is a request.
pub const REGISTRY_REFERENCES_MAX: usize = 200;
/// Bytes of keys and request values of the spine rows that are read at once. Dictionaries can make small files large.
pub const REPLAY_KEY_BYTES: usize = 512 << 20;
/// How long a connection to Redis may take: a second is far beyond what a network in one place takes.
pub const REDIS_CONNECT: Duration = Duration::from_secs(2);
/// How long a new connection to a cluster may take that replaces one which does not answer, with the question for its nodes: the
/// next time-out begins another.
pub const REDIS_REPLACE: Duration = Duration::from_secs(10);
/// A timer that is set again and again beside a connection: sooner than answers time out, and too seldom to cost anything.
pub const REDIS_TICK: Duration = Duration::from_millis(250);
/// Pause before something is tried again that Redis did not do; it doubles each time.
pub const REDIS_RETRY_MIN: Duration = Duration::from_millis(20);
/// And becomes no longer than this: what waits for Redis shall go on soon after it is back.
pub const REDIS_RETRY_MAX: Duration = Duration::from_secs(1);
/// Names that Redis looks at in one step of a scan: it answers nobody else meanwhile.
pub const REDIS_SCAN_COUNT: usize = 1000;
/// Keys of one MGET, for the same reason; and of so many records of some 25 kB a network carries the answer in time.
pub const REDIS_MGET_KEYS: usize = 64;
/// MGETs of one request that are under way at once: the time-out of an answer must be enough for all of them.
pub const REDIS_MGETS: usize = 8;
/// Bytes of records and chunks that one read fetches from a shared store: several reads must fit into memory.
pub const SHARED_FETCH_BYTES: u64 = 256 << 20;
/// Pieces of progress that are asked for in one command: some 60 kB of answer.
pub const REDIS_FIELDS: usize = 512;
/// Such commands that are under way at once.
pub const REDIS_LOOKS: usize = 64;
/// Shards that are asked for everything at once: with thousands of partitions each answers with megabytes.
pub const REDIS_LOOKS_AT_ALL: usize = 8;
/// Keys that one script forgets, for the same reason as of an MGET.
pub const REDIS_FORGET_KEYS: usize = 512;
/// Records of one commit in Redis. Each may have chunks beside it, so this is 64 keys, which take some 0.5 ms.
pub const SHARED_COMMIT_RECORDS: usize = 32;
/// Commits in Redis that are under way at once: enough to fill the connection, few enough that one that fails is found soon.
pub const SHARED_COMMITS_IN_FLIGHT: usize = 64;
/// Events that are applied to a shared store together: the more, the fewer commits; the fewer, the sooner they can be read.
pub const SHARED_ROUND_EVENTS: usize = 8 * 1024;
/// Bytes of records that an ingest process keeps of a shared store. What is not there is read again.
pub const SHARED_CACHE_BYTES: usize = 512 << 20;
/// How often it is looked whether a shared store has gone back in time: reads may be that much older than they say.
pub const SHARED_SWEEP: Duration = Duration::from_secs(1);
/// Partitions whose progress in all shards one sweep looks at: some 2 MB of answers. Of more, a sweep looks at the next of them.
pub const SWEEP_PARTITIONS: usize = 64;
/// How often shards without events are told how far their partitions are: a start replays about that much.
pub const SHARED_BARRIER: Duration = Duration::from_secs(2);
/// Bytes that something in this cache takes besides its own, about: keys, lengths, places in tables.
pub const SHARED_CACHE_OVERHEAD: usize = 96;
/// Tokens that a process remembers to have had for a partition: a store that went back in time may show one of them.
pub const OLDER_TOKENS: usize = 64;
/// Starts of processes on one data directory that are remembered: a store that went back in time may show what one of them left.
pub const OWNERS_KEPT: usize = 1000;
/// Fetches of one read: tables, lookups, each behind the other, and chunks of ladders. More are only needed where records change
/// all the time while they are read.
pub const SHARED_FETCHES: usize = 24;
/// How often a read of one shard is begun anew because the shard was written meanwhile, until the positions are not exact.
pub const SHARED_EXACT_TRIES: usize = 3;
/// How often a process that does not own everything looks at what all have done: reads of many shards and `status` say at most
/// what was there then.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// How long a commit waits for the pass over all shards that is under way, before its vectors are left to the next one.
pub const FOLLOW_PATIENCE: Duration = Duration::from_millis(500);
/// Partitions whose progress in all shards it looks at twice a second. Where there are more, it looks at their homes as often, and at
/// everything less often by as much, so that following costs the same.
pub const FOLLOW_PARTITIONS: usize = 16;
/// But no less often than this: sums over all shards in `status` are that old.
pub const FOLLOW_ALL_EVERY: Duration = Duration::from_secs(60);
/// Microseconds after which a process that has said nothing counts as gone.
pub const MEMBER_SILENT: i64 = 10_000_000;
/// Microseconds after which it is forgotten, even if nobody has taken over its partitions: they may be those of a topic that is
/// gone. Until then what it read last counts, since nobody goes on with it.
pub const MEMBER_FORGOTTEN: i64 = 86_400_000_000;
/// Components of a vector: the longest that models give have some 4,000, and an int8 sum over more would need 64 bits.
pub const VECTOR_DIMS_MAX: usize = 8_192;
/// Size of a component: squares of it, summed over all components, stay within f32.
pub const VECTOR_COMPONENT_MAX: f32 = 1e15;
/// Bytes of a key in an index: an entity's key of 64 KiB of which each byte is a zero that takes two, and up to 16 columns that are
/// numbers of full width there.
pub const VECTOR_KEY_BYTES_MAX: usize = 2 * 64 * 1024 + 16 * 16;
/// Vectors of one sealed segment: a row's number and two marks share 32 bits.
pub const VECTOR_ROWS_MAX: usize = 1 << 30;
/// Bytes of vectors that a scan reads from a file at once: many rows for one call, and a buffer that stays in the caches.
pub const VECTOR_READ_BYTES: usize = 256 * 1024;
/// Bytes of vectors that are unpacked at once: they stay in the nearest cache until they are compared.
pub const VECTOR_UNPACK_BYTES: usize = 16 * 1024;
/// Bytes between two vectors of a file that are read along with them: copying a page costs half of what a call does.
pub const VECTOR_GAP_BYTES: usize = 4 * 1024;
/// Neighbours that one search may ask for: some megabytes of keys.
pub const SEARCH_K_MAX: usize = 10_000;
/// Candidates that a search may keep: beyond it a scan is faster, and exact.
pub const SEARCH_EF_MAX: usize = 20_000;
/// Candidates that a search keeps at least which does not say how many: fewer save little.
pub const EF_UNSAID_MIN: usize = 32;
/// And at most: sets of vectors of which even so many do not find nearly all are searched for half a millisecond or so, and
/// whoever wants more of them says so.
pub const EF_UNSAID_MAX: usize = 1_024;
/// Searches that read the records of whole collections at once: each holds all vectors of one.
pub const SEARCH_SCANS_MAX: usize = 2;
/// Keys that a search may leave out.
pub const SEARCH_EXCLUDED_MAX: usize = 10_000;
/// Neighbours of a node, twice as many at the bottom: more cost memory and bring nothing.
pub const GRAPH_M_MAX: usize = 128;
/// Candidates while a graph is built.
pub const GRAPH_EF_CONSTRUCTION_MAX: usize = 4_096;
/// Vectors written lately are scanned, before they are sealed into a segment with a graph: at most one for so many that there are,
/// since a search of few takes little time, and so does copying them into a new segment.
pub const FRESH_SHARE: usize = 32;
/// But in any case so many: scanning them takes a few microseconds.
pub const FRESH_ROWS_MIN: usize = 256;
/// And no more: scanning them takes about as long as a search of a graph.
pub const FRESH_ROWS_MAX: usize = 8_192;
/// Vectors of one chunk of the fresh segment: a write copies the last chunk, so that a search never waits for a write.
pub const FRESH_CHUNK_ROWS: usize = 64;
/// Share of dead vectors beyond which a segment is built anew: they cost memory and make a search look further.
pub const DEAD_PERCENT: usize = 20;
/// Rows that are put into an index together: a search of the same collection waits for them.
pub const COLLECTION_WRITE_ROWS: usize = 1024;
/// Entities whose vectors each search reads from the log, beside the index: their records cannot tell, because an event is dated
/// years ahead. Beyond that the search reads all records.
pub const COLLECTION_BEYOND_MAX: usize = 64;
/// Rounds of what has come to stand that a search waits for, beside a shared store: more come while they are read.
pub const SETTLE_ROUNDS: usize = 64;
/// How long a graph is kept in memory alone, once a file has an earlier one: the file only spares the next start some work.
pub const INDEX_KEPT_EVERY: Duration = Duration::from_secs(300);
/// Microseconds after which an index that has not heard of its shared store is not searched: others may have written since, and
/// what they have pushed is to be found within a second.
pub const FOLLOW_LATE: i64 = 3_000_000;
/// Shards of which is asked at once what has changed in them: their answers wait in memory.
pub const FOLLOW_SHARDS_AT_ONCE: usize = 16;
/// How often it is looked whether an index is to be sealed or built anew.
pub const UPKEEP_EVERY: Duration = Duration::from_millis(100);
/// Pause between two looks for a search that is answered once more, to count what it has missed.
pub const RECALL_PAUSE: Duration = Duration::from_millis(200);
/// How many times as long as that took is waited then: a fiftieth of a core.
pub const RECALL_SHARE: u32 = 50;
/// Queries of one search.
pub const SEARCH_QUERIES_MAX: usize = 1_000;
/// Neighbours of all queries of one search together: some megabytes of keys and attributes.
pub const SEARCH_HITS_MAX: usize = 100_000;
/// Entities whose vectors are read together where a search goes through records: an answer's memory at a time.
pub const SEARCH_READ_ROWS: usize = 1_000;
/// Fetches of single chunks of one record in one read; the next one fetches all of them, where there are few. Edges of windows need
/// one for each level of a ladder; a read that looks at one event after the other needs all.
pub const CHUNKS_APART: usize = 3;
/// The same of a record of more chunks than `CHUNKS_AT_ONCE`: a ladder has at most 16 levels, and all of a hot key's chunks are
/// tens of megabytes.
pub const LONG_CHUNKS_APART: usize = 17;
/// Chunks of one record that are fetched together although they were not asked for: about a megabyte.
pub const CHUNKS_AT_ONCE: usize = 256;

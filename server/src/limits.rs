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
/// Durable batches that wait to be applied.
pub const APPLY_QUEUE: usize = 64;
/// Pushes of one stream that are under way at once.
pub const STREAM_IN_FLIGHT: usize = 16;
/// Bytes after which the log starts a new segment: small enough to read at once, large enough for few files.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes of the log that are sorted and sealed at once: bounds the memory that sealing and reading what is sealed take, some
/// five times as much. A segment is mostly below.
pub const SEAL_PIECE_BYTES: u64 = 128 << 20;
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
/// Events of the log that one explanation lists; the totals say how many more there are.
pub const EXPLAIN_EVENTS_MAX: usize = 1_000;
/// How long state may wait for the disk; after a crash this much is replayed from the log.
pub const FLUSH_EVERY: Duration = Duration::from_millis(250);
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
/// Buckets that a replay cuts the keys of a view into; the events of one bucket and thread are in memory at once.
pub const PILE_BUCKETS: usize = 256;
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
/// Bytes of a manifest in an object store: that of a log of a hundred terabytes, some kilobyte for each 64 MB.
pub const MANIFEST_OBJECT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of archived files of the event log that stay on this machine: a disk's worth of reads without the network.
pub const ARCHIVE_CACHE_BYTES: u64 = 10 << 30;
/// Bytes of a file beside the log in its archive: the names of the files of a source.
pub const COMPANION_BYTES_MAX: u64 = 256 << 20;

//! Topics: made, grown, trimmed, removed.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::Offset;

use super::Kafka;

/// How long the broker may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl Kafka {
    /// Makes a topic, with settings of its own (`cleanup.policy`, `retention.ms`, …), and waits until clients see all of it.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let replicas = i32::try_from(self.addresses.len().min(3)).expect("at most three");
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        for (setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let made = block_on(self.admin().create_topics([&topic], &options())).expect("the broker answers");
        made.into_iter().for_each(|made| drop(made.unwrap_or_else(|e| panic!("topic {} is not made: {}", e.0, e.1))));
        self.wait_for("the new topic", || self.partitions(name) == partitions);
    }

    /// Makes a topic anew, of a name that another one has: that one goes first. It waits until the new partitions are there and
    /// empty, since the first records could still go into the old ones and be gone with them. So nobody may write meanwhile.
    pub fn make_anew(&self, name: &str, partitions: i32) {
        self.delete_topic(name);
        self.create_topic(name, partitions, &[]);
        let is_empty = |partition| {
            let ends = self.admin().inner().fetch_watermarks(name, partition, PATIENCE);
            ends.is_ok_and(|ends| ends == (0, 0))
        };
        self.wait_for("empty partitions", || (0..partitions).all(is_empty));
    }

    /// Grows a topic to so many partitions.
    pub fn add_partitions(&self, name: &str, partitions: i32) {
        let count = usize::try_from(partitions).expect("a count");
        let grown = NewPartitions::new(name, count);
        let grown = block_on(self.admin().create_partitions([&grown], &options())).expect("the broker answers");
        grown.into_iter().for_each(|grown| drop(grown.unwrap_or_else(|e| panic!("{} does not grow: {}", e.0, e.1))));
        self.wait_for("the new partitions", || self.partitions(name) == partitions);
    }

    /// Removes a topic and waits until it is gone, so that the name can be used again.
    pub fn delete_topic(&self, name: &str) {
        let gone = block_on(self.admin().delete_topics(&[name], &options())).expect("the broker answers");
        gone.into_iter().for_each(|gone| drop(gone.unwrap_or_else(|e| panic!("topic {} stays: {}", e.0, e.1))));
        self.wait_for("the end of a topic", || self.partitions(name) == 0);
    }

    /// Removes all records of a partition before an offset, as retention would.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("a good offset");
        let deleted = block_on(self.admin().delete_records(&list, &options())).expect("the broker answers");
        deleted.elements().iter().for_each(|element| element.error().expect("the records go"));
    }

    /// Changes settings of a topic; the others fall back to the broker's.
    pub fn configure_topic(&self, name: &str, settings: &[(&str, &str)]) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(name));
        let change = settings.iter().fold(change, |change, (setting, value)| change.set(setting, value));
        let changed = block_on(self.admin().alter_configs([&change], &options())).expect("the broker answers");
        changed.into_iter().for_each(|changed| drop(changed.unwrap_or_else(|e| panic!("{:?} stays: {}", e.0, e.1))));
    }

    /// How many partitions a topic has that clients can use; 0: there is no such topic.
    pub fn partitions(&self, name: &str) -> i32 {
        let metadata = self.admin().inner().fetch_metadata(Some(name), PATIENCE).expect("the broker answers");
        let usable = metadata.topics().iter().filter(|topic| topic.name() == name && topic.error().is_none());
        let partitions = usable.flat_map(|topic| topic.partitions()).filter(|p| p.error().is_none() && p.leader() >= 0);
        i32::try_from(partitions.count()).expect("a count")
    }

    /// The first offset that a partition has, and the one after its last.
    pub fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        self.admin().inner().fetch_watermarks(topic, partition, PATIENCE).expect("the broker answers")
    }

    fn admin(&self) -> &AdminClient<DefaultClientContext> {
        self.admin.get_or_init(|| self.client().create().expect("good settings"))
    }

    fn wait_for(&self, what: &str, ready: impl Fn() -> bool) {
        for _ in 0..3000 {
            if ready() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("Kafka takes more than a minute for {what}");
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// The thread that waits for an answer. A runtime would do, but not inside of another one, and tests call from everywhere.
struct Waiting(Thread);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The client's own thread completes what is waited for.
fn block_on<F: Future>(answer: F) -> F::Output {
    let mut answer = pin!(answer);
    let waker = Waker::from(Arc::new(Waiting(std::thread::current())));
    loop {
        match answer.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

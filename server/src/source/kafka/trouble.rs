//! What is wrong with Kafka, by what to do about it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// try again, after a pause: brokers are away, or somebody has to change something there
    #[error("{0}")]
    Retry(String),
    /// what is read may not be what was read before: compare the topic with what is known of it before anything else is taken
    #[error("{0}")]
    Doubt(String),
}

impl Trouble {
    /// Of an error of the client library. `brokers` and what the library said last go into the message.
    pub(super) fn of(error: &KafkaError, what: &str, brokers: &str, said: Option<String>) -> Trouble {
        let code = error.rdkafka_error_code();
        let cause = match code {
            Some(code) => plain(code),
            None => error.to_string(),
        };
        let said = said.filter(|_| is_connection(code)).map(|said| format!(" ({said})")).unwrap_or_default();
        let message = format!("{what} at {brokers}: {cause}{said}");
        match code {
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicId
                | RDKafkaErrorCode::LogTruncation,
            ) => Trouble::Doubt(message),
            _ => Trouble::Retry(message),
        }
    }
}

fn is_connection(code: Option<RDKafkaErrorCode>) -> bool {
    matches!(
        code,
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::OperationTimedOut
        )
    )
}

/// An error in words that say what to do.
fn plain(code: RDKafkaErrorCode) -> String {
    match code {
        RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure => {
            "no broker can be reached: check kafka.brokers and the network".to_string()
        }
        RDKafkaErrorCode::SSL => {
            "no TLS with it: check kafka.security_protocol, kafka.ca, kafka.certificate and kafka.key".to_string()
        }
        RDKafkaErrorCode::OperationTimedOut => "no answer in time: check kafka.brokers and the network".to_string(),
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            "the credentials are refused: check kafka.username, kafka.password and kafka.sasl_mechanism".to_string()
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            "the topic is not allowed: give this user DESCRIBE on it, and READ for a source or WRITE for a sink"
                .to_string()
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            "using the consumer group is not allowed: give this user READ on kafka.group".to_string()
        }
        RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => {
            "a message is larger than is allowed: set receive.message.max.bytes higher in kafka.properties for a source, \
             message.max.bytes there and max.message.bytes of the topic for a sink"
                .to_string()
        }
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
            "the position is outside of what the topic has".to_string()
        }
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            "the topic does not exist".to_string()
        }
        other => other.to_string(),
    }
}

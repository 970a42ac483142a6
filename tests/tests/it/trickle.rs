//! Verification in the background: every kept answer about once, at the share of a core that is set; what differs is told with
//! both sides.

use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use tidemill_client::{texts, v1};
use tidemill_tests::server::{Server, project};

use crate::verify::{DEFINITIONS, data, half_of_the_frames, live, run};

fn settings(project: &Path, trickle: &str) {
    std::fs::write(project.join("tidemill.toml"), format!("verify_share = 1.0\nverify_trickle = {trickle}\n")).unwrap();
}

/// What the status says of the verification, once it is as wanted.
async fn verification(server: &Server, is_wanted: impl Fn(&v1::VerifyStatus) -> bool) -> v1::VerifyStatus {
    let client = server.client().await;
    for _ in 0..600 {
        let status = client.status().await.unwrap().verify.unwrap();
        if is_wanted(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the verification does not get there: {:?}", client.status().await.unwrap().verify);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_answers_are_verified_once_and_differences_are_told() {
    let folder = project(DEFINITIONS);
    settings(folder.path(), "1.0");
    let server = Server::start(folder.path()).await;
    live(&server).await;
    let status = verification(&server, |status| status.answers == 200).await;
    assert_eq!((status.differences, status.outdated, status.state.as_str()), (0, 0, "running"), "{status:?}");
    assert!(status.newest > 0);
    let shown = String::from_utf8(run(&server, &["status"]).stdout).unwrap();
    assert!(shown.contains("verification (running): 200 served answers recomputed, the newest of 2"), "{shown}");
    assert_eq!(server.terminate(), Some(0));

    // After a restart it goes on where it was.
    let server = Server::start(folder.path()).await;
    let keys = [("card".to_string(), texts(["c1"]))].into();
    let request = [("amount".to_string(), tidemill_client::doubles([3.0]))].into();
    let get = v1::GetRequest { service: "all".into(), keys, request, ..Default::default() };
    server.client().await.get(get).await.unwrap();
    let status = verification(&server, |status| status.answers > 0).await;
    assert_eq!((status.answers, status.differences), (1, 0), "{status:?}");
    assert_eq!(server.terminate(), Some(0));

    // Answers of other definitions were right by their own.
    let verified = data(folder.path()).join("answers/verified");
    std::fs::remove_file(&verified).unwrap();
    let definitions = folder.path().join("features/test.toml");
    std::fs::write(&definitions, DEFINITIONS.replace("amount < 10", "amount <= 10")).unwrap();
    let server = Server::start(folder.path()).await;
    let status = verification(&server, |status| status.outdated == 201).await;
    assert_eq!((status.answers, status.differences), (0, 0), "{status:?}");
    assert_eq!(server.terminate(), Some(0));
    std::fs::write(&definitions, DEFINITIONS).unwrap();

    // Half of the log is gone, and the state that knew it: the answers say what was there. Switched off, nothing happens.
    std::fs::remove_file(&verified).unwrap();
    settings(folder.path(), "0");
    let log = first_segment(&data(folder.path()).join("log"));
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..half_of_the_frames(&whole)]).unwrap();
    std::fs::remove_dir_all(data(folder.path()).join("state")).unwrap();
    let server = Server::start(folder.path()).await;
    let status = verification(&server, |_| true).await;
    assert_eq!((status.answers, status.state.as_str()), (0, "off"), "{status:?}");
    assert_eq!(server.terminate(), Some(0));
    settings(folder.path(), "1.0");
    let server = Server::start(folder.path()).await;
    let status = verification(&server, |status| status.answers > 0).await;
    assert!(status.differences > 0 && status.outdated == 0, "{status:?}");
    let json: Json = serde_json::from_slice(&run(&server, &["status", "--json"]).stdout).unwrap();
    assert_eq!(json["verify"]["differences"], status.differences, "{json}");
    let words = server.last_words();
    for expected in ["ERROR", "cards:", "of card=\"c", "served", "the event log gives", "counted", "before"] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
}

fn first_segment(folder: &Path) -> std::path::PathBuf {
    let mut segments = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    segments.find(|path| path.extension().is_some_and(|ending| ending == "log")).unwrap()
}

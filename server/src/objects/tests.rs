//! URLs and globs, and objects that are local files; those in a bucket are tested against a server, in `tests/`.

use super::*;

#[test]
fn urls_are_read_or_refused_with_a_reason() {
    let s3 = |bucket: &str, key: &str| ObjectUrl::S3 { bucket: bucket.into(), key: key.into() };
    let good = [
        ("/data/a b.parquet", ObjectUrl::Local("/data/a b.parquet".into())),
        ("file:///data/x", ObjectUrl::Local("/data/x".into())),
        ("s3://lake", s3("lake", "")),
        ("s3://lake/", s3("lake", "")),
        ("s3://lake/a/b=1/", s3("lake", "a/b=1")),
        ("s3://lake/a?b#c%20d.csv", s3("lake", "a?b#c%20d.csv")),
    ];
    for (text, expected) in good {
        assert_eq!(ObjectUrl::parse(text).unwrap(), expected, "{text}");
    }
    let bad = [
        ("data/x", "not absolute"),
        ("gs://lake/x", "`gs://` is not known"),
        ("s4://lake/x", "did you mean `s3://`"),
        ("file://data/x", "three slashes"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("s3://Lake/x", "lower-case"),
        ("s3://lake//x", "no empty part"),
        ("s3://lake/a/../x", "`..`"),
        ("s3://lake/a\u{0}", "control"),
    ];
    for (text, expected) in bad {
        let error = ObjectUrl::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = ObjectUrl::parse("s3://AKIA:canary@lake/x").unwrap_err().to_string();
    assert!(error.contains("[s3]") && !error.contains("canary"), "{error}");
    let long = ObjectUrl::parse(&format!("s3://lake/{}", "x".repeat(2000))).unwrap_err().to_string();
    assert!(long.contains("1,024") && long.len() < 400, "{long}");
}

proptest::proptest! {
    /// Whatever is given: an answer, and one that can be given again.
    #[test]
    fn what_is_read_can_be_shown_and_read_again(text in "(s3://|file://|)[a-z/.*\\[\\]@ é\\x00%-]{0,20}") {
        if let Ok(url) = ObjectUrl::parse(&text) {
            proptest::prop_assert_eq!(ObjectUrl::parse(&url.to_string()).unwrap(), url);
        }
    }
}

#[test]
fn names_below_a_prefix() {
    for prefix in ["s3://lake", "s3://lake/set", "/data/set"] {
        let prefix = ObjectUrl::parse(prefix).unwrap();
        let object = prefix.join("train/part-0.parquet");
        assert_eq!((prefix.name_below(&object), object.ending()), (Some("train/part-0.parquet"), "parquet"));
    }
    let prefix = ObjectUrl::parse("s3://lake/set").unwrap();
    assert_eq!(prefix.name_below(&ObjectUrl::parse("s3://lake/set2/x").unwrap()), None);
    assert_eq!(prefix.name_below(&ObjectUrl::parse("s3://pond/set/x").unwrap()), None);
    assert_eq!(url::fixed_folder("a/b/c*/d.parquet"), "a/b");
    assert_eq!(url::fixed_folder("a/b/c.parquet"), "a/b");
    assert_eq!(url::fixed_folder("*.parquet"), "");
}

#[test]
fn local_files_are_objects_too() {
    let folder = tempfile::tempdir().unwrap();
    let root = ObjectUrl::Local(folder.path().join("store"));
    let objects = Objects::new(S3Settings::default());
    assert_eq!((objects.below(&root).unwrap(), objects.any_below(&root).unwrap()), (vec![], None));
    let file = folder.path().join("file");
    std::fs::write(&file, b"hello").unwrap();
    let names = ["a/1.csv", "a/b/2.csv", "a/b/3.parquet"];
    names.iter().for_each(|name| objects.put(&file, &root.join(name)).unwrap());
    let found = |objects: Vec<Object>| -> Vec<String> {
        objects.iter().map(|object| root.name_below(&object.url).unwrap().to_string()).collect()
    };
    assert_eq!(found(objects.below(&root).unwrap()), names);
    assert_eq!(found(objects.matching(&format!("{root}/a/*.csv")).unwrap()), names[..1]);
    assert_eq!(found(objects.matching(&format!("{root}/**/*.csv")).unwrap()), names[..2]);
    assert!(objects.matching(&format!("{root}/[")).unwrap_err().to_string().contains("not a glob"));
    let (one, copy) = (root.join(names[0]), folder.path().join("copy"));
    assert_eq!(objects.fetch(&one, &copy, 5).unwrap(), 5);
    assert_eq!(std::fs::read(&copy).unwrap(), b"hello");
    assert!(matches!(objects.fetch(&one, &copy, 4), Err(ObjectError::TooLarge { bytes: 5, .. })));
    assert!(!copy.exists());
    let mark = objects.head(&one).unwrap().unwrap().1.unwrap();
    let written = objects.write(b"goodbye".to_vec(), &one, &Expected::Marked(mark.clone())).unwrap();
    for expected in [Expected::Marked(mark), Expected::Nothing] {
        assert!(matches!(objects.write(Vec::new(), &one, &expected), Err(ObjectError::Taken { .. })));
    }
    assert_eq!(objects.read(&one, 100).unwrap(), Some((b"goodbye".to_vec(), written)));
    objects.remove(&one).unwrap();
    objects.remove(&one).unwrap();
    assert_eq!(objects.read(&one, 100).unwrap(), None);
}

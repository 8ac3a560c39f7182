// SPDX-License-Identifier: Apache-2.0
//! Copies of a store that is written to, stores renewed from them, and history that is forgotten.

use std::fs::File;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::Kind;

fn put(name: &str, text: &str) -> Op {
    let value = format!(r#"{{"metadata":{{"name":"{name}"}},"data":"{text}"}}"#);
    let key = Key::new("", "pods", "default", name);
    Op::Put { key, value: Bytes::from(value), expect: Expect::Any }
}

fn pods() -> ListQuery {
    ListQuery { resource: "pods".into(), ..ListQuery::default() }
}

fn open(path: &std::path::Path) -> Store {
    Store::open(path, Options { mode: Mode::Primary, ..Options::default() }).unwrap()
}

#[test]
fn a_copy_taken_while_many_write_is_one_moment_and_its_renewal_goes_on_above_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("a"));
    let writer = {
        let store = store.clone();
        std::thread::spawn(move || {
            // Both objects of a transaction, or none: a torn copy would show two numbers.
            for number in 0..400 {
                let text = format!("{number}");
                store.commit(vec![put("x", &text), put("y", &text)]).unwrap();
            }
        })
    };
    let mut copies = Vec::new();
    while !writer.is_finished() || copies.is_empty() {
        let at = dir.path().join(format!("copy-{}", copies.len()));
        std::fs::create_dir(&at).unwrap();
        store.copy_to(&mut File::create(at.join("data.mdb")).unwrap()).unwrap();
        copies.push(at);
    }
    writer.join().unwrap();
    let newest = store.revision();
    for at in copies {
        let renewed = renew(&at, 1_000_000, 5_000_000).unwrap();
        assert!(renewed.before <= newest && renewed.revision == 5_000_000);
        let copy = open(&at);
        assert_eq!(copy.stats().unwrap().history, 0);
        let items = copy.list(&pods()).unwrap().items;
        let texts: Vec<_> = items
            .iter()
            .map(|item| {
                String::from_utf8_lossy(&item.value).rsplit_once("data").unwrap().1.to_owned()
            })
            .collect();
        assert!(texts.is_empty() || (texts.len() == 2 && texts[0] == texts[1]), "{texts:?}");
        assert_ne!(copy.store_id(), store.store_id());
        let from_before = copy.watch(&WatchQuery::default(), newest);
        assert_eq!(from_before.err().unwrap().kind, Kind::Gone);
        assert_eq!(copy.commit(vec![put("z", "1")]).unwrap(), [5_000_001]);
    }
}

#[test]
fn a_renewal_leaps_from_the_copy_when_the_clock_is_behind_and_refuses_what_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(renew(dir.path(), 10, 0).unwrap_err().kind, Kind::NotFound);
    let store = open(dir.path());
    store.commit(vec![put("x", "1")]).unwrap();
    assert_eq!(renew(dir.path(), 10, 0).unwrap_err().kind, Kind::Rejected);
    store.close().unwrap();
    drop(store);
    assert_eq!(renew(dir.path(), 10, 0).unwrap(), Renewed { before: 1, revision: 11 });
    assert_eq!(renew(dir.path(), u64::MAX, 0).unwrap_err().kind, Kind::Invalid);
    let data = dir.path().join("data.mdb");
    let whole = std::fs::read(&data).unwrap();
    std::fs::write(&data, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(renew(dir.path(), 10, 0).unwrap_err().kind, Kind::Corrupt);
}

#[test]
fn history_is_forgotten_by_its_age_even_while_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        mode: Mode::Primary,
        history_age: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let store = Store::open(dir.path(), options).unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        store.commit(vec![put(name, "1")]).unwrap();
    }
    let first = store.list(&ListQuery { limit: 2, ..pods() }).unwrap();
    assert_eq!(first.remaining, Some(3));
    store.commit(vec![put("d", "2"), put("f", "2")]).unwrap();
    let next = ListQuery { limit: 2, continue_token: first.continue_token.clone(), ..pods() };
    let until_gone = std::iter::repeat_with(|| {
        std::thread::park_timeout(Duration::from_millis(20));
        store.list(&next)
    });
    let gone = until_gone.take(500).find_map(Result::err).expect("the token expires");
    assert_eq!(gone.kind, Kind::Gone);
    let stats = store.stats().unwrap();
    assert_eq!((stats.history, stats.oldest), (0, 7));
    let token = token_for_now(&first.continue_token).unwrap();
    let rest = store.list(&ListQuery { continue_token: token, ..pods() }).unwrap();
    assert_eq!(rest.items.iter().map(|item| item.key.name.as_str()).collect::<String>(), "cdef");
    assert_eq!(rest.revision, 7);
}

#[test]
fn what_remains_is_counted_at_the_revision_of_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for name in ["a", "b", "c", "d", "e"] {
        store.commit(vec![put(name, "1")]).unwrap();
    }
    let first = store.list(&ListQuery { limit: 1, ..pods() }).unwrap();
    let gone = |name: &str| Op::Delete {
        key: Key::new("", "pods", "default", name),
        expect: Expect::Present,
    };
    store.commit(vec![gone("a"), gone("d"), put("c", "2"), put("f", "2")]).unwrap();
    let next = ListQuery { limit: 1, continue_token: first.continue_token, ..pods() };
    let second = store.list(&next).unwrap();
    assert_eq!((first.remaining, second.remaining), (Some(4), Some(3)));
    let selected = ListQuery { limit: 1, labels: "!x".into(), ..pods() };
    assert_eq!(store.list(&selected).unwrap().remaining, None);
}

// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::Kind;
use bytes::Bytes;

fn key(name: &str) -> Key {
    Key::new("", "pods", "default", name)
}

fn pod(name: &str, node: &str, app: &str) -> Bytes {
    format!(
        r#"{{"metadata":{{"name":"{name}","labels":{{"app":"{app}"}},"ownerReferences":[{{"uid":"o-{app}"}}]}},"spec":{{"nodeName":"{node}"}}}}"#
    )
    .into()
}

fn put(name: &str, node: &str, app: &str, expect: Expect) -> Op {
    Op::Put { key: key(name), value: pod(name, node, app), expect }
}

fn open(path: &std::path::Path, mode: Mode) -> Store {
    Store::open(path, Options { mode, history: 100, ..Options::default() }).unwrap()
}

fn names(page: &Page) -> Vec<&str> {
    page.items.iter().map(|item| item.key.name.as_str()).collect()
}

fn pods() -> ListQuery {
    ListQuery { resource: "pods".into(), ..ListQuery::default() }
}

#[test]
fn what_was_committed_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Mode::Primary);
    assert_eq!(store.commit(vec![put("a", "n1", "x", Expect::Absent)]).unwrap(), [1]);
    store.close().unwrap();
    drop(store);
    let store = open(dir.path(), Mode::Primary);
    let found = store.get(&key("a")).unwrap().unwrap();
    assert_eq!(found.revision, 1);
    assert!(std::str::from_utf8(&found.value).unwrap().contains(r#""resourceVersion":"1""#));
}

#[test]
fn a_transaction_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Mode::Replica);
    store.commit(vec![put("a", "n1", "x", Expect::Absent)]).unwrap();
    let refused = store.commit(vec![
        put("b", "n1", "x", Expect::Absent),
        put("a", "n1", "x", Expect::Revision(9)),
    ]);
    assert_eq!(refused.unwrap_err().kind, Kind::Conflict);
    assert!(store.get(&key("b")).unwrap().is_none());
    assert_eq!(store.revision(), 1);
}

#[test]
fn selectors_and_the_node_index_choose_objects() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Mode::Primary);
    for (name, node, app) in [("a", "n1", "x"), ("b", "n2", "x"), ("c", "n1", "y")] {
        store.commit(vec![put(name, node, app, Expect::Absent)]).unwrap();
    }
    let list = |labels: &str, fields: &str| {
        store.list(&ListQuery { labels: labels.into(), fields: fields.into(), ..pods() }).unwrap()
    };
    assert_eq!(names(&list("app=x", "")), ["a", "b"]);
    assert_eq!(names(&list("app notin (x)", "")), ["c"]);
    assert_eq!(names(&list("!nothing", "spec.nodeName=n1")), ["a", "c"]);
    assert_eq!(names(&list("", "spec.nodeName!=n1")), ["b"]);
    assert_eq!(store.owned("o-x").unwrap().len(), 2);
    store.commit(vec![put("a", "n2", "y", Expect::Present)]).unwrap();
    assert_eq!(names(&list("", "spec.nodeName=n1")), ["c"]);
    assert_eq!(store.owned("o-x").unwrap().len(), 1);
}

#[test]
fn pages_stay_at_the_revision_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Mode::Primary);
    for name in ["a", "b", "c", "d"] {
        store.commit(vec![put(name, "n", "x", Expect::Absent)]).unwrap();
    }
    let first = store.list(&ListQuery { limit: 2, ..pods() }).unwrap();
    assert_eq!(names(&first), ["a", "b"]);
    store.commit(vec![Op::Delete { key: key("c"), expect: Expect::Present }]).unwrap();
    store
        .commit(vec![put("bb", "n", "x", Expect::Absent), put("d", "other", "z", Expect::Any)])
        .unwrap();
    let rest = ListQuery { limit: 2, continue_token: first.continue_token, ..pods() };
    let second = store.list(&rest).unwrap();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second.revision, first.revision);
    assert!(std::str::from_utf8(&second.items[1].value).unwrap().contains(r#""nodeName":"n""#));
    for _ in 0..200 {
        store.commit(vec![put("e", "n", "x", Expect::Any)]).unwrap();
    }
    assert_eq!(store.list(&rest).unwrap_err().kind, Kind::Gone);
}

#[tokio::test]
async fn a_watch_sees_every_change_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Mode::Primary);
    let query = WatchQuery { labels: "app=x".into(), ..WatchQuery::default() };
    let mut watcher = store.watch(&query, 0).unwrap();
    store
        .commit(vec![put("a", "n", "x", Expect::Absent), put("b", "n", "y", Expect::Absent)])
        .unwrap();
    store.commit(vec![put("a", "n", "y", Expect::Any)]).unwrap();
    store.commit(vec![Op::Delete { key: key("b"), expect: Expect::Any }]).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(watcher.next().await.unwrap());
    }
    assert_eq!(seen.iter().map(|event| event.revision).collect::<Vec<_>>(), [1, 3]);
    assert!(seen[0].created && seen[1].previous.is_some());
    for _ in 0..200 {
        store.commit(vec![put("a", "n", "x", Expect::Any)]).unwrap();
    }
    assert_eq!(store.watch(&query, 1).err().unwrap().kind, Kind::Gone);
}

#[test]
fn the_map_grows_while_the_store_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { map_size: 1 << 20, ..Options::default() };
    let store = Store::open(dir.path(), options).unwrap();
    let filler = "x".repeat(100_000);
    for number in 0..40 {
        let value = format!(r#"{{"metadata":{{"name":"a"}},"data":"{filler}"}}"#);
        let op = Op::Put {
            key: key(&format!("p{number}")),
            value: value.into(),
            expect: Expect::Absent,
        };
        store.commit(vec![op]).unwrap();
    }
    assert_eq!(store.list(&pods()).unwrap().items.len(), 40);
    assert!(store.stats().unwrap().map_bytes > 1 << 20);
}

#[test]
fn a_sealed_object_is_not_readable_in_the_file_nor_with_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let options = |seal| Options {
        seal: Some(seal),
        sealed: vec![(String::new(), "pods".into())],
        ..Options::default()
    };
    let store = Store::open(dir.path(), options([7; 32])).unwrap();
    store.commit(vec![put("a", "very-secret-node", "x", Expect::Absent)]).unwrap();
    store.close().unwrap();
    drop(store);
    let other = Store::open(dir.path(), options([8; 32])).unwrap();
    assert_eq!(other.get(&key("a")).unwrap_err().kind, Kind::Forbidden);
    drop(other);
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path(), Mode::Primary);
    let refused = Store::open(dir.path(), Options::default());
    assert_eq!(refused.err().unwrap().kind, Kind::Rejected);
}

#[test]
fn a_cut_or_scribbled_file_is_corrupt_or_still_right_but_never_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path, Mode::Primary);
    for number in 0..60 {
        store
            .commit(vec![put(&format!("p{number:02}"), "n", &"l".repeat(60), Expect::Any)])
            .unwrap();
    }
    for number in 0..20 {
        store
            .commit(vec![Op::Delete { key: key(&format!("p{number:02}")), expect: Expect::Any }])
            .unwrap();
    }
    let whole = store.list(&pods()).unwrap().items;
    store.close().unwrap();
    drop(store);
    let good = std::fs::read(path.join("data.mdb")).unwrap();
    let mut random = 0x1234_5678_9abc_def0_u64;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % bound as u64).unwrap()
    };
    let mut found_damage = 0;
    for round in 0..400 {
        let mut bad = good.clone();
        if round % 4 == 0 {
            bad.truncate(next(good.len()));
        } else {
            let start = next(good.len());
            let length = 1 + next(64);
            for byte in bad.iter_mut().skip(start).take(length) {
                *byte ^= u8::try_from(1 + next(255)).unwrap();
            }
        }
        std::fs::write(path.join("data.mdb"), &bad).unwrap();
        match Store::open(
            &path,
            Options { mode: Mode::Primary, history: 100, ..Options::default() },
        ) {
            Err(error) => {
                assert_eq!(error.kind, Kind::Corrupt, "{error}");
                found_damage += 1;
            }
            Ok(store) => assert_eq!(store.list(&pods()).unwrap().items, whole),
        }
    }
    assert!(found_damage > 150, "only {found_damage} of 400 were noticed");
}

/// Rewrites a closed store as its first layout had it, or names a schema of the future.
fn rewrite(path: &std::path::Path, schema: u64) {
    let lmdb = super::db::Lmdb::open(path, 1 << 26, true).unwrap();
    let mut txn = lmdb.write().unwrap();
    let entries = lmdb.objects.iter(&txn).unwrap().map(|entry| {
        let (key, bytes) = entry.unwrap();
        let record = super::record::Record::decode(key, bytes, None).unwrap();
        (key.to_vec(), super::record::encode_first(&record, key))
    });
    for (key, bytes) in entries.collect::<Vec<_>>() {
        lmdb.objects.put(&mut txn, &key, &bytes).unwrap();
    }
    lmdb.set_number(&mut txn, "schema", schema).unwrap();
    txn.commit().unwrap();
}

#[test]
fn a_store_of_the_first_layout_is_brought_to_this_one_and_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Mode::Primary);
    store
        .commit(vec![put("a", "n1", "x", Expect::Absent), put("b", "n2", "y", Expect::Absent)])
        .unwrap();
    let before = store.list(&pods()).unwrap().items;
    drop(store);
    rewrite(dir.path(), 1);
    let store = open(dir.path(), Mode::Primary);
    assert_eq!(store.list(&pods()).unwrap().items, before);
    store.commit(vec![put("a", "n2", "x", Expect::Present)]).unwrap();
    let on_first = ListQuery { fields: "spec.nodeName=n1".into(), ..pods() };
    assert!(store.list(&on_first).unwrap().items.is_empty());
    assert_eq!(store.owned("o-x").unwrap().len(), 1);
}

#[test]
fn a_store_of_a_newer_kedge_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), Mode::Primary));
    rewrite(dir.path(), 99);
    let refused = Store::open(dir.path(), Options::default()).err().unwrap();
    assert_eq!(refused.kind, Kind::Invalid);
    assert!(refused.message.contains("schema 99"));
}

#[test]
fn several_changes_of_one_object_become_its_last() {
    let put = |name: &str, value: &'static str| Op::Put {
        key: Key::new("", "pods", "default", name),
        value: Bytes::from_static(value.as_bytes()),
        expect: Expect::Any,
    };
    let gone = Op::Delete { key: Key::new("", "pods", "default", "a"), expect: Expect::Any };
    let newest = newest_each(vec![put("a", "1"), put("b", "2"), gone, put("b", "3")]);
    assert!(matches!(&newest[0], Op::Delete { key, .. } if key.name == "a"));
    assert!(matches!(&newest[1], Op::Put { value, .. } if value == "3"));
    assert_eq!(newest.len(), 2);
}

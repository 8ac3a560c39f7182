// SPDX-License-Identifier: Apache-2.0
//! Stats of a machine whose files a test has written.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::cgroup::{Cgroups, Usage};
use super::disk::FileSystem;
use super::network::{self, Traffic};
use super::reading::Rates;
use super::world::Told;
use super::{Stats, World};

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const DEV: &str = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    \
    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
    eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n";

fn machine(root: &Path) {
    write(
        root,
        "proc/meminfo",
        "MemTotal: 1000 kB\nMemFree: 400 kB\nInactive(file): 100 kB\nSwapTotal: 8 kB\nSwapFree: 6 kB\n",
    );
    write(root, "proc/stat", "cpu  100 0 50 900 10 0 0 0 0 0\ncpu0 1\ncpu1 1\nbtime 1700000000\n");
    write(root, "proc/loadavg", "0.0 0.0 0.0 2/77 4\n");
    write(root, "proc/1/net/dev", DEV);
}

/// A pod's cgroup of version 2 with one container.
fn version_2(root: &Path) {
    machine(root);
    write(root, "sys/fs/cgroup/cgroup.controllers", "cpu memory pids");
    write(root, "sys/fs/cgroup/cpu.stat", "usage_usec 7000000\n");
    let pod =
        "sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podu.slice";
    for (path, usage) in
        [(pod.to_owned(), 3_000_000), (format!("{pod}/cri-containerd-c1.scope"), 2_000_000)]
    {
        write(
            root,
            &format!("{path}/cpu.stat"),
            &format!(
                "usage_usec {usage}\nuser_usec 1\nsystem_usec 2\nnr_periods 5\nnr_throttled 1\nthrottled_usec 9\n"
            ),
        );
        write(root, &format!("{path}/cpu.max"), "50000 100000\n");
        write(root, &format!("{path}/memory.current"), "5000\n");
        write(root, &format!("{path}/memory.max"), "max\n");
        write(
            root,
            &format!("{path}/memory.stat"),
            "anon 3000\nfile 2000\ninactive_file 1500\npgfault 8\npgmajfault 1\n",
        );
        write(root, &format!("{path}/memory.events"), "max 2\noom_kill 1\n");
        write(root, &format!("{path}/pids.current"), "4\n");
        write(root, &format!("{path}/io.stat"), "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n");
        write(
            root,
            &format!("{path}/memory.pressure"),
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=2000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n",
        );
    }
    write(root, &format!("{pod}/cri-containerd-s1.scope/cgroup.procs"), "42\n43\n");
    write(root, "proc/42/net/dev", DEV);
}

fn world(what: &str, cgroup: &str) -> World {
    let text = format!(
        r#"{{"what":"{what}","node":"n","pods":[{{"name":"p","namespace":"ns","uid":"u","started":1700000100,
        "cgroup":"{cgroup}","sandbox":"s1","containers":[
        {{"name":"main","id":"c1","image":"i:1","started":1700000101,"rootfs_bytes":77}}]}}]}}"#
    );
    World::parse(&text).unwrap()
}

const SLICE: &str = "kubepods-besteffort-podu.slice";

#[test]
fn a_slice_of_systemd_is_where_its_name_says() {
    assert_eq!(
        Cgroups::expand("kubepods-besteffort-podu_1.slice"),
        "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podu_1.slice"
    );
    assert_eq!(Cgroups::expand("/kubepods/burstable/podu"), "kubepods/burstable/podu");
}

#[test]
fn version_2_is_read_and_what_is_not_counted_is_absent() {
    let root = tempfile::tempdir().unwrap();
    version_2(root.path());
    let cgroups = Cgroups::new(root.path());
    let path = Cgroups::expand(SLICE);
    let child = cgroups.child(&path, "c1").unwrap();
    assert!(child.ends_with("/cri-containerd-c1.scope"), "{child}");
    let found = cgroups.usage(&child).unwrap();
    assert_eq!((found.cpu_ns, found.cpu_throttled_ns), (Some(2_000_000_000), Some(9000)));
    assert_eq!((found.cpu_quota, found.cpu_period), (Some(50_000), Some(100_000)));
    assert_eq!((found.memory, found.working_set, found.rss), (Some(5000), Some(3500), Some(3000)));
    assert_eq!((found.memory_limit, found.swap, found.pids), (None, None, Some(4)));
    assert_eq!((found.io[0].reads, found.oom_kills), (3, Some(1)));
    assert_eq!(found.pressure.memory.unwrap().some.total, 2_000_000);
    assert!(cgroups.usage("kubepods.slice/absent").is_none());
    assert!(cgroups.child(&path, "").is_none(), "an empty id is nobody's");
    let (_, body) = Stats::new(root.path()).answer(&world("summary", "")).unwrap();
    let found: Value = serde_json::from_slice(&body).unwrap();
    assert!(found["pods"][0].get("cpu").is_none(), "the whole machine is no pod");
}

#[test]
fn version_1_is_read_from_its_hierarchies() {
    let root = tempfile::tempdir().unwrap();
    let at =
        |controller: &str, file: &str| format!("sys/fs/cgroup/{controller}/kubepods/podu/{file}");
    for (controller, file, text) in [
        ("cpuacct", "cpuacct.usage", "123\n"),
        ("cpu", "cpu.cfs_quota_us", "-1\n"),
        ("cpu", "cpu.stat", "nr_periods 3\nnr_throttled 1\nthrottled_time 5\n"),
        ("memory", "memory.usage_in_bytes", "900\n"),
        ("memory", "memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory", "memory.stat", "inactive_file 1\ntotal_inactive_file 200\ntotal_rss 500\n"),
        ("pids", "pids.current", "2\n"),
        (
            "blkio",
            "blkio.throttle.io_service_bytes_recursive",
            "8:0 Read 5\n8:0 Write 6\nTotal 11\n",
        ),
    ] {
        write(root.path(), &at(controller, file), text);
    }
    let found = Cgroups::new(root.path()).usage("kubepods/podu").unwrap();
    assert_eq!((found.cpu_ns, found.cpu_quota, found.cpu_throttled), (Some(123), None, Some(1)));
    assert_eq!((found.working_set, found.rss, found.memory_limit), (Some(700), Some(500), None));
    assert_eq!((found.pids, found.io.len(), found.io[0].write_bytes), (Some(2), 1, 6));
}

#[test]
fn interfaces_are_read_but_for_loopback() {
    let root = tempfile::tempdir().unwrap();
    machine(root.path());
    let found = network::interfaces(root.path(), "1");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].received, Traffic { bytes: 10, packets: 2, errors: 3, dropped: 4 });
    assert_eq!(found[0].sent, Traffic { bytes: 50, packets: 6, errors: 7, dropped: 8 });
}

#[test]
fn a_summary_has_node_pods_and_containers() {
    let root = tempfile::tempdir().unwrap();
    version_2(root.path());
    let stats = Stats::new(root.path());
    let (_, body) = stats.answer(&world("summary", SLICE)).unwrap();
    let found: Value = serde_json::from_slice(&body).unwrap();
    let node = &found["node"];
    assert_eq!(node["startTime"], "2023-11-14T22:13:20Z");
    assert_eq!(node["cpu"]["usageCoreNanoSeconds"], 7_000_000_000_u64);
    assert_eq!(node["memory"]["workingSetBytes"], 500 << 10);
    assert_eq!(node["swap"]["swapUsageBytes"], 2 << 10);
    assert_eq!(node["rlimit"]["curproc"], 77);
    let pod = &found["pods"][0];
    assert_eq!(pod["podRef"]["name"], "p");
    assert_eq!((&pod["network"]["rxBytes"], &pod["network"]["name"]), (&10.into(), &"eth0".into()));
    let container = &pod["containers"][0];
    assert_eq!(container["memory"]["workingSetBytes"], 3500);
    assert_eq!(container["rootfs"]["usedBytes"], 77);
    let (_, body) = stats.answer(&world("summary_of_cpu_and_memory", SLICE)).unwrap();
    let found: Value = serde_json::from_slice(&body).unwrap();
    assert!(found["pods"][0].get("network").is_none());
    assert!(found["node"].get("fs").is_none());
}

#[test]
fn texts_have_the_names_that_rules_use() {
    let root = tempfile::tempdir().unwrap();
    version_2(root.path());
    let stats = Stats::new(root.path());
    let text = |what| String::from_utf8(stats.answer(&world(what, SLICE)).unwrap().1).unwrap();
    let resource = text("resource");
    assert!(
        resource.contains(
            "container_cpu_usage_seconds_total{container=\"main\",namespace=\"ns\",pod=\"p\"} 2 "
        ),
        "{resource}"
    );
    assert!(resource.contains("\nnode_memory_working_set_bytes 512000 "), "{resource}");
    assert!(resource.contains("\npod_memory_working_set_bytes{namespace=\"ns\",pod=\"p\"} 3500 "));
    assert!(resource.ends_with("resource_scrape_error 0\n"));
    let cadvisor = text("cadvisor");
    let id = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podu.slice/cri-containerd-c1.scope";
    let main = format!(
        "container=\"main\",id=\"{id}\",image=\"i:1\",name=\"c1\",namespace=\"ns\",pod=\"p\""
    );
    assert!(
        cadvisor.contains(&format!("container_cpu_usage_seconds_total{{{main},cpu=\"total\"}} 2 ")),
        "{cadvisor}"
    );
    assert!(cadvisor.contains(&format!("container_memory_working_set_bytes{{{main}}} 3500 ")));
    assert!(cadvisor.contains("interface=\"eth0\"} 10 "));
    for family in cadvisor.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = family.split(' ').next().unwrap();
        assert_eq!(cadvisor.matches(&format!("# TYPE {name} ")).count(), 1, "{name}");
    }
}

#[test]
fn a_label_cannot_end_its_line() {
    let root = tempfile::tempdir().unwrap();
    version_2(root.path());
    let mut hostile = world("resource", SLICE);
    hostile.pods[0].name = "a\"} 1\n# TYPE".into();
    let (_, body) = Stats::new(root.path()).answer(&hostile).unwrap();
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains(r#"pod="a\"} 1\n# TYPE"}"#), "{text}");
}

#[test]
fn a_rate_is_over_the_time_since_the_answer_before() {
    let mut rates = Rates::default();
    let at = |time_ns, cpu| Usage { time_ns, cpu_ns: Some(cpu), ..Usage::default() };
    let second = 1_000_000_000;
    assert_eq!(rates.of("a", &at(second, 0)), None);
    rates.done();
    assert_eq!(rates.of("a", &at(3 * second, second)), Some(second / 2));
    rates.done();
    assert_eq!(rates.of("a", &at(3 * second + 1, second)), None, "too short to say anything");
    rates.done();
    assert_eq!(rates.of("a", &at(4 * second, 2 * second)), Some(second), "and not lost by that");
    rates.done();
    rates.done();
    assert_eq!(
        rates.of("a", &at(5 * second, 3 * second)),
        None,
        "what was not asked for is forgotten"
    );
}

#[test]
fn what_the_question_may_hold_is_known() {
    assert!(World::parse(r#"{"what":"everything"}"#).is_err());
    assert!(World::parse(r#"{"pod":[]}"#).unwrap_err().message.contains("pod"));
}

#[test]
fn what_a_driver_tells_of_its_volume_is_told_on_and_the_machine_is_not_asked() {
    let root = tempfile::tempdir().unwrap();
    version_2(root.path());
    let volumes = |what: &str| {
        let mut world = world(what, SLICE);
        let text = r#"[{"name":"data","path":"/","claim":"big",
            "told":{"bytes_total":100,"bytes_used":40,"inodes_total":9}},
            {"name":"scratch","path":"/","told":{}}]"#;
        world.pods[0].volumes = serde_json::from_str(text).unwrap();
        Stats::new(root.path()).answer(&world).unwrap().1
    };
    let found: Value = serde_json::from_slice(&volumes("summary")).unwrap();
    let (data, scratch) = (&found["pods"][0]["volume"][0], &found["pods"][0]["volume"][1]);
    assert_eq!(data["pvcRef"], serde_json::json!({"name": "big", "namespace": "ns"}));
    assert_eq!((&data["capacityBytes"], &data["usedBytes"]), (&100.into(), &40.into()));
    assert_eq!((data.get("availableBytes"), &data["inodes"]), (None, &9.into()));
    assert_eq!(scratch.get("usedBytes"), None, "the whole machine is no volume");
    let text = String::from_utf8(volumes("volumes")).unwrap();
    let labels = r#"{namespace="ns",persistentvolumeclaim="big"}"#;
    assert!(text.contains(&format!("kubelet_volume_stats_capacity_bytes{labels} 100\n")), "{text}");
    assert!(text.contains(&format!("kubelet_volume_stats_used_bytes{labels} 40\n")), "{text}");
    assert!(!text.contains("kubelet_volume_stats_available_bytes{"), "{text}");
}

#[test]
fn no_inode_is_used_where_more_are_free_than_there_are() {
    let of = |inodes, inodes_free| FileSystem { inodes, inodes_free, ..FileSystem::default() };
    assert_eq!(Told::from(of(9, 4)).inodes_used, Some(5));
    assert_eq!(Told::from(of(9, u64::MAX)).inodes_used, Some(0));
}

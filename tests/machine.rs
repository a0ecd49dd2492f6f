//! `scripts/machine` on collected trees: a machine in good order, one with everything that it knows of, and odd ones.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/machine");

/// Eight CPUs, of which each is one core with the fourth after it; 1 to 3 serve.
const SERVING: [&str; 2] = ["--cpus", "1-3"];
const CPU: &str = "sys/devices/system/cpu";

/// A collected `/proc` and `/sys`.
struct Machine {
    root: TempDir,
}

/// What the script says of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    level: String,
    /// The value and why it matters.
    text: String,
    mend: Option<String>,
}

impl Machine {
    fn empty() -> Self {
        Self { root: tempfile::tempdir().expect("a scratch directory") }
    }

    fn with(self, files: &[(&str, &str)]) -> Self {
        for (path, text) in files {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().expect("it is below the root")).expect("a directory");
            fs::write(path, format!("{text}\n")).expect("a file");
        }
        self
    }

    /// The same file for each of the eight CPUs.
    fn with_each(self, file: &str, text: &str) -> Self {
        (0..8).fold(self, |machine, cpu| machine.with(&[(&format!("{CPU}/cpu{cpu}/{file}"), text)]))
    }

    fn without(self, path: &str) -> Self {
        fs::remove_file(self.root.path().join(path)).expect("it was there");
        self
    }

    fn in_good_order() -> Self {
        let mut machine = Self::empty()
            .with(&[
                ("proc/sys/kernel/osrelease", "6.12.3-generic"),
                ("proc/sys/kernel/io_uring_disabled", "0"),
                ("proc/self/limits", &limits("unlimited", "unlimited", "262144")),
                ("proc/self/status", "Name:\tcp\nCpus_allowed_list:\t0-63"),
                ("proc/swaps", "Filename Type Size Used Priority"),
                ("proc/sys/vm/swappiness", "60"),
                ("proc/sys/vm/zone_reclaim_mode", "0"),
                ("proc/sys/kernel/numa_balancing", "0"),
                ("proc/sys/kernel/nmi_watchdog", "0"),
                ("proc/sys/kernel/sched_autogroup_enabled", "0"),
                ("proc/sys/kernel/watchdog", "1"),
                ("proc/sys/kernel/watchdog_cpumask", "0,4-7"),
                ("proc/sys/net/core/somaxconn", "4096"),
                ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096"),
                ("proc/sys/net/ipv4/tcp_syncookies", "0"),
                (
                    "proc/stat",
                    "cpu  9 9 9 9 9 9 9 9\ncpu0 0 0 0 0 0 0 0 1000\ncpu1 900 0 50 9000 0 0 0 1 0 0",
                ),
                ("proc/1/comm", "systemd"),
                ("proc/irq/40/effective_affinity_list", "0"),
                ("proc/irq/40/smp_affinity_list", "0-7"),
                ("proc/irq/41/smp_affinity_list", "0,4"),
                ("sys/class/net/eth0/device/msi_irqs/40", "msix"),
                ("sys/class/net/eth0/device/msi_irqs/41", "msix"),
                ("sys/class/net/lo/mtu", "65536"),
                ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
                ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm "),
                ("sys/devices/system/node/node0/cpulist", "0-7"),
                ("sys/kernel/mm/ksm/run", "0"),
                ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
                ("sys/kernel/mm/transparent_hugepage/defrag", "always defer [defer+madvise] madvise never"),
                (&format!("{CPU}/online"), "0-7"),
                (&format!("{CPU}/isolated"), "1-3"),
                (&format!("{CPU}/nohz_full"), "(null)"),
                (&format!("{CPU}/intel_pstate/no_turbo"), "0"),
            ])
            .with_each("cpufreq/scaling_driver", "intel_pstate")
            .with_each("cpufreq/scaling_governor", "performance")
            .with_each("cpufreq/energy_performance_preference", "performance")
            .with_each("power/energy_perf_bias", "0");
        for (state, name, latency, disable) in
            [(0, "POLL", "0", "0"), (1, "C1", "2", "0"), (2, "C6", "133", "1")]
        {
            let file = |what: &str| format!("cpuidle/state{state}/{what}");
            machine = machine
                .with_each(&file("name"), name)
                .with_each(&file("latency"), latency)
                .with_each(&file("disable"), disable);
        }
        (0..8).fold(machine, |machine, cpu| {
            let siblings = format!("{},{}", cpu % 4, cpu % 4 + 4);
            machine.with(&[(&format!("{CPU}/cpu{cpu}/topology/thread_siblings_list"), &siblings)])
        })
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let root = self.root.path().to_str().expect("a scratch directory's name is text");
        check(&[&["--root", root], arguments].concat())
    }

    /// The exit code and the findings by thing.
    fn findings(&self, arguments: &[&str]) -> (Option<i32>, BTreeMap<String, Finding>) {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stdout).expect("it writes text");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{said}");
        (output.status.code(), parse(&said))
    }

    /// What it says of `thing`.
    fn finding(&self, thing: &str) -> Finding {
        self.findings(&SERVING).1.remove(thing).unwrap_or_else(|| panic!("nothing is said of {thing}"))
    }

    /// Carries out commands as if the tree were the machine.
    fn mend(&self, commands: &str) {
        let root = self.root.path().display().to_string();
        let commands = commands.replace(" /sys/", &format!(" {root}/sys/"));
        let commands = commands.replace(" /proc/", &format!(" {root}/proc/"));
        // Settings by name are files as well.
        let sysctl = format!(
            r#"sysctl() {{ shift; for set; do key=${{set%%=*}}; echo "${{set#*=}}" > {root}/proc/sys/${{key//.//}}; done; }}"#
        );
        let output = Command::new("bash").arg("-euc").arg(format!("{sysctl}\n{commands}")).output();
        let output = output.expect("bash can be started");
        assert!(output.status.success(), "{commands}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn limits(locked_soft: &str, locked: &str, files: &str) -> String {
    format!(
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            1024                 {files:20} files     \n\
         Max locked memory         {locked_soft:20} {locked:20} bytes     "
    )
}

fn check(arguments: &[&str]) -> Output {
    Command::new(SCRIPT).args(arguments).output().expect("the script can be started")
}

/// The lines, but for the last one, which counts them.
fn parse(said: &str) -> BTreeMap<String, Finding> {
    let (lines, summary) = said.trim_end().rsplit_once('\n').expect("findings and a summary");
    let mut counts = BTreeMap::from([("bad", 0), ("to look at", 0), ("ok", 0), ("unknown", 0)]);
    let mut findings = BTreeMap::new();
    for line in lines.lines() {
        let mut words = line.splitn(2, ' ');
        let level = words.next().unwrap_or_default();
        let (thing, rest) = words
            .next()
            .and_then(|rest| rest.trim_start().split_once(' '))
            .unwrap_or_else(|| panic!("{line}"));
        let (text, mend) = match rest.split_once("; mend: ") {
            Some((text, mend)) => (text, Some(mend.to_owned())),
            None => (rest, None),
        };
        let counted = counts.get_mut(if level == "warn" { "to look at" } else { level });
        *counted.unwrap_or_else(|| panic!("{level} is no level: {line}")) += 1;
        assert_eq!(mend.is_some(), matches!(level, "warn" | "bad"), "{line}");
        let finding = Finding { level: level.to_owned(), text: text.trim().to_owned(), mend };
        let twice = findings.insert(thing.to_owned(), finding);
        assert_eq!(twice, None, "{thing} is there twice");
    }
    for (level, count) in counts {
        assert!(
            summary.contains(&format!("{count} {level}")),
            "{count} {level} is not what it adds up to: {summary}"
        );
    }
    findings
}

#[test]
fn a_machine_in_good_order_is_found_so() {
    let (code, findings) = Machine::in_good_order().findings(&SERVING);
    assert_eq!(code, Some(0), "{findings:#?}");
    for (thing, finding) in &findings {
        // Free space is not in a tree.
        let wanted = if thing == "disk" { "unknown" } else { "ok" };
        assert_eq!(finding.level, wanted, "{thing}: {finding:?}");
    }
    assert!(findings.len() >= 32, "{findings:#?}");
}

/// Everything at once. What can be mended by a command, that command mends.
#[test]
fn each_thing_that_is_wrong_is_named_with_what_mends_it() {
    let machine = Machine::in_good_order()
        .without("proc/irq/40/effective_affinity_list")
        .with(&[
            ("proc/sys/kernel/osrelease", "5.4.0-216-generic"),
            ("proc/sys/kernel/io_uring_disabled", "2"),
            ("proc/self/limits", &limits("65536", "65536", "1024")),
            ("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2"),
            ("proc/sys/vm/zone_reclaim_mode", "1"),
            ("proc/sys/kernel/numa_balancing", "1"),
            ("proc/sys/kernel/nmi_watchdog", "1"),
            ("proc/sys/kernel/watchdog_cpumask", "0-7"),
            ("proc/sys/net/core/somaxconn", "128"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512"),
            ("proc/stat", "cpu1 900 0 50 9000 0 0 0 500 0 0\ncpu3 900 0 50 9000 0 0 0 500 0 0"),
            ("proc/77/comm", "irqbalance"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet"),
            ("sys/devices/system/node/node0/cpulist", "0-2"),
            ("sys/devices/system/node/node1/cpulist", "3-7"),
            ("sys/kernel/mm/ksm/run", "1"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
            ("sys/kernel/mm/transparent_hugepage/defrag", "[always] defer defer+madvise madvise never"),
            (&format!("{CPU}/isolated"), ""),
            (&format!("{CPU}/intel_pstate/no_turbo"), "1"),
            (&format!("{CPU}/cpu2/topology/thread_siblings_list"), "1-2"),
            (&format!("{CPU}/cpu1/topology/thread_siblings_list"), "1-2"),
        ])
        .with_each("cpufreq/scaling_driver", "acpi-cpufreq")
        .with_each("cpufreq/scaling_governor", "powersave")
        .with_each("cpufreq/energy_performance_preference", "balance_power")
        .with_each("power/energy_perf_bias", "6")
        .with_each("cpuidle/state2/disable", "0");
    let (code, findings) = machine.findings(&SERVING);
    assert_eq!(code, Some(1));
    let expected = [
        ("kernel", "bad", "5.4.0", "newer kernel"),
        ("io_uring", "bad", "disabled=2", "sysctl -w kernel.io_uring_disabled=0"),
        ("memlock", "bad", "65536", "memlock unlimited"),
        ("nofile", "bad", "1024", "nofile 262144"),
        ("governor", "bad", "powersave on 1-3", "cpu{1..3}/cpufreq/scaling_governor"),
        ("energy-pref", "warn", "balance_power on 1-3", "energy_performance_preference"),
        ("energy-bias", "warn", "6 on 1-3", "energy_perf_bias"),
        ("turbo", "warn", "off", "echo 0 > /sys/devices/system/cpu/intel_pstate/no_turbo"),
        ("c-states", "bad", "C6: 133 us", "cpuidle/state2/disable # at boot: intel_idle.max_cstate=1"),
        ("clocksource", "bad", "hpet", "echo tsc >"),
        ("thp-enabled", "warn", "always", "echo madvise >"),
        ("thp-defrag", "bad", "always", "echo defer+madvise >"),
        ("swap", "warn", "1 in use", "swapoff -a"),
        ("swappiness", "bad", "60", "sysctl -w vm.swappiness=1"),
        ("ksm", "warn", "on", "echo 2 > /sys/kernel/mm/ksm/run"),
        ("numa", "warn", "nodes 0 1", "SHARD_CPUS=1-2,"),
        ("zone_reclaim", "bad", "1", "sysctl -w vm.zone_reclaim_mode=0"),
        ("numa_balancing", "warn", "1", "sysctl -w kernel.numa_balancing=0"),
        ("smt", "warn", "1-2", "SHARD_CPUS=1,3 SHARDS=2"),
        ("isolcpus", "warn", "none", "isolcpus=managed_irq,domain,1-3 rcu_nocbs=1-3, and CPUAffinity="),
        ("irqs-eth0", "warn", "40", "for i in 40; do echo 0,4-7 >"),
        ("irqbalance", "warn", "PID 77", "IRQBALANCE_BANNED_CPULIST=1-3"),
        ("nmi_watchdog", "warn", "1", "sysctl -w kernel.nmi_watchdog=0"),
        ("watchdog", "warn", "on 0-7", "sysctl -w kernel.watchdog_cpumask=0,4-7"),
        ("steal", "bad", "4.78 %", "not shared"),
        ("somaxconn", "warn", "128", "sysctl -w net.core.somaxconn=4096"),
        ("syn_backlog", "warn", "512", "sysctl -w net.ipv4.tcp_max_syn_backlog=4096"),
    ];
    for (thing, level, value, mend) in expected {
        let finding = &findings[thing];
        assert_eq!(finding.level, level, "{thing}: {finding:?}");
        assert!(finding.text.starts_with(value), "{thing}: {finding:?}");
        assert!(finding.mend.as_ref().is_some_and(|said| said.contains(mend)), "{thing}: {finding:?}");
    }
    let wrong = findings.values().filter(|finding| finding.mend.is_some()).count();
    assert_eq!(wrong, expected.len(), "{findings:#?}");

    let commands: BTreeMap<&String, &String> = findings
        .iter()
        .filter_map(|(thing, finding)| Some((thing, finding.mend.as_ref()?)))
        .filter(|(_, mend)| ["echo ", "for ", "sysctl "].iter().any(|start| mend.starts_with(start)))
        .filter(|(_, mend)| !mend.contains("/etc/"))
        .collect();
    assert!(commands.len() >= 18, "{commands:#?}");
    for command in commands.values() {
        machine.mend(command);
    }
    let (_, after) = machine.findings(&SERVING);
    for thing in commands.keys() {
        assert_eq!(after[*thing].level, "ok", "{thing} after {:?}: {:?}", commands[thing], after[*thing]);
    }
}

/// One difference at a time from the machine in good order.
#[test]
fn what_matters_depends_on_the_rest_of_the_machine() {
    let good = Machine::in_good_order;
    let level = |machine: Machine, thing: &str| machine.finding(thing).level;

    let governor =
        |machine: Machine| level(machine.with_each("cpufreq/scaling_governor", "powersave"), "governor");
    assert_eq!(governor(good()), "warn", "with intel_pstate the clock still follows the load");
    assert_eq!(governor(good().with_each("cpufreq/scaling_driver", "acpi-cpufreq")), "bad");
    let one =
        good().with(&[(&format!("{CPU}/cpu2/cpufreq/scaling_governor"), "schedutil")]).finding("governor");
    assert!(one.text.starts_with("schedutil on 2 "), "{one:?}");
    let other = good().with(&[(&format!("{CPU}/cpu0/cpufreq/scaling_governor"), "powersave")]);
    assert_eq!(level(other, "governor"), "ok", "no core serves there");

    let never = [
        ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]"),
        ("sys/kernel/mm/transparent_hugepage/defrag", "[always] defer defer+madvise madvise never"),
    ];
    assert_eq!(level(good().with(&never), "thp-defrag"), "ok");

    let group = [("proc/sys/kernel/io_uring_disabled", "1"), ("proc/sys/kernel/io_uring_group", "-1")];
    assert_eq!(level(good().with(&group), "io_uring"), "bad");
    let group = [group[0], ("proc/sys/kernel/io_uring_group", "990")];
    assert_eq!(level(good().with(&group), "io_uring"), "warn");

    // Three cores need 1.5 MiB, and 1664 descriptors beside connections.
    let limited = |soft, hard, files| good().with(&[("proc/self/limits", &limits(soft, hard, files))]);
    assert_eq!(level(limited("1572864", "1572864", "11664"), "memlock"), "ok");
    assert_eq!(level(limited("65536", "1572864", "11663"), "memlock"), "warn");
    assert_eq!(level(limited("65536", "1572863", "1666"), "memlock"), "bad");
    assert_eq!(level(limited("65536", "65536", "11664"), "nofile"), "ok");
    assert_eq!(level(limited("65536", "65536", "11663"), "nofile"), "warn");
    assert_eq!(level(limited("65536", "65536", "1666"), "nofile"), "bad");

    let cookies =
        [("proc/sys/net/ipv4/tcp_max_syn_backlog", "128"), ("proc/sys/net/ipv4/tcp_syncookies", "1")];
    assert_eq!(level(good().with(&cookies), "syn_backlog"), "ok");
    let boost = good()
        .without(&format!("{CPU}/intel_pstate/no_turbo"))
        .with(&[(&format!("{CPU}/cpufreq/boost"), "0")]);
    assert_eq!(
        boost.finding("turbo").mend.as_deref(),
        Some("echo 1 > /sys/devices/system/cpu/cpufreq/boost")
    );
    let nohz = good().with(&[(&format!("{CPU}/nohz_full"), "1-3")]).finding("nohz_full");
    assert_eq!((nohz.level.as_str(), nohz.text.starts_with("1-3 ")), ("ok", true), "{nohz:?}");
    for (clock, wanted) in [("kvm-clock", "ok"), ("arch_sys_counter", "ok"), ("acpi_pm", "bad")] {
        let clock = [("sys/devices/system/clocksource/clocksource0/current_clocksource", clock)];
        assert_eq!(level(good().with(&clock), "clocksource"), wanted, "{clock:?}");
    }

    // A card of a virtual machine, whose interrupts belong to the device above; and one found by its name.
    let virtio =
        good().with(&[("sys/class/net/eth1/msi_irqs/42", "msix"), ("proc/irq/42/smp_affinity_list", "3")]);
    let virtio = virtio.with(&[("sys/class/net/eth1/device/vendor", "0x1af4")]);
    assert_eq!(level(virtio, "irqs-eth1"), "warn");
    let named = good().with(&[
        ("sys/class/net/eno2/device/vendor", "0x14e4"),
        (
            "proc/interrupts",
            " 43:  1  2  IR-PCI-MSI 1048577-edge  eno2-TxRx-0\n 44:  1  2  IR-PCI-MSI 7-edge  eno21",
        ),
        ("proc/irq/43/smp_affinity_list", "1"),
        ("proc/irq/44/smp_affinity_list", "1"),
    ]);
    assert!(named.finding("irqs-eno2").text.starts_with("43 "));
}

#[test]
fn where_every_cpu_serves_that_is_said_first() {
    let machine = Machine::in_good_order();
    let (code, findings) = machine.findings(&[]);
    // CPU 0 is one of them now, and much of it was given to others.
    assert_eq!((code, findings["steal"].level.as_str()), (Some(1), "bad"), "{findings:#?}");
    let mend = |thing: &str| findings[thing].mend.clone().unwrap_or_default();
    assert_eq!(mend("spare-cpus"), "SHARDS=7 SHARD_CPUS=1-7 CONTROL_CPU=0");
    assert_eq!(mend("smt"), "SHARD_CPUS=0-3 SHARDS=4");
    assert!(mend("irqs-eth0").contains("spare-cpus"));
    assert_eq!(mend("watchdog"), "sysctl -w kernel.watchdog=0");
    assert_eq!((mend("autogroup"), mend("short-turns")), (String::new(), String::new()));
}

/// With spare CPUs nobody else is where cores serve.
#[test]
fn how_a_cpu_is_shared_matters_where_it_is() {
    let old =
        [("proc/sys/kernel/sched_autogroup_enabled", "1"), ("proc/sys/kernel/osrelease", "6.8.0-31-generic")];
    let machine = Machine::in_good_order().with(&old);
    let (_, apart) = machine.findings(&SERVING);
    let (_, together) = machine.findings(&[]);
    for (thing, mend) in [("autogroup", "sched_autogroup_enabled=0"), ("short-turns", "newer kernel")] {
        assert_eq!((apart[thing].level.as_str(), together[thing].level.as_str()), ("ok", "warn"), "{thing}");
        assert!(together[thing].mend.as_ref().is_some_and(|said| said.contains(mend)), "{thing}");
    }
    machine.mend(together["autogroup"].mend.as_ref().expect("looked at"));
    assert_eq!(machine.findings(&[]).1["autogroup"].level, "ok");
}

#[test]
fn what_is_not_there_is_unknown_and_no_failure() {
    let (code, findings) = Machine::empty().findings(&["--cpus", "0-1,5"]);
    assert_eq!(code, Some(0), "{findings:#?}");
    assert!(findings.values().all(|finding| finding.level == "unknown"), "{findings:#?}");
    assert!(findings.len() >= 30);
}

#[test]
fn wrong_usage_is_said_with_exit_code_2() {
    let machine = Machine::in_good_order();
    for (arguments, reason) in [
        (["--cpus", "x"], "x is no list"),
        (["--cpus", "3-1"], "3-1 is no list"),
        (["--cpus", "1,"], "1, is no list"),
        (["--cpus", "7-8"], "CPU 8 is not online"),
        (["--cpus", ""], "needs a value"),
        (["--root", "/nowhere/at/all"], "is no directory"),
        (["--fix", "all"], "--fix"),
    ] {
        let output = machine.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(reason) && said.contains("usage: "), "{arguments:?}: {said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    }
    let help = check(&["--help"]);
    let said = String::from_utf8_lossy(&help.stdout).into_owned();
    assert_eq!(help.status.code(), Some(0));
    assert!(
        said.contains("--cpus LIST") && said.contains("cp -rL --parents") && said.ends_with("2 usage.\n"),
        "{said}"
    );
}

#[test]
fn this_machine_can_be_judged() {
    let output = check(&[]);
    let said = String::from_utf8(output.stdout).expect("it writes text");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{said}");
    let bad = parse(&said).values().any(|finding| finding.level == "bad");
    assert_eq!(output.status.code(), Some(i32::from(bad)), "{said}");
}

//! Every default and every refusal.

use super::*;
use crate::config::{LogKind, Mechanism, Secret};

fn machine() -> Machine {
    Machine {
        cpus: vec![0, 1, 2, 3],
        parallelism: 4,
        open_files: Some(1 << 20),
        memory: 8 << 30,
        host_name: "edge-7".to_owned(),
        db_path: Some(PathBuf::from("/var/firescroll/dbs")),
    }
}

fn check(change: impl FnOnce(&mut RawConfig)) -> Result<Config, ConfigError> {
    let mut raw = RawConfig::default();
    change(&mut raw);
    Config::validate_on(&raw, &machine())
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

/// The problems as text, one a line.
fn refusals(change: impl FnOnce(&mut RawConfig)) -> Vec<String> {
    check(change).expect_err("these settings are wrong").problems.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_given_is_the_documented_defaults() {
    let config = check(|_| {}).expect("defaults are good");
    let expected = Config {
        log: LogKind::Embedded,
        cluster: Cluster {
            namespace: "default".to_owned(),
            region: "local".to_owned(),
            replica_group: "default".to_owned(),
            instance_id: "edge-7".to_owned(),
            partitions: NonZeroU32::new(256).expect("not zero"),
        },
        cores: Cores {
            shard_cpus: vec![0, 1, 2, 3],
            control_cpu: None,
            busy_poll: Duration::ZERO,
            allowed: vec![0, 1, 2, 3],
        },
        storage: Storage {
            db_path: "/var/firescroll/dbs".into(),
            disk_reserve_bytes: 256 << 20,
            cache_bytes: 64 << 20,
            store_cache_bytes: 256 << 20,
            log_retention: None,
            max_message_bytes: 1_048_576,
            log_ack_timeout: Duration::from_secs(10),
        },
        http: Http {
            api: "0.0.0.0:8190".parse().expect("an address"),
            internal: "127.0.0.1:8191".parse().expect("an address"),
            max_connections: 10_000,
            max_requests: 4096,
            max_body_bytes: 8_388_608,
            max_response_bytes: 67_108_864,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            gzip: false,
            cors: true,
        },
        shutdown: Shutdown { sleep: Duration::ZERO, timeout: Duration::from_secs(30) },
        debug: false,
        notes: Vec::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn empty_and_blank_values_count_as_unset() {
    let config = check(|raw| {
        raw.namespace = text("");
        raw.partitions = text("  ");
        raw.kafka_seeds = text("");
        raw.gossip_peers = text("");
        raw.kafka_pass = "".parse::<Secret>().ok();
        raw.db_path = Some("".into());
        raw.debug = text("");
    });
    assert_eq!(config, check(|_| {}));
}

#[test]
fn given_values_are_taken() {
    let config = check(|raw| {
        raw.namespace = text("cdn");
        raw.shards = text("2");
        raw.control_cpu = text("3");
        raw.topic_retention_ms = text("604800000");
        raw.cache_mb = text("0");
        raw.api_addr = text("::1");
        raw.api_port = text("80");
        raw.http_gzip = text("TRUE");
        raw.http_cors = text("false");
        raw.debug = text("1");
        raw.shutdown_sleep_sec = text("7");
    })
    .expect("these are good");
    assert_eq!(config.cluster.namespace, "cdn");
    assert_eq!(config.cores.shard_cpus, [0, 1]);
    assert_eq!(config.cores.shards().get(), 2);
    assert_eq!(config.cores.control_cpu, Some(3));
    assert_eq!(config.storage.log_retention, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(config.storage.cache_bytes, 0);
    assert_eq!(config.http.api.to_string(), "[::1]:80");
    assert!(config.http.gzip && !config.http.cors && config.debug);
    assert_eq!(config.shutdown.sleep, Duration::from_secs(7));
}

#[test]
fn retention_of_minus_one_keeps_everything() {
    let config = check(|raw| raw.topic_retention_ms = text("-1")).expect("Kafka's way to say so");
    assert_eq!(config.storage.log_retention, None);
}

#[test]
fn both_ports_may_be_left_to_the_kernel() {
    let config = check(|raw| {
        raw.api_port = text("0");
        raw.internal_port = text("0");
    })
    .expect("two free ports are never the same");
    assert_eq!((config.http.api.port(), config.http.internal.port()), (0, 0));
}

#[test]
fn a_relative_directory_becomes_absolute() {
    let config = check(|raw| raw.db_path = Some("dbs".into())).expect("a good path");
    assert!(config.storage.db_path.is_absolute() && config.storage.db_path.ends_with("dbs"));
}

#[test]
fn a_user_without_any_place_must_name_one() {
    let homeless = Machine { db_path: None, ..machine() };
    let error = Config::validate_on(&RawConfig::default(), &homeless).expect_err("nowhere to write");
    assert!(error.to_string().contains("DB_PATH (--db-path): this user has no home"), "{error}");
}

#[test]
fn a_host_name_that_is_no_name_is_reported_as_the_instance() {
    let unnamed = Machine { host_name: String::new(), ..machine() };
    let error = Config::validate_on(&RawConfig::default(), &unnamed).expect_err("no instance");
    assert!(error.to_string().contains("INSTANCE_ID (--instance-id) is \"\": accepted: 1 to 200"), "{error}");
}

#[test]
fn a_cpu_quota_bounds_the_default_shards() {
    let small = Machine { parallelism: 2, ..machine() };
    let config = Config::validate_on(&RawConfig::default(), &small).expect("good");
    assert_eq!(config.cores.shard_cpus, [0, 1]);
    assert_eq!(config.cores.allowed, [0, 1, 2, 3]);
}

#[test]
fn a_cpu_list_gives_the_shards_their_places() {
    let config = check(|raw| raw.shard_cpus = text("3,1-2")).expect("good");
    assert_eq!(config.cores.shard_cpus, [1, 2, 3]);
}

#[test]
fn more_shards_than_cpus_share_them_in_turn() {
    let config = check(|raw| raw.shards = text("6")).expect("good");
    assert_eq!(config.cores.shard_cpus, [0, 1, 2, 3, 0, 1]);
}

#[test]
fn the_default_of_connections_gives_way_to_the_limit_of_files() {
    let narrow = Machine { open_files: Some(4096), ..machine() };
    let config = Config::validate_on(&RawConfig::default(), &narrow).expect("good");
    assert_eq!(config.http.max_connections, 4096 - 4 * 512 - 128);
    assert_eq!(config.http.connections_per_shard(config.cores.shards()), 480);
    assert_eq!(config.notes.len(), 1);
    assert!(config.notes[0].contains("limit of open files is 4096"), "{:?}", config.notes);

    let asked = RawConfig { max_connections: text("5000"), ..RawConfig::default() };
    let error = Config::validate_on(&asked, &narrow).expect_err("too many");
    assert!(error.to_string().contains("accepted: up to 1920"), "{error}");

    let tiny = Machine { open_files: Some(256), ..machine() };
    let error = Config::validate_on(&RawConfig::default(), &tiny).expect_err("too few for the stores");
    assert!(error.to_string().contains("RLIMIT_NOFILE) is 256"), "{error}");

    let unlimited = Machine { open_files: None, ..machine() };
    assert_eq!(Config::validate_on(&asked, &unlimited).expect("good").http.max_connections, 5000);
}

#[test]
fn services_that_this_build_lacks_are_refused_and_not_ignored() {
    assert_eq!(
        refusals(|raw| {
            raw.gossip_peers = text("10.0.0.2:8192,[::1]:8192");
            raw.backup = text("1");
            raw.s3_restore = text("true");
        }),
        [
            "GOSSIP_PEERS (--gossip-peers) is \"10.0.0.2:8192,[::1]:8192\": this build has no gossip between \
             nodes yet: unset it to run one node on its own",
            "BACKUP (--backup) is \"1\": this build has no backups to S3 yet: set it to 0, and use \
             `firescroll export`",
            "S3_RESTORE (--s3-restore) is \"true\": this build has no backups to S3 yet: set it to 0, and use \
             `firescroll import`",
        ]
    );
}

#[test]
fn settings_without_effect_are_noted() {
    let config = check(|raw| {
        raw.advertise_addr = text("10.0.0.1");
        raw.kafka_tls = text("1");
        raw.s3_endpoint = text("http://minio:9000");
    })
    .expect("harmless");
    assert_eq!(config.notes.len(), 3);
}

#[test]
fn seeds_make_the_log_kafka_and_want_a_region() {
    let told = refusals(|raw| raw.kafka_seeds = text("kafka:9092"));
    assert!(told.len() == 1 && told[0].starts_with("REGION (--region)"), "{told:?}");
    let config = check(|raw| {
        raw.kafka_seeds = text("a:9092, b:9093");
        raw.region = text("eu");
        raw.kafka_tls = text("1");
        raw.kafka_tls_ca_path = text("/ca.pem");
        raw.kafka_user = text("me");
        raw.kafka_pass = "hunter2".parse().ok();
        raw.kafka_sasl_mechanism = text("SCRAM-SHA-512");
    })
    .expect("good settings");
    let LogKind::Kafka(kafka) = &config.log else { panic!("not Kafka") };
    assert_eq!(kafka.seeds, "a:9092, b:9093");
    assert_eq!((kafka.tls, kafka.tls_ca.as_deref()), (true, Some(std::path::Path::new("/ca.pem"))));
    assert_eq!((kafka.mechanism, kafka.rack.as_str()), (Mechanism::Sha512, "eu"));
    assert_eq!(kafka.session, Duration::from_secs(60));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn kafka_settings_that_need_each_other_are_refused_alone() {
    assert_eq!(
        refusals(|raw| {
            raw.kafka_tls_ca_path = text("/ca.pem");
            raw.kafka_user = text("me");
        }),
        [
            "KAFKA_TLS_CA_PATH (--kafka-tls-ca-path) is \"/ca.pem\": is used with KAFKA_TLS=1 only: set both \
             or neither",
            "KAFKA_USER (--kafka-user) is \"me\": is used together with KAFKA_PASS only: set both or neither",
        ]
    );
}

#[test]
fn a_password_is_never_printed() {
    let mut raw = RawConfig { kafka_pass: "hunter2".parse().ok(), ..RawConfig::default() };
    raw.kafka_pass = "hunter2".parse::<Secret>().ok();
    assert!(!format!("{raw:?}").contains("hunter2"));
    let error = Config::validate_on(&raw, &machine()).expect_err("a password without a user");
    assert!(!error.to_string().contains("hunter2") && error.to_string().contains("KAFKA_PASS"), "{error}");
}

#[test]
fn ports_and_sizes_that_contradict_each_other_are_refused() {
    assert_eq!(
        refusals(|raw| {
            raw.internal_port = text("8190");
            raw.max_response_bytes = text("65536");
        }),
        [
            "INTERNAL_PORT (--internal-port) is \"8190\": API_PORT is the same: clients must not reach the \
             internal port; accepted: another one",
            "MAX_RESPONSE_BYTES (--max-response-bytes) is \"65536\": a record of MAX_MESSAGE_BYTES (1048576) \
             could be written and not be read; accepted: at least that",
        ]
    );
}

#[test]
fn shards_and_cpus_that_do_not_fit_are_refused() {
    let only = |change: fn(&mut RawConfig)| refusals(change).join("; ");
    assert!(only(|raw| raw.shard_cpus = text("0,9")).contains("accepted: CPUs of 0-3"));
    assert!(only(|raw| raw.shard_cpus = text("2-")).contains("no CPU number"));
    assert!(only(|raw| raw.control_cpu = text("4")).contains("accepted: one CPU of 0-3"));
    assert!(only(|raw| raw.shards = text("0")).contains("accepted: 1 to 1024 shards"));
    let both = only(|raw| {
        raw.shards = text("3");
        raw.shard_cpus = text("0,1");
    });
    assert!(both.contains("SHARD_CPUS lists 2 CPUs; accepted: one for each shard"), "{both}");
    let fewer = only(|raw| {
        raw.shards = text("4");
        raw.max_connections = text("3");
    });
    assert!(fewer.contains("at least one for each of the 4 shards"), "{fewer}");
}

/// One wrong value for every setting that has a form of its own, all at once: each must be named.
#[test]
fn all_wrong_values_are_reported_together() {
    let error = check(|raw| {
        for name in [&mut raw.namespace, &mut raw.region, &mut raw.replica_group, &mut raw.instance_id] {
            *name = text("not/a name");
        }
        raw.kafka_rack = text("not a rack");
        raw.advertise_addr = text("not a host");
        raw.gossip_peers = text("no-port");
        raw.kafka_seeds = text("no-port");
        raw.api_addr = text("localhost");
        raw.internal_addr = text("1.2.3");
        raw.s3_endpoint = text("ftp://x");
        for number in [
            &mut raw.partitions,
            &mut raw.gossip_broadcast_ms,
            &mut raw.gossip_port,
            &mut raw.kafka_session_ms,
            &mut raw.kafka_sasl_mechanism,
            &mut raw.kafka_connect_timeout_ms,
            &mut raw.topic_retention_ms,
            &mut raw.max_message_bytes,
            &mut raw.log_ack_timeout_ms,
            &mut raw.disk_reserve_mb,
            &mut raw.cache_mb,
            &mut raw.store_cache_mb,
            &mut raw.shards,
            &mut raw.api_port,
            &mut raw.internal_port,
            &mut raw.max_connections,
            &mut raw.max_requests,
            &mut raw.max_body_bytes,
            &mut raw.max_response_bytes,
            &mut raw.head_timeout_ms,
            &mut raw.body_timeout_ms,
            &mut raw.idle_timeout_ms,
            &mut raw.write_timeout_ms,
            &mut raw.backup_interval_sec,
            &mut raw.backup_timeout_sec,
            &mut raw.shutdown_sleep_sec,
            &mut raw.shutdown_timeout_sec,
            &mut raw.kafka_tls,
            &mut raw.http_gzip,
            &mut raw.http_cors,
            &mut raw.backup,
            &mut raw.s3_restore,
            &mut raw.debug,
        ] {
            *number = text("-7");
        }
    })
    .expect_err("all of it is wrong");
    let mut named: Vec<&str> = error.problems.iter().map(|problem| problem.variable).collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), 44, "{error}");
    for problem in &error.problems {
        assert!(problem.value.is_some(), "{problem}");
    }
}

#[test]
fn numbers_are_bounded_on_both_sides() {
    for (change, accepted) in [
        (
            (|raw: &mut RawConfig| raw.partitions = text("65537")) as fn(&mut RawConfig),
            "1 to 65536 partitions",
        ),
        (|raw| raw.partitions = text("0"), "1 to 65536 partitions"),
        (|raw| raw.api_port = text("65536"), "0 to 65535 (a port; 0 takes a free one)"),
        (|raw| raw.head_timeout_ms = text("0"), "1 to 3600000 milliseconds"),
        (|raw| raw.idle_timeout_ms = text("3600001"), "1 to 3600000 milliseconds"),
        (|raw| raw.max_message_bytes = text("1023"), "1024 to 33554432 bytes"),
        (|raw| raw.store_cache_mb = text("0"), "1 to 1048576 MiB"),
        (|raw| raw.shutdown_timeout_sec = text("0"), "1 to 86400 seconds"),
        (|raw| raw.topic_retention_ms = text("0"), "milliseconds, or -1 to keep everything"),
    ] {
        let told = refusals(change).join("; ");
        assert!(told.contains(accepted), "{told}");
    }
}

//! The names that all nodes of a namespace agree on.

/// The topic of the mutations.
#[must_use]
pub fn mutations_topic(namespace: &str) -> String {
    format!("firescroll_{namespace}_mutations")
}

/// The topic that records how many partitions the namespace was made with.
#[must_use]
pub fn partitions_topic(namespace: &str) -> String {
    format!("firescroll_{namespace}_partitions")
}

/// The consumer group of one copy of the data.
#[must_use]
pub fn group(namespace: &str, region: &str, replica_group: &str) -> String {
    format!("firescroll_{namespace}__{region}__{replica_group}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_that_clusters_already_have() {
        assert_eq!(mutations_topic("dns"), "firescroll_dns_mutations");
        assert_eq!(partitions_topic("dns"), "firescroll_dns_partitions");
        assert_eq!(group("dns", "eu", "a"), "firescroll_dns__eu__a");
    }
}

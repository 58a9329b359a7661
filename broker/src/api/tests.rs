//! The table against the message definitions, and the page made from it.

use std::fmt::Write as _;

use kafka_protocol::protocol::{Message, Request};

use super::*;

pub(super) mod by_hand;
mod data;
mod replication;

#[test]
fn rows_ascend_and_name_the_api_of_their_request() {
    assert!(APIS.windows(2).all(|pair| pair[0].key < pair[1].key));
    let mut rows = APIS.iter();
    macro_rules! check {
        ($file:ident $request:ident) => {
            let row = rows.next().expect("a row for each type");
            assert_eq!(row.key, <$request as Request>::KEY, "{}", row.name);
            assert_eq!(format!("{}Request", row.name), stringify!($request));
            let known = <$request as Message>::VERSIONS;
            assert!(
                known.min <= row.min_version && row.max_version <= known.max,
                "{}: {known}",
                row.name
            );
        };
    }
    each_api!(check);
    assert!(rows.next().is_none());
}

/// Kafka 3.9's own ranges; a row may come later, but never with another range.
#[test]
fn versions_offered_are_those_of_kafka() {
    for api in APIS {
        let mut version = api.min_version;
        assert_eq!(version, 0, "{}", api.name);
        while crate::net::guard::knows(crate::net::guard::Direction::Request, api.key, version) {
            version += 1;
        }
        assert_eq!(version - 1, api.max_version, "{}", api.name);
    }
}

fn page() -> String {
    let mut page = String::from(
        "# APIs\n\n\
         What ApiVersions offers, made from the table in `broker/src/api/mod.rs`.\n\n\
         | Key | API | Versions |\n|---:|---|---|\n",
    );
    for api in APIS {
        writeln!(
            page,
            "| {} | {} | {}–{} |",
            api.key, api.name, api.min_version, api.max_version
        )
        .expect("a String takes everything");
    }
    page
}

#[test]
fn the_page_of_apis_is_that_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/apis.md");
    let expected = page();
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found != expected {
        std::fs::write(path, &expected).unwrap();
        panic!("docs/apis.md differed from the table and was written anew; look at it, commit it");
    }
}

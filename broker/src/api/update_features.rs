//! UpdateFeatures (key 57), v0–1: finalized features (KIP-584). v1 upgrade types and validate_only,
//! which a ZooKeeper cluster ignores.
//!
//! A broker of 3.9 with ZooKeeper supports no feature, so that only the removal of one that an
//! earlier version left in `/feature` can succeed; everything else is told why not.
//!
//! Source: `KafkaController.processFeatureUpdates`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use kafka_protocol::protocol::StrBytes;
use tracing::warn;

use crate::error::ErrorCode;
use crate::zk::data::Feature;
use crate::zk::{self, paths};

use super::context::Context;

pub async fn handle(cx: &Context<'_>, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    if !cx.rooms.controller.is_active() {
        return refuse(&request, ErrorCode::NotController);
    }
    let (existing, version) = match read(cx).await {
        Ok(found) => found,
        Err(failure) => {
            warn!(target: "kafka.controller.KafkaController", "Processing of feature updates failed due to error: {failure}");
            return refuse(&request, ErrorCode::FeatureUpdateFailed);
        }
    };
    let mut target = existing.clone();
    let mut results: Vec<(StrBytes, Result<(), String>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for update in &request.feature_updates {
        if !seen.insert(&update.feature) {
            continue;
        }
        let name = update.feature.as_str();
        let result = check(cx.version, update, existing.get(name).copied());
        if result.is_ok() {
            target.remove(name);
        }
        results.push((update.feature.clone(), result));
    }
    let mut written = true;
    if target != existing
        && let Err(failure) = write(cx, target, version).await
    {
        warn!(target: "kafka.controller.KafkaController", "Processing of feature updates failed due to error: {failure}");
        written = false;
    }
    let results = results.into_iter().map(|(feature, result)| {
        let (code, message) = match result {
            Ok(()) if written => (ErrorCode::None, None),
            Ok(()) => {
                let code = ErrorCode::FeatureUpdateFailed;
                (code, Some(code.message().to_owned()))
            }
            Err(message) => (ErrorCode::InvalidRequest, Some(message)),
        };
        UpdatableFeatureResult::default()
            .with_feature(feature)
            .with_error_code(code.value())
            .with_error_message(message.map(StrBytes::from_string))
    });
    UpdateFeaturesResponse::default()
        .with_error_message(None)
        .with_results(results.collect())
}

pub fn refuse(_: &UpdateFeaturesRequest, code: ErrorCode) -> UpdateFeaturesResponse {
    UpdateFeaturesResponse::default()
        .with_error_code(code.value())
        .with_error_message(Some(StrBytes::from_static_str(code.message())))
}

/// Finalized levels by feature, and the version of the node that holds them.
async fn read(cx: &Context<'_>) -> Result<(BTreeMap<String, i16>, i32), zk::Error> {
    let (data, stat) = cx.rooms.store.get(paths::FEATURE).await?;
    let features = Feature::decode(&data).map(|feature| feature.features);
    Ok((features.unwrap_or_default(), stat.version))
}

/// This broker tells the new epoch at once; the others when they see the node change.
async fn write(
    cx: &Context<'_>,
    features: BTreeMap<String, i16>,
    version: i32,
) -> Result<(), zk::Error> {
    let node = Feature {
        enabled: true,
        features,
    };
    let set = cx
        .rooms
        .store
        .set(paths::FEATURE, node.encode(), Some(version));
    let epoch = i64::from(set.await?.version);
    cx.rooms.cluster.set_features_epoch(epoch);
    Ok(())
}

/// `Ok` only for the removal of a feature that is there. Texts are Kafka's.
fn check(version: i16, update: &FeatureUpdateKey, existing: Option<i16>) -> Result<(), String> {
    const UPGRADE: i8 = 1;
    const SAFE_DOWNGRADE: i8 = 2;
    const UNSAFE_DOWNGRADE: i8 = 3;
    let upgrade_type = match version {
        0 if update.allow_downgrade => SAFE_DOWNGRADE,
        0 => UPGRADE,
        _ => update.upgrade_type,
    };
    let level = update.max_version_level;
    if update.feature.is_empty() {
        return Err("Feature name can not be empty.".to_owned());
    }
    if !matches!(upgrade_type, UPGRADE | SAFE_DOWNGRADE | UNSAFE_DOWNGRADE) {
        return Err("Received unknown upgrade type.".to_owned());
    }
    if level < 1 && upgrade_type != UPGRADE {
        return match existing {
            Some(_) => Ok(()),
            None => Err("Can not delete non-existing finalized feature.".to_owned()),
        };
    }
    if level < 1 {
        return Err(format!(
            "Can not provide versionLevel: {level} less than 1 without setting the SAFE downgradeType in the request."
        ));
    }
    if let Some(existing) = existing {
        if level == existing {
            let what = if upgrade_type == SAFE_DOWNGRADE {
                "downgrade"
            } else {
                "upgrade"
            };
            return Err(format!(
                "Can not {what} a finalized feature from existing versionLevel:{existing} to the same value."
            ));
        }
        if level < existing && upgrade_type != SAFE_DOWNGRADE {
            return Err(format!(
                "Can not downgrade finalized feature from existing versionLevel:{existing} to provided versionLevel:{level} without setting the downgradeType to SAFE in the request."
            ));
        }
        if level > existing && upgrade_type != UPGRADE {
            return Err(format!(
                "When the downgradeType is set to SAFE in the request, the provided versionLevel:{level} can not be greater than existing versionLevel:{existing}."
            ));
        }
    }
    Err(
        "Could not apply finalized feature update because the provided feature is not supported."
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_refused_in_kafkas_words_and_only_removals_pass() {
        let check = |feature: &str, level, upgrade_type, existing, expect: &str| {
            let update = FeatureUpdateKey::default()
                .with_feature(StrBytes::from_string(feature.to_owned()))
                .with_max_version_level(level)
                .with_upgrade_type(upgrade_type);
            let result = check(1, &update, existing);
            let shown = result.err().unwrap_or_default();
            assert!(
                if expect.is_empty() {
                    shown.is_empty()
                } else {
                    shown.contains(expect)
                },
                "{feature} to {level} ({upgrade_type}) from {existing:?}: {shown}"
            );
        };
        check("", 1, 1, None, "name can not be empty");
        check("f", 1, 0, None, "unknown upgrade type");
        check("f", 0, 2, None, "non-existing");
        check("f", 0, 2, Some(3), "");
        check("f", 0, 3, Some(3), "");
        check("f", 0, 1, Some(3), "less than 1");
        check("f", 3, 2, Some(3), "Can not downgrade a finalized feature");
        check("f", 2, 1, Some(3), "without setting the downgradeType");
        check("f", 4, 2, Some(3), "can not be greater");
        check("f", 4, 1, Some(3), "not supported");
        check("f", 1, 1, None, "not supported");
    }

    #[test]
    fn version_0_says_downgrade_by_a_flag() {
        let update = FeatureUpdateKey::default()
            .with_feature(StrBytes::from_static_str("f"))
            .with_allow_downgrade(true);
        assert_eq!(check(0, &update, Some(3)), Ok(()));
    }
}

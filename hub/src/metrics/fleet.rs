//! The fleet as the store has it: read before a scrape, at most every 15 s, and seldom enough that counting takes the
//! database a fiftieth of its time at most, up to a minute; and told with its age.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use flotilla_core::status::Readiness;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};
use time::OffsetDateTime;

use crate::store::{
    Store,
    figures::{Figures, ObjectFigure},
};

/// Scrapes within this long are told the same.
const FRESH: Duration = Duration::from_secs(15);
/// And within so many times as long as it took to count, where that is longer,
const SHARE: u32 = 50;
/// but no longer than this.
const STALE: Duration = Duration::from_secs(60);
/// A scrape does not wait for longer: it is told what was counted last, and its age.
const WITHIN: Duration = Duration::from_secs(5);

/// The fleet in numbers. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    store: Store,
    counted: Arc<Mutex<Option<Counted>>>,
    /// One count at a time.
    counting: Arc<tokio::sync::Mutex<()>>,
}

struct Counted {
    at: Instant,
    /// For so long it is told.
    fresh: Duration,
    figures: Figures,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fleet")
    }
}

impl Fleet {
    /// Counts in this store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            counted: Arc::default(),
            counting: Arc::default(),
        }
    }

    /// Counts anew, unless that was done just now or cannot be done.
    pub async fn measure(&self) {
        let counting = async {
            let _one = self.counting.lock().await;
            let is_fresh = |counted: &Counted| counted.at.elapsed() < counted.fresh;
            if self.lock().as_ref().is_some_and(is_fresh) {
                return;
            }
            let began = Instant::now();
            match self.store.figures().await {
                Ok(figures) => {
                    let fresh = (began.elapsed() * SHARE).clamp(FRESH, STALE);
                    let at = Instant::now();
                    *self.lock() = Some(Counted { at, fresh, figures });
                }
                Err(error) => tracing::warn!(%error, "the fleet could not be counted for monitoring"),
            }
        };
        let _ = tokio::time::timeout(WITHIN, counting).await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Fleet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counted = self.lock();
        let Some(Counted { at, figures, .. }) = counted.as_ref() else {
            return Ok(());
        };
        let mut families = Families(&mut encoder);
        families.gauge(
            "flotilla_figures_age_seconds",
            "How old the figures of the fleet are",
            [(NO_LABELS, at.elapsed().as_secs_f64())],
        )?;
        families.gauge(
            "flotilla_clusters",
            "Clusters by state, and whether their agent is connected",
            figures.clusters.iter().map(|(state, connected, count)| {
                let connected = if *connected { "true" } else { "false" };
                (
                    vec![("state", state.as_str()), ("connected", connected)],
                    float(*count),
                )
            }),
        )?;
        families.gauge(
            "flotilla_clusters_troubled",
            "Clusters that are not as they should be, by what is wrong",
            figures
                .troubled
                .iter()
                .map(|(kind, count)| (vec![("condition", kind.as_str())], float(*count))),
        )?;
        families.gauge(
            "flotilla_units",
            "Apps on clusters, by readiness",
            figures.units.iter().map(|(status, count)| {
                (
                    vec![("ready", status.as_str())],
                    float(i64::try_from(*count).unwrap_or(i64::MAX)),
                )
            }),
        )?;
        families.gauge(
            "flotilla_rollouts_progressing",
            "Rollouts under way",
            [(NO_LABELS, float(figures.rollouts))],
        )?;
        families.gauge(
            "flotilla_rollout_oldest_timestamp_seconds",
            "When the oldest rollout under way began",
            figures.oldest_rollout.map(|at| (NO_LABELS, seconds(at))),
        )?;
        families.gauge(
            "gotk_resource_info",
            "Apps and sources with their state",
            figures.objects.iter().map(|object| (info(object), 1.0)),
        )?;
        families.gauge(
            "gotk_suspend_status",
            "Whether an object is suspended",
            figures
                .objects
                .iter()
                .map(|object| (named(object), f64::from(u8::from(object.suspended)))),
        )?;
        families.gauge(
            "gotk_reconcile_condition",
            "Whether an object's Ready condition has a status",
            figures.objects.iter().flat_map(conditions),
        )?;
        families.gauge(
            "flotilla_source_failures",
            "Fetches of a source that failed in a row",
            figures
                .objects
                .iter()
                .filter_map(|object| Some((named(object), f64::from(object.fetched?.0)))),
        )?;
        families.gauge(
            "flotilla_source_probed_timestamp_seconds",
            "When a source was looked at last",
            figures
                .objects
                .iter()
                .filter_map(|object| Some((named(object), seconds(object.fetched?.1?)))),
        )
    }
}

type Labels<'a> = Vec<(&'a str, &'a str)>;
const NO_LABELS: Labels<'static> = Vec::new();

fn named(object: &ObjectFigure) -> Labels<'_> {
    let mut labels = vec![
        ("kind", object.kind.as_str()),
        ("exported_namespace", &object.namespace),
        ("name", &object.name),
    ];
    if !object.scope.is_empty() {
        labels.push(("cluster", &object.scope));
    }
    labels
}

fn conditions(object: &ObjectFigure) -> impl Iterator<Item = (Labels<'_>, f64)> {
    let each = [Readiness::True, Readiness::False, Readiness::Unknown];
    each.into_iter().map(|status| {
        let mut labels = named(object);
        labels.extend([("type", "Ready"), ("status", status.as_str())]);
        (labels, f64::from(u8::from(object.ready == status)))
    })
}

fn info(object: &ObjectFigure) -> Labels<'_> {
    let mut labels = vec![
        ("customresource_group", object.group.as_str()),
        ("customresource_kind", &object.kind),
        ("exported_namespace", &object.namespace),
        ("name", &object.name),
        ("ready", object.ready.as_str()),
        ("suspended", if object.suspended { "true" } else { "false" }),
        ("revision", &object.revision),
    ];
    if !object.scope.is_empty() {
        labels.push(("cluster", &object.scope));
    }
    labels
}

fn seconds(at: OffsetDateTime) -> f64 {
    (at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64()
}

fn float(count: i64) -> f64 {
    f64::from(i32::try_from(count).unwrap_or(i32::MAX))
}

/// Writes families of one kind.
struct Families<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Families<'_, '_> {
    fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> Result<(), fmt::Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            let gauge = ConstGauge::new(value);
            match labels.is_empty() {
                // A family without labels is one value.
                true => return gauge.encode(family),
                false => gauge.encode(family.encode_family(&labels)?)?,
            }
        }
        Ok(())
    }
}

//! Merges configurations one after another: each field is compared with those that may cover it, and what was merged
//! is sorted once.
//!
//! kustomize sorts behind each file, so that a field is compared with those of earlier files in their sorted order, and
//! with those of its own file as they come.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

use super::{Config, NameReference, compare};
use crate::kustomize::error::{Result, invalid, shortened};
use crate::kustomize::fieldspec::FieldSpec;
use crate::kustomize::id::GvkPattern;
use crate::kustomize::steps::Steps;

/// How many lists of fields a configuration has.
pub(super) const LISTS: usize = 10;

/// A configuration that others are merged into.
pub(crate) struct Merger {
    config: Config,
    lists: [Index; LISTS],
    /// Where the fields stand that refer to a type.
    places: Option<HashMap<GvkPattern, usize>>,
    referrers: Vec<Index>,
    /// How many configurations came.
    round: usize,
}

impl Merger {
    pub(crate) fn new(config: Config) -> Merger {
        Merger {
            config,
            lists: Default::default(),
            places: None,
            referrers: Vec::new(),
            round: 0,
        }
    }

    /// Adds the fields of another configuration.
    pub(crate) fn add(&mut self, other: &Config, steps: &Steps<'_>) -> Result<()> {
        self.round += 1;
        let lists = self.config.lists_mut().into_iter().zip(&mut self.lists);
        for ((list, index), incoming) in lists.zip(other.lists()) {
            index.merge(list, incoming, Order::Sorted(self.round), steps)?;
        }
        self.refer(&other.name_reference, steps)
    }

    /// Adds fields that refer to types, those of one type together.
    fn refer(&mut self, references: &[NameReference], steps: &Steps<'_>) -> Result<()> {
        if references.is_empty() {
            return Ok(());
        }
        let all = &mut self.config.name_reference;
        steps.spend(references.len())?;
        if self.places.is_none() {
            steps.spend(all.len())?;
            self.referrers.resize_with(all.len(), Index::default);
        }
        let places = self.places.get_or_insert_with(|| {
            let known = all.iter().enumerate();
            known.map(|(at, known)| (known.gvk.clone(), at)).collect()
        });
        for reference in references {
            match places.get(&reference.gvk) {
                Some(at) => {
                    let list = &mut all[*at].referrers;
                    self.referrers[*at].merge(list, &reference.referrers, Order::AsTheyCame, steps)?;
                }
                None => {
                    places.insert(reference.gvk.clone(), all.len());
                    all.push(reference.clone());
                    self.referrers.push(Index::default());
                }
            }
        }
        Ok(())
    }

    /// Returns the whole, sorted.
    pub(crate) fn finish(mut self) -> Config {
        self.config.sort();
        self.config
    }
}

/// Adds fields that the list does not cover yet; the same field may not be created here and only followed there.
pub(crate) fn merge_all(list: &mut Vec<FieldSpec>, incoming: &[FieldSpec], steps: &Steps<'_>) -> Result<()> {
    Index::default().merge(list, incoming, Order::AsTheyCame, steps)
}

/// In which order a field is compared with those that are known.
#[derive(Clone, Copy)]
enum Order {
    AsTheyCame,
    /// Those of earlier rounds are sorted, from the second on.
    Sorted(usize),
}

/// The fields of a list by path and kind; those of any kind of a path under no kind. Made when something is merged.
#[derive(Default)]
struct Index(Option<HashMap<Key, Bucket>>);

impl Index {
    fn merge(
        &mut self,
        list: &mut Vec<FieldSpec>,
        incoming: &[FieldSpec],
        order: Order,
        steps: &Steps<'_>,
    ) -> Result<()> {
        if incoming.is_empty() {
            return Ok(());
        }
        steps.spend(incoming.len())?;
        if self.0.is_none() {
            steps.spend(list.len())?;
            self.0 = Some(HashMap::with_capacity(2 * list.len()));
            for (number, field) in list.iter().enumerate() {
                self.insert(field, number, Order::Sorted(0));
            }
        }
        for field in incoming {
            match self.covered(field, order, steps)? {
                Some(known) if known.create != field.create => {
                    return Err(invalid(format!(
                        "conflicting fieldspecs: '{}' is created where it is missing in one and not in the other",
                        shortened(&field.path)
                    )));
                }
                Some(_) => {}
                None => {
                    self.insert(field, list.len(), order);
                    list.push(field.clone());
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, field: &FieldSpec, number: usize, order: Order) {
        let buckets = self.0.get_or_insert_default();
        let known = Known {
            field: field.clone(),
            number,
        };
        if !field.gvk.kind.is_empty() {
            let of_kind = buckets.entry(Key::of(field)).or_default();
            of_kind.insert(known.clone(), order);
        }
        let of_any = buckets.entry(Key::of_any_kind(field)).or_default();
        of_any.insert(known, order);
    }

    /// Returns the first field that one covers; each that is compared is a step.
    fn covered(&mut self, field: &FieldSpec, order: Order, steps: &Steps<'_>) -> Result<Option<&FieldSpec>> {
        let Some(bucket) = self.0.as_mut().and_then(|all| all.get_mut(&Key::of(field))) else {
            return Ok(None);
        };
        bucket.settle(order);
        for known in bucket.sorted.iter().chain(&bucket.added) {
            steps.spend(1)?;
            if field.gvk.selects(known.field.gvk.as_gvk()) {
                return Ok(Some(&known.field));
            }
        }
        Ok(None)
    }
}

/// A path and a kind; none for those of any kind.
struct Key {
    field: FieldSpec,
    of_any_kind: bool,
}

impl Key {
    fn of(field: &FieldSpec) -> Key {
        Key {
            field: field.clone(),
            of_any_kind: false,
        }
    }

    fn of_any_kind(field: &FieldSpec) -> Key {
        Key {
            of_any_kind: true,
            ..Key::of(field)
        }
    }

    fn parts(&self) -> (&str, &str) {
        let kind = match self.of_any_kind {
            true => "",
            false => self.field.gvk.kind.as_str(),
        };
        (&self.field.path, kind)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Key {}

/// Fields of one path.
#[derive(Default)]
struct Bucket {
    /// Those of earlier rounds.
    sorted: BTreeSet<Known>,
    /// Those that came since, in their order.
    added: Vec<Known>,
    /// The round of the last of them.
    round: usize,
}

impl Bucket {
    fn insert(&mut self, known: Known, order: Order) {
        self.settle(order);
        if let Order::Sorted(round) = order {
            self.round = round;
        }
        self.added.push(known);
    }

    /// Sorts those of earlier rounds; what was there before the first is in the order of its list.
    fn settle(&mut self, order: Order) {
        if let Order::Sorted(round) = order
            && round > 1
            && self.round < round
        {
            self.sorted.extend(self.added.drain(..));
        }
    }
}

/// A field, and which of its list it is.
#[derive(Clone)]
struct Known {
    field: FieldSpec,
    number: usize,
}

impl Ord for Known {
    fn cmp(&self, other: &Known) -> Ordering {
        compare(&self.field.gvk, &other.field.gvk).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Known {
    fn partial_cmp(&self, other: &Known) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Known) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Known {}

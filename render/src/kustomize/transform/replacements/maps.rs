//! Where the fields of large maps stand, from replacement to replacement: many that each write one field of a map do not
//! look through it each time.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use smol_str::SmolStr;

use crate::kustomize::error::Result;
use crate::kustomize::fieldspec::NAMES_PER_STEP;
use crate::kustomize::steps::Steps;
use crate::kustomize::transform::paths::{Step, Trail};
use crate::yaml::node::{Content, Kind, Node};

/// Maps with more fields than this get an index.
const FEW: usize = 64;
/// What the index of a field takes, its name aside.
const BYTES_PER_NAME: usize = 2 * size_of::<(SmolStr, usize)>();

/// The indexes of the maps of objects, by the positions of these and the places that lead to the map.
#[derive(Default)]
pub(super) struct Maps(HashMap<usize, BTreeMap<Vec<usize>, Index>>);

/// The fields of a map.
struct Index {
    /// The first field of each name.
    places: HashMap<SmolStr, usize>,
    /// How many fields the map had.
    length: usize,
    bytes: usize,
}

/// What a path leads to that names fields only.
pub(super) enum Found {
    Node(Trail),
    /// A text at so many steps of the path.
    Text(Trail, usize),
    /// A map that lacks the last field.
    Lacking(Trail),
    /// What has to be looked for step by step.
    Elsewhere,
}

impl Maps {
    /// Follows a path into the object at a position.
    pub(super) fn find(
        &mut self,
        position: usize,
        object: &Node,
        path: &[Step],
        steps: &Steps<'_>,
    ) -> Result<Found> {
        let mut trail = Trail::default();
        let mut node = object;
        for (depth, step) in path.iter().enumerate() {
            steps.spend(1)?;
            if depth > 0 && node.kind() == Kind::Scalar {
                return Ok(Found::Text(trail, depth));
            }
            // Those that read and those that write take blanks around a name, and null, in ways of their own.
            let name = match step {
                Step::Field(name) if !name.is_empty() && name.trim() == name => name,
                _ => return Ok(Found::Elsewhere),
            };
            let fields = match &node.content {
                Content::Map(fields) if !node.is_null() => fields,
                _ => return Ok(Found::Elsewhere),
            };
            match self.place(position, trail.places(), fields, name, steps)? {
                Some(at) => {
                    trail.push(at);
                    node = &fields[at].1;
                }
                None if depth + 1 == path.len() => return Ok(Found::Lacking(trail)),
                None => return Ok(Found::Elsewhere),
            }
        }
        Ok(Found::Node(trail))
    }

    fn place(
        &mut self,
        position: usize,
        map: &[usize],
        fields: &[(Node, Node)],
        name: &str,
        steps: &Steps<'_>,
    ) -> Result<Option<usize>> {
        if fields.len() <= FEW {
            steps.spend(1 + fields.len() / NAMES_PER_STEP)?;
            return Ok(fields.iter().position(|(key, _)| key.text() == name));
        }
        let indexes = self.0.entry(position).or_default();
        if let Some(index) = indexes.get(map).filter(|index| index.length == fields.len()) {
            return Ok(index.places.get(name).copied());
        }
        let index = Index::of(fields, steps)?;
        let place = index.places.get(name).copied();
        if let Some(stale) = indexes.insert(map.to_vec(), index) {
            steps.give_back(stale.bytes);
        }
        Ok(place)
    }

    /// Notes that a map got one field more, behind the others.
    pub(super) fn note_added(
        &mut self,
        position: usize,
        map: &[usize],
        name: &str,
        steps: &Steps<'_>,
    ) -> Result<()> {
        let indexes = self.0.get_mut(&position);
        if let Some(index) = indexes.and_then(|indexes| indexes.get_mut(map)) {
            let bytes = BYTES_PER_NAME + name.len();
            steps.spend_bytes(bytes)?;
            index.bytes += bytes;
            index.places.entry(name.into()).or_insert(index.length);
            index.length += 1;
        }
        Ok(())
    }

    /// Forgets the maps at and below some places, which are others now.
    pub(super) fn forget(&mut self, position: usize, places: &[usize], steps: &Steps<'_>) {
        let Some(indexes) = self.0.get_mut(&position) else {
            return;
        };
        let all = indexes.range::<[usize], _>((Bound::Included(places), Bound::Unbounded));
        let below = all.map(|(map, _)| map).take_while(|map| map.starts_with(places));
        let below: Vec<Vec<usize>> = below.cloned().collect();
        for map in below {
            let forgotten = indexes.remove(&map);
            steps.give_back(forgotten.map_or(0, |index| index.bytes));
        }
    }

    /// Gives back what the indexes took.
    pub(super) fn end(self, steps: &Steps<'_>) {
        let indexes = self.0.values().flat_map(BTreeMap::values);
        steps.give_back(indexes.map(|index| index.bytes).sum());
    }
}

impl Index {
    fn of(fields: &[(Node, Node)], steps: &Steps<'_>) -> Result<Index> {
        let names: usize = fields.iter().map(|(key, _)| key.text().len()).sum();
        let bytes = fields.len().saturating_mul(BYTES_PER_NAME).saturating_add(names);
        steps.spend(fields.len())?;
        steps.spend_bytes(bytes)?;
        let mut places = HashMap::with_capacity(fields.len());
        for (at, (key, _)) in fields.iter().enumerate() {
            places.entry(key.text().into()).or_insert(at);
        }
        Ok(Index {
            places,
            length: fields.len(),
            bytes,
        })
    }
}

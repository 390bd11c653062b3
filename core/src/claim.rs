//! Which objects an app's units claim in each cluster: the names of a content as they will be there.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;

use crate::{
    content::{Content, Form},
    digest::Digest,
    fleet::placement::Chosen,
    id::ClusterId,
    object::ObjectKey,
    rollout::plan::Current,
    substitute::{self, Variables},
    unit::Withheld,
};

/// Values of one layer of an app's own variables.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// By name.
    pub values: &'a BTreeMap<String, String>,
    /// They are a Secret's: no name may tell one.
    pub secret: bool,
}

/// What the names of an app's objects depend on, besides its content.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The app's own variables, in order.
    pub layers: &'a [Layer<'a>],
    /// Variables are put in whether there are any or not.
    pub always: bool,
    /// The clusters chosen.
    pub chosen: &'a [Chosen],
}

/// A set of keys: what a unit claims in its cluster. Units of one content have the same one, wherever they are, unless a name
/// holds a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyset {
    /// That of [`Content::keys_digest`], where no name holds a variable.
    pub digest: Digest,
    /// The keys in order, each once.
    pub keys: Arc<[ObjectKey]>,
}

impl Keyset {
    /// Of keys in any order.
    pub fn of(mut keys: Vec<ObjectKey>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        Self {
            digest: keys_digest(&keys),
            keys: keys.into(),
        }
    }
}

/// Digest of keys that are in order, each once.
pub(crate) fn keys_digest(keys: &[impl Borrow<ObjectKey> + Serialize]) -> Digest {
    Digest::of_json("keys", &keys)
}

/// What an app's units are to claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The set of each cluster's unit.
    pub of: BTreeMap<ClusterId, Digest>,
    /// The sets that a unit may not have claimed yet: whether others have any of it is to be looked at when the plan is
    /// committed. None where every unit has what it claims.
    pub new: BTreeMap<Digest, Arc<[ObjectKey]>>,
}

impl Claims {
    /// The same set as before in all of these clusters.
    pub fn settled(chosen: &[Chosen], keys: Digest) -> Self {
        Self {
            of: chosen.iter().map(|chosen| (chosen.id, keys)).collect(),
            new: BTreeMap::new(),
        }
    }

    /// The sets of a content to come.
    pub fn of(sets: Vec<(Keyset, Vec<ClusterId>)>) -> Self {
        let mut claims = Self::default();
        for (set, clusters) in sets {
            claims.add(set, clusters);
        }
        claims
    }

    /// Adds the set of some clusters, in place of what they had.
    pub fn add(&mut self, set: Keyset, clusters: Vec<ClusterId>) {
        self.of
            .extend(clusters.into_iter().map(|cluster| (cluster, set.digest)));
        self.new.insert(set.digest, set.keys);
    }

    /// Whether the unit of a cluster may not have claimed its set yet.
    pub fn is_new_in(&self, cluster: ClusterId) -> bool {
        self.of
            .get(&cluster)
            .is_some_and(|digest| self.new.contains_key(digest))
    }

    /// What is claimed in a cluster, of what may not have been claimed yet.
    pub fn new_in(&self, cluster: ClusterId) -> &[ObjectKey] {
        let keys = self.of.get(&cluster).and_then(|digest| self.new.get(digest));
        keys.map_or(&[], |keys| keys)
    }

    /// All keys that may not have been claimed yet, in order, each once.
    pub fn new_keys(&self) -> Vec<&ObjectKey> {
        let keys: BTreeSet<&ObjectKey> = self.new.values().flat_map(|keys| keys.iter()).collect();
        keys.into_iter().collect()
    }

    /// Whether what a unit leaves alone is what others have of its claims. Otherwise they were not known when it was
    /// planned, or have let go since.
    pub fn agree(&self, cluster: ClusterId, withheld: &[Withheld], others: &[Withheld]) -> bool {
        let claimed: BTreeSet<&ObjectKey> = self.new_in(cluster).iter().collect();
        let keys = |of: &[Withheld]| -> BTreeSet<ObjectKey> {
            let keys = of.iter().map(|one| &one.key);
            keys.filter(|key| claimed.contains(key)).cloned().collect()
        };
        keys(withheld) == keys(others)
    }
}

/// A set of keys of another app's unit that has some of those asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Where.
    pub cluster: ClusterId,
    /// `Kind/namespace/name` of the app.
    pub owner: String,
    /// Those asked about that the unit claims: the same for all units of a set.
    pub keys: Arc<[ObjectKey]>,
    /// What it leaves to others.
    pub withheld: Vec<Withheld>,
}

/// What others have of an app's new claims, by cluster: what a unit leaves alone it does not have.
pub fn withheld(claims: &Claims, others: &[Other]) -> BTreeMap<ClusterId, Vec<Withheld>> {
    let mut found: BTreeMap<ClusterId, BTreeMap<&ObjectKey, &str>> = BTreeMap::new();
    let mut asked: BTreeMap<ClusterId, BTreeSet<&ObjectKey>> = BTreeMap::new();
    for other in others {
        let asked = asked
            .entry(other.cluster)
            .or_insert_with(|| claims.new_in(other.cluster).iter().collect());
        let left: BTreeSet<&ObjectKey> = other.withheld.iter().map(|one| &one.key).collect();
        for key in other.keys.iter() {
            if asked.contains(key) && !left.contains(key) {
                let owners = found.entry(other.cluster).or_default();
                owners.entry(key).or_insert(&other.owner);
            }
        }
    }
    let each = |(key, owner): (&ObjectKey, &str)| Withheld {
        key: key.clone(),
        owner: owner.to_owned(),
    };
    found
        .into_iter()
        .map(|(cluster, owners)| (cluster, owners.into_iter().map(each).collect()))
        .collect()
}

/// The keys that the units of all chosen clusters claim already, each owning all of them: of a content that has the same, who
/// else claims any is no question. `None`: they differ, or somebody has none.
pub fn settled(chosen: &[Chosen], units: &[Current]) -> Option<Digest> {
    let units: BTreeMap<ClusterId, &Current> = units.iter().map(|unit| (unit.cluster, unit)).collect();
    let owned = |chosen: &Chosen| {
        let unit = units.get(&chosen.id).filter(|unit| unit.withheld.is_empty())?;
        unit.keyset
    };
    let keys = owned(chosen.first()?)?;
    let is_same = |chosen: &Chosen| owned(chosen) == Some(keys);
    chosen.iter().all(is_same).then_some(keys)
}

/// The keys of a content's objects, with the clusters where they are that: the same everywhere, unless a name holds a
/// variable.
pub fn keys_by_cluster(content: &Content, names: &Names<'_>) -> Vec<(Keyset, Vec<ClusterId>)> {
    if content.keys_digest().is_some() {
        let clusters = names.chosen.iter().map(|chosen| chosen.id).collect();
        let keys = content.objects().iter().map(|entry| entry.key.clone());
        return vec![(Keyset::of(keys.collect()), clusters)];
    }
    let mut by_keys: BTreeMap<Vec<ObjectKey>, Vec<ClusterId>> = BTreeMap::new();
    for chosen in names.chosen {
        by_keys
            .entry(keys(content, names, chosen))
            .or_default()
            .push(chosen.id);
    }
    by_keys
        .into_iter()
        .map(|(keys, clusters)| (Keyset::of(keys), clusters))
        .collect()
}

/// Keys as they will be in the cluster: names may hold variables. The same function the agent uses; a name that
/// cannot be resolved here, or would tell a Secret's value, stays as written, and the agent's verdict counts.
fn keys(content: &Content, names: &Names<'_>, chosen: &Chosen) -> Vec<ObjectKey> {
    // With one value in place of each that is a Secret's, and with another: what differs between the two holds one.
    let variables = |stand_in: &str| {
        let mut values: Vec<BTreeMap<String, String>> = names
            .layers
            .iter()
            .map(|layer| match layer.secret {
                true => {
                    let names = layer.values.keys();
                    names.map(|name| (name.clone(), stand_in.to_owned())).collect()
                }
                false => layer.values.clone(),
            })
            .collect();
        values.push(chosen.variables.clone());
        values.extend(chosen.overrides.clone());
        Variables::from_layers(values).ok()
    };
    let variables = variables("a").zip(variables("b"));
    let mut keys: Vec<ObjectKey> = content
        .objects()
        .iter()
        .map(|entry| {
            let mut key = entry.key.clone();
            if let (Form::Yaml, Some((one, other))) = (entry.form, &variables)
                && substitute::runs(one, names.always)
            {
                for field in [&mut key.namespace, &mut key.name] {
                    let text = substitute::substitute(field, one, true);
                    if let Ok(text) = text
                        && substitute::substitute(field, other, true).is_ok_and(|same| same == text)
                    {
                        *field = text;
                    }
                }
            }
            key
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::content::{ObjectEntry, Objects};

    fn chosen(number: u128, region: &str) -> Chosen {
        Chosen {
            id: ClusterId(Uuid::from_u128(number)),
            name: format!("c{number}"),
            variables: BTreeMap::from([("region".into(), region.into())]),
            overrides: Ok(BTreeMap::new()),
        }
    }

    fn content(written: &[&str]) -> Content {
        let entries = written.iter().map(|name| ObjectEntry {
            key: ObjectKey::new("", "ConfigMap", "apps", name),
            form: Form::Yaml,
            digest: Digest::of("object", name.as_bytes()),
        });
        Content::Objects(Objects {
            entries: entries.collect(),
            count: 0,
            complete: true,
        })
    }

    fn layer(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    fn found(written: &[&str], layers: &[Layer<'_>], chosen: &[Chosen]) -> Vec<(Vec<String>, usize)> {
        let names = Names {
            layers,
            always: false,
            chosen,
        };
        let found = keys_by_cluster(&content(written), &names).into_iter();
        found
            .map(|(set, clusters)| {
                (
                    set.keys.iter().map(|key| key.name.clone()).collect(),
                    clusters.len(),
                )
            })
            .collect()
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("", "ConfigMap", "apps", name)
    }

    fn owned(name: &str, owner: &str) -> Withheld {
        Withheld {
            key: key(name),
            owner: owner.into(),
        }
    }

    #[test]
    fn the_keys_of_a_content_have_the_digest_that_is_stored_with_it() {
        let content = content(&["b", "a"]);
        let set = Keyset::of(vec![key("b"), key("a"), key("b")]);
        assert_eq!(content.keys_digest(), Some(set.digest));
        assert_eq!(set.keys.len(), 2);
    }

    #[test]
    fn an_object_belongs_to_whoever_claims_it_and_does_not_leave_it_to_others() {
        let (one, two) = (chosen(1, "eu").id, chosen(2, "eu").id);
        let set = |names: &[&str]| Keyset::of(names.iter().map(|name| key(name)).collect());
        let claims = Claims::of(vec![(set(&["a", "b"]), vec![one]), (set(&["c"]), vec![two])]);
        let other = |cluster, keys: &[&str], left: &[&str]| Other {
            cluster,
            owner: "Kustomization/apps/x".into(),
            keys: keys.iter().map(|name| key(name)).collect(),
            withheld: left.iter().map(|name| owned(name, "y")).collect(),
        };
        let found = |others: &[Other]| withheld(&claims, others);
        assert_eq!(found(&[]), BTreeMap::new());
        assert_eq!(
            found(&[other(one, &["a", "b"], &["a"]), other(one, &["b"], &[])]),
            BTreeMap::from([(one, vec![owned("b", "Kustomization/apps/x")])])
        );
        // Of another cluster's set nothing is asked in this one.
        assert_eq!(found(&[other(one, &["c"], &[])]), BTreeMap::new());
        // What was planned holds only while that is what others have.
        let [a, b] = [owned("a", "x"), owned("b", "x")];
        let only_b = std::slice::from_ref(&b);
        assert!(claims.agree(one, only_b, only_b));
        assert!(!claims.agree(one, &[], only_b), "claimed meanwhile");
        assert!(!claims.agree(one, &[a, b.clone()], only_b), "let go meanwhile");
        let settled = Claims::settled(&[chosen(1, "eu")], set(&["a"]).digest);
        assert_eq!(settled.of[&one], set(&["a"]).digest);
        assert!(settled.new_keys().is_empty() && settled.agree(one, &[], &[owned("a", "x")]));
    }

    #[test]
    fn a_name_that_holds_a_secrets_value_stays_as_written() {
        let (tier, password, open) = (
            layer("tier", "gold"),
            layer("password", "hunter2"),
            layer("password", "open"),
        );
        let of = |values, secret| Layer { values, secret };
        let layers = [of(&tier, false), of(&password, true)];
        let written = [
            "a-${tier}-${region}",
            "b-${password}",
            "c-${password:=x}",
            "d-${password:0:1}",
        ];
        let expected = [
            "a-gold-eu",
            "b-${password}",
            "c-${password:=x}",
            "d-${password:0:1}",
        ]
        .map(str::to_owned);
        assert_eq!(
            found(&written, &layers, &[chosen(2, "eu")]),
            [(expected.to_vec(), 1)]
        );
        // What wins over the Secret is nobody's secret.
        let over = [of(&tier, false), of(&password, true), of(&open, false)];
        assert_eq!(
            found(&["b-${password}"], &over, &[chosen(2, "eu")]),
            [(vec!["b-open".to_owned()], 1)]
        );
    }

    #[test]
    fn clusters_are_apart_only_where_a_name_differs_between_them() {
        let three = [chosen(1, "eu"), chosen(2, "us"), chosen(3, "eu")];
        assert_eq!(found(&["plain"], &[], &three), [(vec!["plain".to_owned()], 3)]);
        assert_eq!(
            found(&["a-${region}"], &[], &three),
            [(vec!["a-eu".to_owned()], 2), (vec!["a-us".to_owned()], 1)]
        );
    }
}

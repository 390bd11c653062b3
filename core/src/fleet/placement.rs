//! Chooses the clusters of an app. Pure: the caller brings the placements that name the app and all clusters.
//!
//! Several placements give the union of their clusters. A placement that names an app settles its target even
//! when no cluster matches: then there are no units, and that is said.

use std::collections::{BTreeMap, BTreeSet};

use super::{departure::Departure, selector::Selector};
use crate::id::ClusterId;

/// A cluster that may be chosen.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Identity.
    pub id: ClusterId,
    /// Unique name.
    pub name: String,
    /// Labels of the Cluster resource.
    pub labels: BTreeMap<String, String>,
    /// Variables of the Cluster resource.
    pub variables: BTreeMap<String, String>,
    /// It is to leave, or to be emptied: no placement chooses it.
    pub departure: Option<Departure>,
}

/// A placement that names the app, its cluster groups resolved to selectors.
#[derive(Debug, Clone)]
pub struct Placement {
    /// `namespace/name`, for messages.
    pub name: String,
    /// Chosen by label: any of these.
    pub selectors: Vec<Selector>,
    /// Chosen by name.
    pub names: BTreeSet<String>,
    /// Never chosen.
    pub exclude: BTreeSet<String>,
    /// What differs for some of the clusters; later ones override earlier ones.
    pub overrides: Vec<Override>,
}

/// What differs for some of a placement's clusters.
#[derive(Debug, Clone)]
pub struct Override {
    /// Which of the placement's clusters; all when empty.
    pub selector: Selector,
    /// Variables laid over every other layer.
    pub variables: BTreeMap<String, String>,
}

/// A chosen cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Identity.
    pub id: ClusterId,
    /// Name.
    pub name: String,
    /// Variables of the Cluster resource.
    pub variables: BTreeMap<String, String>,
    /// The placement's override variables, or the two placements that disagree on them.
    pub overrides: Result<BTreeMap<String, String>, OverrideConflict>,
}

/// Two placements that give one cluster different overrides: the unit keeps its target until they agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverrideConflict {
    /// One placement.
    pub first: String,
    /// The other.
    pub second: String,
}

/// Returns the clusters that `placements` choose, ordered by name.
pub fn choose(placements: &[Placement], clusters: &[Candidate]) -> Vec<Chosen> {
    let mut chosen: Vec<Chosen> = clusters
        .iter()
        .filter_map(|cluster| choose_one(placements, cluster))
        .collect();
    chosen.sort_by(|a, b| a.name.cmp(&b.name));
    chosen
}

/// Returns the clusters that `placements` would choose if these did not depart, ordered by name.
pub fn departing<'a>(placements: &[Placement], clusters: &'a [Candidate]) -> Vec<&'a str> {
    let of_these = |cluster: &&Candidate| {
        cluster.departure.is_some() && placements.iter().any(|placement| placement.fits(cluster))
    };
    let mut names: Vec<&str> = clusters
        .iter()
        .filter(of_these)
        .map(|cluster| cluster.name.as_str())
        .collect();
    names.sort_unstable();
    names
}

fn choose_one(placements: &[Placement], cluster: &Candidate) -> Option<Chosen> {
    let mut matching = placements.iter().filter(|placement| placement.chooses(cluster));
    let first = matching.next()?;
    let overrides = first.overrides_for(cluster);
    let dissent = matching.find(|placement| placement.overrides_for(cluster) != overrides);
    Some(Chosen {
        id: cluster.id,
        name: cluster.name.clone(),
        variables: cluster.variables.clone(),
        overrides: match dissent {
            Some(second) => Err(OverrideConflict {
                first: first.name.clone(),
                second: second.name.clone(),
            }),
            None => Ok(overrides),
        },
    })
}

/// Where clusters that placements may choose are to be looked for: all others are chosen by none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Clusters with these names.
    pub names: BTreeSet<String>,
    /// Clusters with all labels of one of these, each with its value. One without any is all clusters.
    pub labels: BTreeSet<BTreeMap<String, String>>,
}

impl Search {
    /// What these placements may choose.
    pub fn of(placements: &[Placement]) -> Self {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let selectors = placements.iter().flat_map(|placement| &placement.selectors);
        Self {
            names: placements
                .iter()
                .flat_map(|placement| placement.names.iter().cloned())
                .collect(),
            labels: selectors
                .map(|selector| selector.required().into_iter().map(owned).collect())
                .collect(),
        }
    }
}

/// Why a placement chooses a cluster, or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match<S = String> {
    /// It names it, by itself or through a group.
    Name,
    /// Its labels are those of this selector; an empty one takes all.
    Labels(S),
    /// It names it as one that is not chosen.
    Excluded,
    /// The cluster is to leave, or to be emptied: no placement chooses it.
    Departs(Departure),
    /// Nothing of it matches.
    None,
}

impl<S> Match<S> {
    /// Whether the cluster is chosen.
    pub fn chooses(&self) -> bool {
        matches!(self, Self::Name | Self::Labels(_))
    }
}

impl Match<&Selector> {
    /// The same with the selector in words.
    pub fn in_words(self) -> Match {
        match self {
            Self::Name => Match::Name,
            Self::Labels(selector) => Match::Labels(selector.to_string()),
            Self::Excluded => Match::Excluded,
            Self::Departs(departure) => Match::Departs(departure),
            Self::None => Match::None,
        }
    }
}

impl Placement {
    /// Why it chooses a cluster, or does not.
    pub fn judge(&self, cluster: &Candidate) -> Match<&Selector> {
        match cluster.departure {
            Some(departure) => Match::Departs(departure),
            None => self.judge_staying(cluster),
        }
    }

    /// As [`Self::judge`], of a cluster that does not depart, or as if it did not.
    fn judge_staying(&self, cluster: &Candidate) -> Match<&Selector> {
        let mut selectors = self.selectors.iter();
        if self.exclude.contains(&cluster.name) {
            Match::Excluded
        } else if self.names.contains(&cluster.name) {
            Match::Name
        } else if let Some(selector) = selectors.find(|one| one.matches(&cluster.labels)) {
            Match::Labels(selector)
        } else {
            Match::None
        }
    }

    fn chooses(&self, cluster: &Candidate) -> bool {
        self.judge(cluster).chooses()
    }

    /// Whether it chooses a cluster, or would if that did not depart.
    pub fn fits(&self, cluster: &Candidate) -> bool {
        self.judge_staying(cluster).chooses()
    }

    fn overrides_for(&self, cluster: &Candidate) -> BTreeMap<String, String> {
        self.overrides
            .iter()
            .filter(|one| one.selector.matches(&cluster.labels))
            .flat_map(|one| one.variables.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::random::Random;

    fn cluster(name: &str, env: &str) -> Candidate {
        Candidate {
            id: ClusterId(Uuid::from_u128(u128::from(name.as_bytes()[1]))),
            name: name.into(),
            labels: BTreeMap::from([("env".into(), env.into())]),
            variables: BTreeMap::new(),
            departure: None,
        }
    }

    fn by_label(name: &str, selector: &str) -> Placement {
        Placement {
            name: name.into(),
            selectors: vec![Selector::parse(selector).expect("selector")],
            names: BTreeSet::new(),
            exclude: BTreeSet::new(),
            overrides: vec![],
        }
    }

    fn names(chosen: &[Chosen]) -> Vec<&str> {
        chosen.iter().map(|one| one.name.as_str()).collect()
    }

    #[test]
    fn labels_names_and_exclusions_choose() {
        let clusters = [
            cluster("c3", "prod"),
            cluster("c1", "prod"),
            cluster("c2", "staging"),
        ];
        let mut placement = by_label("p", "env=prod");
        assert_eq!(names(&choose(&[placement.clone()], &clusters)), ["c1", "c3"]);
        assert_eq!(placement.judge(&clusters[2]), Match::None);
        placement.names.insert("c2".into());
        placement.exclude.insert("c1".into());
        assert_eq!(names(&choose(&[placement.clone()], &clusters)), ["c2", "c3"]);
        let by_labels = Match::Labels("env=prod".into());
        let judged = clusters
            .each_ref()
            .map(|cluster| placement.judge(cluster).in_words());
        assert_eq!(judged, [by_labels, Match::Excluded, Match::Name]);
    }

    #[test]
    fn a_cluster_that_departs_is_chosen_by_nothing() {
        let mut clusters = [cluster("c1", "prod"), cluster("c2", "prod")];
        let mut placement = by_label("p", "env=prod");
        placement.names.insert("c1".into());
        for departure in [Departure::Drain, Departure::Retire] {
            clusters[0].departure = Some(departure);
            assert_eq!(names(&choose(&[placement.clone()], &clusters)), ["c2"]);
        }
    }

    #[test]
    fn departing_clusters_that_a_placement_would_choose_are_named_and_no_others() {
        let mut clusters = ["c3", "c1", "c2", "c4"].map(|name| cluster(name, "prod"));
        clusters[3].labels.clear();
        let mut placement = by_label("p", "env=prod");
        placement.exclude.insert("c2".into());
        assert!(departing(&[placement.clone()], &clusters).is_empty());
        for cluster in &mut clusters {
            cluster.departure = Some(Departure::Drain);
        }
        assert_eq!(departing(&[placement], &clusters), ["c1", "c3"]);
    }

    #[test]
    fn a_cluster_is_looked_for_by_name_or_by_the_labels_it_must_have() {
        let mut placement = by_label("p", "env=prod,tier in (a,b),!old");
        placement.names.insert("c7".into());
        let search = Search::of(&[placement]);
        assert_eq!(search.names, BTreeSet::from(["c7".to_owned()]));
        let env = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        assert_eq!(search.labels, BTreeSet::from([env]));
        let any = Search::of(&[by_label("p", "env!=dev")]);
        assert_eq!(any.labels, BTreeSet::from([BTreeMap::new()]));
        assert_eq!(Search::of(&[]), Search::default());
    }

    #[test]
    fn whatever_random_placements_choose_is_among_what_is_looked_for() {
        let terms = ["a=1", "a!=1", "a in (1,2)", "b", "!b", "b notin (1)", "b=2"];
        let mut random = Random(7);
        let mut chosen_in_all = 0;
        for _ in 0..2000 {
            let mut placements = Vec::new();
            for _ in 0..random.below(3) {
                let mut placement = Placement {
                    name: "p".into(),
                    selectors: Vec::new(),
                    names: BTreeSet::new(),
                    exclude: BTreeSet::new(),
                    overrides: vec![],
                };
                for _ in 0..random.below(3) {
                    let terms: Vec<&str> = terms.iter().copied().filter(|_| random.below(4) == 0).collect();
                    placement
                        .selectors
                        .push(Selector::parse(&terms.join(",")).expect("a selector"));
                }
                if random.below(2) == 0 {
                    placement.names.insert(format!("c{}", random.below(4)));
                }
                placements.push(placement);
            }
            let search = Search::of(&placements);
            for number in 0..4 {
                let mut labels = BTreeMap::new();
                for key in ["a", "b"] {
                    if let value @ 1.. = random.below(3) {
                        labels.insert(key.to_owned(), value.to_string());
                    }
                }
                let name = format!("c{number}");
                let candidate = Candidate {
                    id: ClusterId(Uuid::from_u128(number)),
                    name: name.clone(),
                    labels: labels.clone(),
                    variables: BTreeMap::new(),
                    departure: None,
                };
                let has = |wanted: &BTreeMap<String, String>| {
                    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
                };
                let found = search.names.contains(&name) || search.labels.iter().any(has);
                let is_chosen = !choose(&placements, &[candidate]).is_empty();
                assert!(found || !is_chosen, "{placements:?} {labels:?}");
                chosen_in_all += u32::from(is_chosen);
            }
        }
        assert!(chosen_in_all > 1000, "{chosen_in_all}");
    }

    #[test]
    fn a_placement_without_a_match_chooses_nothing_and_none_is_guessed() {
        assert!(choose(&[by_label("p", "env=dev")], &[cluster("c1", "prod")]).is_empty());
        assert!(choose(&[], &[cluster("c1", "prod")]).is_empty());
    }

    #[test]
    fn several_placements_unite_and_disagreeing_overrides_are_a_conflict() {
        let clusters = [cluster("c1", "prod"), cluster("c2", "staging")];
        let mut one = by_label("one", "env=prod");
        one.overrides.push(Override {
            selector: Selector::parse("env=prod").expect("selector"),
            variables: BTreeMap::from([("size".into(), "2".into())]),
        });
        let two = by_label("two", "env in (prod,staging)");
        let chosen = choose(&[one, two], &clusters);
        assert_eq!(names(&chosen), ["c1", "c2"]);
        assert_eq!(
            chosen[0].overrides,
            Err(OverrideConflict {
                first: "one".into(),
                second: "two".into()
            })
        );
        assert_eq!(chosen[1].overrides, Ok(BTreeMap::new()));
    }
}

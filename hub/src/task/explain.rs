//! Gathers what is stored of an app and its units, for whoever asks why they are as they are: in as many statements for
//! twenty clusters as for one, and for ten thousand objects as for none. What is compared with each other is of one moment.

mod places;

use std::collections::HashMap;

use flotilla_core::{
    explain::{Facts, Input, Name, Placing, Source},
    fleet::placement::Match,
    id::ClusterId,
};
use uuid::Uuid;

use self::places::{Judged, Part, judge};
use super::render::{self, Engine};
use crate::store::{
    Result, Store,
    explain::{AppExplained, MovedExplained, ObjectsExplained, UnitExplained},
    reference::sources_named,
    resource::ResourceRow,
};

/// What is asked about an app.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Only this cluster, by id and name.
    pub cluster: Option<(Uuid, String)>,
    /// Clusters after this one by name.
    pub after: String,
    /// At most so many of them.
    pub limit: i64,
}

/// The facts of each cluster that is asked for, by name: of all that have the app, and of those that are to have it. Of an app
/// without any, or of a cluster that it is not in, those that there are. `None`: the app is gone.
pub async fn facts(
    store: &Store,
    engine: &Engine,
    app: &ResourceRow,
    asked: &Asked,
) -> Result<Option<Vec<(Option<Uuid>, Facts)>>> {
    let Some(stored) = read(store, app, asked).await? else {
        return Ok(None);
    };
    let named = asked.cluster.as_ref();
    let units = stored.units.iter().map(|unit| unit.cluster_id);
    let known: Vec<Uuid> = units.chain(named.map(|(id, _)| *id)).collect();
    let judged = judge(store, app, &known, part(asked, &stored)).await?;
    let mut without = judged.chosen.clone();
    without.extend(named.filter(|_| stored.units.is_empty()).cloned());
    let common = Facts {
        input: input(engine, app, &stored, &judged),
        ..common(app, stored.app, stored.source)
    };
    let mut facts = with_units(stored.units, stored.objects, stored.moved, &judged, &common);
    facts.extend(without_units(store, without, &judged, &common).await?);
    facts.sort_by(|(_, one), (_, other)| one.cluster.cmp(&other.cluster));
    facts.truncate(limit(asked));
    // What came before the page were all.
    if facts.is_empty() && asked.after.is_empty() {
        let nowhere = Facts {
            placing: placing(&judged, None),
            ..common
        };
        facts.push((None, nowhere));
    }
    Ok(Some(facts))
}

fn limit(asked: &Asked) -> usize {
    usize::try_from(asked.limit).unwrap_or(0)
}

/// Where clusters are looked for that are to have the app and do not: as far as the units go. One that is to be deleted comes
/// to none.
fn part<'a>(asked: &'a Asked, stored: &'a Stored) -> Option<Part<'a>> {
    if asked.cluster.is_some() || stored.app.deleting.is_some() {
        return None;
    }
    let is_full = stored.units.len() >= limit(asked);
    let last = stored.units.last().filter(|_| is_full);
    Some(Part {
        after: &asked.after,
        before: last.map_or("", |unit| &unit.cluster),
        limit: limit(asked),
    })
}

/// What is stored of an app, all of one moment: a commit that comes meanwhile would have its revision taken for the one whose
/// content was compared.
struct Stored {
    app: AppExplained,
    /// The source that the app names, and which it is.
    source: Option<Source>,
    source_uid: Option<Uuid>,
    units: Vec<UnitExplained>,
    objects: HashMap<Uuid, ObjectsExplained>,
    moved: HashMap<Uuid, MovedExplained>,
}

async fn read(store: &Store, app: &ResourceRow, asked: &Asked) -> Result<Option<Stored>> {
    let mut moment = store.moment().await?;
    let Some(known) = moment.app(app.uid, app.generation).await? else {
        return Ok(None);
    };
    let (mut source, mut source_uid) = (None, None);
    for named in sources_named(app.scope, &app.namespace, &app.spec) {
        let (uid, known) = moment.source(&named).await?.unzip();
        let name = Name {
            kind: named.kind,
            namespace: named.namespace,
            name: named.name,
        };
        (source, source_uid) = (Some(Source { name, known }), uid);
        if source_uid.is_some() {
            break;
        }
    }
    let cluster = asked.cluster.as_ref().map_or("", |(_, name)| name);
    let content = known.content.as_deref();
    let units = moment
        .units(app.uid, content, cluster, &asked.after, asked.limit)
        .await?;
    let ids: Vec<Uuid> = units.iter().map(|unit| unit.id).collect();
    let (objects, moved) = match ids.is_empty() {
        true => Default::default(),
        false => (moment.objects(&ids).await?, moment.moved(&ids).await?),
    };
    moment.end().await?;
    Ok(Some(Stored {
        app: known,
        source,
        source_uid,
        units,
        objects,
        moved,
    }))
}

fn with_units(
    units: Vec<UnitExplained>,
    mut objects: HashMap<Uuid, ObjectsExplained>,
    mut moved: HashMap<Uuid, MovedExplained>,
    judged: &Judged,
    common: &Facts,
) -> Vec<(Option<Uuid>, Facts)> {
    let facts = units.into_iter().map(|one| {
        let mut unit = one.unit;
        let objects = objects.remove(&one.id).unwrap_or_default();
        (unit.failing, unit.failing_total) = (objects.failing, objects.failing_total);
        (unit.leaving, unit.leaving_total) = (objects.leaving, objects.leaving_total);
        let moved = moved.remove(&one.id).unwrap_or_default();
        (unit.moved_to, unit.moved_total) = (moved.moved, moved.total);
        let facts = Facts {
            cluster: one.cluster,
            placing: placing(judged, Some(one.cluster_id)),
            agent: Some(one.agent),
            unit: Some(unit),
            ..common.clone()
        };
        (Some(one.id), facts)
    });
    facts.collect()
}

async fn without_units(
    store: &Store,
    clusters: Vec<(Uuid, String)>,
    judged: &Judged,
    common: &Facts,
) -> Result<Vec<(Option<Uuid>, Facts)>> {
    if clusters.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = clusters.iter().map(|(id, _)| *id).collect();
    let mut agents = store.explain_agents(&ids).await?;
    let facts = clusters.into_iter().map(|(id, cluster)| {
        let facts = Facts {
            cluster,
            placing: placing(judged, Some(id)),
            agent: agents.remove(&id),
            ..common.clone()
        };
        (None, facts)
    });
    Ok(facts.collect())
}

/// Whether what an app was rendered from last is what it says now.
fn input(engine: &Engine, app: &ResourceRow, stored: &Stored, judged: &Judged) -> Input {
    let Some((source, fields)) = &stored.app.input else {
        return Input::Present;
    };
    if stored.source_uid != Some(*source) {
        return Input::OtherSource;
    }
    let asked = render::asked(engine, app, judged.overrides_variables);
    match asked.is_some_and(|asked| asked.as_bytes()[..] == fields[..]) {
        true => Input::Present,
        false => Input::Changed,
    }
}

/// What is the same in all clusters.
fn common(app: &ResourceRow, known: AppExplained, source: Option<Source>) -> Facts {
    Facts {
        app: Name {
            kind: app.kind.clone(),
            namespace: app.namespace.clone(),
            name: app.name.clone(),
        },
        suspended: app.is_suspended(),
        not_supported: app.not_supported.clone(),
        deleting: known.deleting,
        observed: known.observed,
        due: known.due,
        waiting: known.waiting,
        held_since: known.held_since,
        unconfirmed: known.unconfirmed,
        source,
        rendering: known.rendering,
        ..Facts::default()
    }
}

/// What placements say of a cluster; `None`: of all, of which they choose none.
fn placing(judged: &Judged, cluster: Option<Uuid>) -> Placing {
    let (unreadable, matches) = match cluster.map(ClusterId) {
        Some(id) => (judged.unreadable.get(&id), judged.clusters.get(&id).cloned()),
        None => (judged.unreadable.values().next(), None),
    };
    Placing {
        unknown: judged.unknown.clone().or_else(|| unreadable.cloned()),
        matches: matches.unwrap_or_else(|| {
            let names = judged.placements.iter();
            names.map(|name| (name.clone(), Match::None)).collect()
        }),
    }
}

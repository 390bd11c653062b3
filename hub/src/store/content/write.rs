//! Writes content by digest. What is there already is touched and not sent again, so that retention counts from the last use:
//! what a content costs is what is new in it, beside its manifest.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use flotilla_core::content::Content;
use uuid::Uuid;

use super::{
    Blob, Compressing, aad,
    part::{Part, parts},
    size,
};
use crate::{
    auth::seal::Seal,
    store::{Connection, Result, Store, StoreError},
};

/// Bytes bound to one statement.
const BATCH_BYTES: usize = 4 << 20;
/// Less than this is sent without asking whether it is there.
const ASKED_BYTES: usize = 64 << 10;
/// Fewer objects are put in order in less time than another thread takes to begin.
const FEW: usize = 1000;
/// What a row takes beside its bytes, about.
const ROW_BYTES: usize = 64;

/// Rows ready to be written: compressed and sealed outside of any transaction. In one order for all writers, so that two
/// that share blobs wait for each other and never deadlock.
#[derive(Default)]
pub(in crate::store) struct Prepared {
    batches: Vec<Rows>,
}

impl Prepared {
    /// Of values of variable layers.
    pub(in crate::store) fn config_values<'b>(
        blobs: impl IntoIterator<Item = &'b Blob>,
        seal: &Seal,
    ) -> Result<Self> {
        Self::of("config_value", in_order(blobs), seal, &mut Compressing::default())
    }

    /// What is in any of these, in one order, each once.
    fn all<'p>(prepared: impl Iterator<Item = &'p Self>) -> Self {
        let batches = prepared.flat_map(|one| &one.batches);
        let rows = batches.flat_map(|rows| {
            let places = 0..rows.digests.len();
            places.map(move |place| (rows, place))
        });
        let mut rows: Vec<(&Rows, usize)> = rows.collect();
        rows.sort_by_key(|(rows, place)| &rows.digests[*place]);
        rows.dedup_by_key(|(rows, place)| &rows.digests[*place]);
        let mut all = Self::default();
        let mut bound = 0;
        for (rows, place) in rows {
            let (digest, bytes) = (rows.digests[place].clone(), rows.bytes[place].clone());
            all.push(
                &mut bound,
                (digest, bytes, rows.sizes[place], rows.secrets[place]),
            );
        }
        all
    }

    fn of<'b>(
        table: &str,
        blobs: impl IntoIterator<Item = &'b Blob>,
        seal: &Seal,
        compressing: &mut Compressing,
    ) -> Result<Self> {
        let mut prepared = Self::default();
        let mut bound = 0;
        for blob in blobs {
            let bytes = at_rest(table, blob, seal, compressing)?;
            let size = size(&blob.bytes)?;
            prepared.push(&mut bound, (blob.digest.to_vec(), bytes, size, blob.secret));
        }
        Ok(prepared)
    }

    /// Adds a row where there is room for it. `bound`: bytes of the last batch.
    fn push(&mut self, bound: &mut usize, (digest, bytes, size, secret): (Vec<u8>, Vec<u8>, i32, bool)) {
        let more = bytes.len() + ROW_BYTES;
        if self.batches.is_empty() || *bound + more > BATCH_BYTES {
            self.batches.push(Rows::default());
            *bound = 0;
        }
        *bound += more;
        if let Some(rows) = self.batches.last_mut() {
            rows.digests.push(digest);
            rows.bytes.push(bytes);
            rows.sizes.push(size);
            rows.secrets.push(secret);
        }
    }
}

#[derive(Default)]
struct Rows {
    digests: Vec<Vec<u8>>,
    bytes: Vec<Vec<u8>>,
    sizes: Vec<i32>,
    secrets: Vec<bool>,
}

fn at_rest(table: &str, blob: &Blob, seal: &Seal, compressing: &mut Compressing) -> Result<Vec<u8>> {
    if !blob.secret {
        return compressing.frame(&blob.bytes);
    }
    let aad = aad(table, &blob.digest);
    seal.seal(&aad, &blob.bytes)
        .map_err(|e| StoreError::corrupt(aad, e))
}

/// Each blob once, since one statement may not touch a row twice.
fn in_order<'b>(blobs: impl IntoIterator<Item = &'b Blob>) -> Vec<&'b Blob> {
    let mut ordered: Vec<&Blob> = blobs.into_iter().collect();
    ordered.sort_by_key(|blob| blob.digest);
    ordered.dedup_by_key(|blob| blob.digest);
    ordered
}

/// Digests in order, each once.
fn names(blobs: &[Blob]) -> Vec<[u8; 32]> {
    let mut names: Vec<[u8; 32]> = blobs.iter().map(|blob| blob.digest).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Stores the values of variable layers, in the caller's transaction.
pub(in crate::store) async fn put_config_values(tx: &mut Connection, prepared: &Prepared) -> Result<()> {
    for rows in &prepared.batches {
        sqlx::query!(
            "INSERT INTO config_value (digest, bytes, decoded_size, secret)
             SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::int[], $4::boolean[])
             ON CONFLICT (digest) DO UPDATE SET referenced_at = now()
               WHERE config_value.referenced_at < now() - interval '1 hour'",
            &rows.digests,
            &rows.bytes,
            &rows.sizes,
            &rows.secrets
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Stores objects, in the caller's transaction.
async fn put_objects(tx: &mut Connection, prepared: &Prepared) -> Result<()> {
    for rows in &prepared.batches {
        sqlx::query!(
            "INSERT INTO object (digest, bytes, decoded_size, secret)
             SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::int[], $4::boolean[])
             ON CONFLICT (digest) DO UPDATE SET referenced_at = now()
               WHERE object.referenced_at < now() - interval '1 hour'",
            &rows.digests,
            &rows.bytes,
            &rows.sizes,
            &rows.secrets
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// What the store has of a content that is to be written.
#[derive(Default)]
pub(in crate::store) struct Known {
    /// The content that the app had before.
    former: Option<Vec<u8>>,
    /// Its parts that are to be parts of this one.
    parts: HashSet<Vec<u8>>,
    /// The objects of its other parts.
    objects: HashSet<Vec<u8>>,
    /// Objects that are there beside those.
    others: Vec<Vec<u8>>,
}

impl Known {
    /// Whether an object of this part is to be asked for, or sent.
    fn has(&self, part: &Part<'_>, object: &[u8; 32]) -> bool {
        self.parts.contains(&part.digest[..]) || self.objects.contains(&object[..])
    }
}

impl Store {
    /// What is there of objects that apps are to have: those of the content that was rolled out last are not asked for by
    /// name. The answers are in the order of the apps.
    pub(in crate::store) async fn known(&self, asked: &[(Uuid, Arc<[Blob]>)]) -> Result<Vec<Known>> {
        let of: Vec<Arc<[Blob]>> = asked.iter().map(|(_, objects)| objects.clone()).collect();
        let names = move || -> Vec<Vec<[u8; 32]>> { of.iter().map(|objects| names(objects)).collect() };
        let names = match asked.iter().map(|(_, objects)| objects.len()).sum::<usize>() < FEW {
            true => names(),
            false => tokio::task::spawn_blocking(names)
                .await
                .map_err(|e| StoreError::corrupt("content to be stored", e))?,
        };
        let parts: Vec<Vec<Part<'_>>> = names.iter().map(|names| parts(names)).collect();
        let digests: Vec<&[u8]> = parts.iter().flatten().map(|part| &part.digest[..]).collect();
        let apps: Vec<Uuid> = asked.iter().map(|(app, _)| *app).collect();
        let rows = sqlx::query!(
            r#"SELECT v.app AS "app!", c.content, c.part, CASE WHEN c.part <> ALL ($2) THEN ARRAY(
                 SELECT o.object FROM part_object o WHERE o.part = c.part) END AS "objects?: Vec<Vec<u8>>"
               FROM unnest($1::uuid[]) AS v(app)
               CROSS JOIN LATERAL (
                 SELECT content FROM rollout WHERE app_uid = v.app AND content IS NOT NULL ORDER BY id DESC LIMIT 1) AS r
               CROSS JOIN LATERAL (SELECT * FROM content_part WHERE content = r.content OFFSET 0) AS c"#,
            &apps,
            &digests as &[&[u8]]
        )
        .fetch_all(self.pool())
        .await?;
        let mut known: HashMap<Uuid, Known> = HashMap::new();
        for row in rows {
            let known = known.entry(row.app).or_default();
            match row.objects {
                Some(objects) => known.objects.extend(objects),
                None => drop(known.parts.insert(row.part)),
            }
            known.former = Some(row.content);
        }
        let mut answers = Vec::with_capacity(asked.len());
        for ((app, objects), parts) in asked.iter().zip(&parts) {
            let mut known = known.remove(app).unwrap_or_default();
            known.others = self.others(&known, objects, parts).await?;
            answers.push(known);
        }
        Ok(answers)
    }

    /// Objects beside those of the former content that are there, where what is not of it is much.
    async fn others(&self, known: &Known, objects: &[Blob], parts: &[Part<'_>]) -> Result<Vec<Vec<u8>>> {
        let fresh: HashSet<&[u8; 32]> = parts
            .iter()
            .flat_map(|part| part.objects.iter().filter(|object| !known.has(part, object)))
            .collect();
        let fresh = objects.iter().filter(|blob| fresh.contains(&blob.digest));
        let (asked, sizes): (Vec<&[u8]>, Vec<usize>) =
            fresh.map(|blob| (&blob.digest[..], blob.bytes.len())).unzip();
        if sizes.iter().sum::<usize>() < ASKED_BYTES {
            return Ok(Vec::new());
        }
        Ok(sqlx::query_scalar!(
            "SELECT digest FROM object WHERE digest = ANY ($1)",
            &asked as &[&[u8]]
        )
        .fetch_all(self.pool())
        .await?)
    }
}

/// What came out of a rendering, and what is there of it.
pub(in crate::store) struct Made {
    pub(in crate::store) digest: [u8; 32],
    pub(in crate::store) manifest: Arc<[u8]>,
    pub(in crate::store) objects: Arc<[Blob]>,
    pub(in crate::store) known: Known,
}

/// A content ready to be written, with its objects: compressed and sealed outside of any transaction, and beside the
/// runtime's own threads, which have streams to serve.
pub(in crate::store) struct PreparedContent {
    digest: [u8; 32],
    frame: Vec<u8>,
    size: i32,
    keys: Option<Vec<u8>>,
    count: i32,
    /// The content that the app had before.
    former: Option<Vec<u8>>,
    /// Its parts.
    parts: Vec<Vec<u8>>,
    /// Those that the former has not, and what each holds: the number of the part, from 1, and the object.
    fresh: Vec<Vec<u8>>,
    held_by: Vec<i32>,
    held: Vec<Vec<u8>>,
    /// Objects beside the former's that are there.
    there: Vec<Vec<u8>>,
    objects: Prepared,
}

impl PreparedContent {
    /// Of manifests and what they hold.
    pub(in crate::store) async fn of(made: Vec<Made>, seal: &Arc<Seal>) -> Result<Vec<Self>> {
        let seal = seal.clone();
        let prepared = tokio::task::spawn_blocking(move || -> Result<Vec<Self>> {
            let mut compressing = Compressing::default();
            let made = made.into_iter();
            made.map(|one| Self::made(one, &seal, &mut compressing)).collect()
        });
        prepared
            .await
            .map_err(|e| StoreError::corrupt("content to be stored", e))?
    }

    fn made(made: Made, seal: &Seal, compressing: &mut Compressing) -> Result<Self> {
        let (digest, known) = (made.digest, made.known);
        let (manifest, objects) = (&*made.manifest, &*made.objects);
        let names = names(objects);
        let others: HashSet<&[u8]> = known.others.iter().map(Vec::as_slice).collect();
        let (mut all, mut fresh, mut held_by, mut held) = (vec![], vec![], vec![], vec![]);
        let mut missing: HashSet<&[u8; 32]> = HashSet::new();
        let parts = parts(&names);
        for part in &parts {
            all.push(part.digest.to_vec());
            let is_missing = |object: &&[u8; 32]| !known.has(part, object) && !others.contains(&object[..]);
            missing.extend(part.objects.iter().filter(is_missing));
            if known.parts.contains(&part.digest[..]) {
                continue;
            }
            fresh.push(part.digest.to_vec());
            let number = i32::try_from(fresh.len()).map_err(|e| StoreError::corrupt("content parts", e))?;
            held_by.extend(part.objects.iter().map(|_| number));
            held.extend(part.objects.iter().map(|object| object.to_vec()));
        }
        let missing = in_order(objects)
            .into_iter()
            .filter(|blob| missing.contains(&blob.digest));
        let missing = Prepared::of("object", missing, seal, compressing)?;
        let keys = Content::from_bytes(manifest)
            .map_err(|e| StoreError::corrupt(format!("content {}", hex::encode(digest)), e))?
            .keys_digest();
        Ok(Self {
            digest,
            frame: compressing.frame(manifest)?,
            size: size(manifest)?,
            keys: keys.map(|digest| digest.as_bytes().to_vec()),
            count: i32::try_from(objects.len()).map_err(|e| StoreError::corrupt("content count", e))?,
            former: known.former,
            parts: all,
            fresh,
            held_by,
            held,
            objects: missing,
            there: known.others,
        })
    }
}

/// Stores content manifests and what they hold, in the caller's transaction. `Conflict`: what was known to be there has gone.
pub(in crate::store) async fn put_contents(tx: &mut Connection, contents: &[PreparedContent]) -> Result<()> {
    // In one order for all writers, each once.
    let mut contents: Vec<&PreparedContent> = contents.iter().collect();
    contents.sort_by_key(|content| (content.digest, content.former != Some(content.digest.to_vec())));
    contents.dedup_by_key(|content| content.digest);
    let (same, other): (Vec<&PreparedContent>, Vec<&PreparedContent>) = contents
        .into_iter()
        .partition(|content| content.former.as_deref() == Some(&content.digest[..]));
    if !other.is_empty() {
        put_others(tx, &other).await?;
    }
    if same.is_empty() {
        return Ok(());
    }
    let digests: Vec<&[u8]> = same.iter().map(|content| &content.digest[..]).collect();
    let touched = sqlx::query!(
        "WITH held AS (SELECT digest FROM content WHERE digest = ANY ($1) ORDER BY digest FOR NO KEY UPDATE)
         UPDATE content c SET referenced_at = now() FROM held WHERE c.digest = held.digest",
        &digests as &[&[u8]]
    );
    let touched = touched.execute(tx).await?.rows_affected();
    match u64::try_from(same.len()) == Ok(touched) {
        true => Ok(()),
        false => Err(StoreError::Conflict("the content that the app had")),
    }
}

/// Of contents that their apps did not have before.
async fn put_others(tx: &mut Connection, contents: &[&PreparedContent]) -> Result<()> {
    let there: BTreeSet<&Vec<u8>> = contents.iter().flat_map(|content| &content.there).collect();
    touch(tx, &there.into_iter().cloned().collect::<Vec<_>>()).await?;
    put_objects(
        tx,
        &Prepared::all(contents.iter().map(|content| &content.objects)),
    )
    .await?;
    let digests: Vec<&[u8]> = contents.iter().map(|content| &content.digest[..]).collect();
    let frames: Vec<&[u8]> = contents.iter().map(|content| &content.frame[..]).collect();
    let sizes: Vec<i32> = contents.iter().map(|content| content.size).collect();
    let counts: Vec<i32> = contents.iter().map(|content| content.count).collect();
    let keys: Vec<Option<&[u8]>> = contents.iter().map(|content| content.keys.as_deref()).collect();
    // Numbers of what stands in an array begin with 1.
    let numbered = || (1_i32..).zip(contents);
    let parts = numbered().flat_map(|(of, content)| content.parts.iter().map(move |part| (of, &part[..])));
    let (of_part, parts): (Vec<i32>, Vec<&[u8]>) = parts.unzip();
    let (mut of_fresh, mut fresh, mut held_by, mut held) = (vec![], vec![], vec![], vec![]);
    for (of, content) in numbered() {
        let before = i32::try_from(fresh.len()).map_err(|e| StoreError::corrupt("content parts", e))?;
        of_fresh.extend(content.fresh.iter().map(|_| of));
        fresh.extend(content.fresh.iter().map(|part| &part[..]));
        held_by.extend(content.held_by.iter().map(|part| before + part));
        held.extend(content.held.iter().map(|object| &object[..]));
    }
    let put = sqlx::query!(
        // Contents and parts in one order for all writers. Of a part that is new in several contents its objects are written
        // once.
        "WITH content AS (
           INSERT INTO content (digest, bytes, decoded_size, objects, keys)
           SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::int[], $4::int[], $5::bytea[])
           ON CONFLICT (digest) DO UPDATE SET referenced_at = now()
           RETURNING digest, xmax = 0 AS is_new),
         fresh AS MATERIALIZED (
           SELECT v.part, min(v.number) AS number
           FROM unnest($8::int[], $9::bytea[]) WITH ORDINALITY AS v(content, part, number)
           JOIN content c ON c.digest = ($1::bytea[])[v.content] AND c.is_new GROUP BY 1),
         put AS (
           INSERT INTO part (digest) SELECT part FROM fresh ORDER BY 1
           ON CONFLICT (digest) DO UPDATE SET referenced_at = now()
           RETURNING digest, xmax = 0 AS is_new),
         held AS (
           INSERT INTO part_object (part, object)
           SELECT put.digest, v.object FROM put JOIN fresh ON fresh.part = put.digest
           JOIN unnest($10::int[], $11::bytea[]) AS v(part, object) ON v.part = fresh.number
           WHERE put.is_new)
         INSERT INTO content_part (content, part)
         SELECT c.digest, v.part FROM unnest($6::int[], $7::bytea[]) AS v(content, part)
         JOIN content c ON c.digest = ($1::bytea[])[v.content] AND c.is_new",
        &digests as &[&[u8]],
        &frames as &[&[u8]],
        &sizes,
        &counts,
        &keys as &[Option<&[u8]>],
        &of_part,
        &parts as &[&[u8]],
        &of_fresh,
        &fresh as &[&[u8]],
        &held_by,
        &held as &[&[u8]]
    )
    .execute(tx)
    .await;
    match put {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
            Err(StoreError::Conflict("an object of the content"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Keeps objects that are there from what removes the unused, in one order for all writers. Those whose contents name
/// them hold their keys meanwhile, which this waits for no more than they for it.
async fn touch(tx: &mut Connection, objects: &[Vec<u8>]) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "WITH old AS (
           SELECT digest FROM object WHERE digest = ANY ($1) AND referenced_at < now() - interval '1 hour'
           ORDER BY digest FOR NO KEY UPDATE)
         UPDATE object SET referenced_at = now() FROM old WHERE object.digest = old.digest",
        objects
    )
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use flotilla_core::content::Objects;
    use flotilla_testkit::done_beside;
    use zeroize::Zeroizing;

    use super::*;

    fn blob(number: usize, size: usize) -> Blob {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        Blob {
            digest,
            bytes: Zeroizing::new(vec![7; size]),
            // Sealed and not compressed.
            secret: true,
        }
    }

    #[test]
    fn what_is_compressed_and_sealed_holds_up_no_other_task() {
        let content = Content::Objects(Objects {
            entries: Vec::new(),
            count: 0,
            complete: true,
        });
        let digest = *content.digest().as_bytes();
        let manifest: Arc<[u8]> = content.to_bytes().into();
        let (objects, seal): (Arc<[Blob]>, _) = (vec![blob(1, 1 << 20)].into(), Arc::new(Seal::new([1; 32])));
        let made = Made {
            digest,
            manifest,
            objects,
            known: Known::default(),
        };
        let prepared = done_beside(PreparedContent::of(vec![made], &seal)).expect("prepared");
        let prepared = &prepared[0];
        assert_eq!((prepared.count, prepared.held.len()), (1, 1));
    }

    #[test]
    fn a_statement_has_at_most_4_mib_unless_one_object_alone_is_larger() {
        let seal = Seal::new([1; 32]);
        let sizes = [3 << 20, 1 << 19, 5 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 10];
        let blobs: Vec<Blob> = sizes.iter().enumerate().map(|(n, size)| blob(n, *size)).collect();
        let prepared = Prepared::of("object", &blobs, &seal, &mut Compressing::default()).expect("prepared");
        let bytes = |rows: &Rows| rows.bytes.iter().map(Vec::len).sum::<usize>();
        let batches: Vec<usize> = prepared.batches.iter().map(|rows| rows.digests.len()).collect();
        assert_eq!(batches, [2, 1, 3, 2]);
        for rows in &prepared.batches {
            assert!(
                rows.digests.len() == 1 || bytes(rows) <= BATCH_BYTES,
                "{}",
                bytes(rows)
            );
        }
        // Small ones are many: it is their bytes that count.
        let small: Vec<Blob> = (0..10_000).map(|n| blob(n, 100)).collect();
        let prepared = Prepared::of("object", &small, &seal, &mut Compressing::default()).expect("prepared");
        assert_eq!(prepared.batches.len(), 1);
    }
}

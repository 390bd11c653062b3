//! A content in little room, read once and asked many times: what an object costs is its name, its digest and twelve
//! bytes; a kind and namespace stand once for all objects that have them. Finding one object costs no walk.

use std::{cmp::Ordering, collections::HashMap};

use super::{Form, InvalidContent, read};
use crate::{
    digest::{Digest, write_string},
    object::ObjectKey,
};

/// The objects of a content by number, in the renderer's order, and by name.
#[derive(Debug)]
pub struct Table {
    places: Box<[Place]>,
    /// All names, one after another.
    names: Box<str>,
    rows: Box<[Row]>,
    digests: Box<[Digest]>,
    /// Rows by group, kind, name and namespace.
    sorted: Box<[u32]>,
    /// Rows whose names hold a variable.
    open: Box<[u32]>,
    /// Whoever rendered asserts that nothing is missing.
    complete: bool,
}

/// What many objects have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    group: Box<str>,
    kind: Box<str>,
    namespace: Box<str>,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    place: u32,
    /// Where its name ends, in bytes; it begins where the name before ends.
    end: u32,
}

/// A table while it is read.
#[derive(Default)]
struct Builder {
    places: Vec<Place>,
    /// Places by their texts.
    known: HashMap<(String, String, String, Form), u32>,
    names: String,
    rows: Vec<Row>,
    digests: Vec<Digest>,
    overflow: bool,
}

impl Builder {
    fn take(&mut self, entry: read::EntryText<'_>) {
        let key = entry.key;
        let is_place = |place: &Place| {
            (&*place.group, &*place.kind, &*place.namespace, place.form)
                == (&*key.group, &*key.kind, &*key.namespace, entry.form)
        };
        // Objects of one kind mostly stand together.
        let last = self.rows.last().map(|row| row.place);
        let last = last.filter(|place| self.places.get(*place as usize).is_some_and(is_place));
        self.names.push_str(&key.name);
        let place = match last {
            Some(place) => place,
            None => self.place(&key, entry.form),
        };
        let Ok(end) = u32::try_from(self.names.len()) else {
            self.overflow = true;
            return;
        };
        self.rows.push(Row { place, end });
        self.digests.push(entry.digest);
    }

    fn place(&mut self, key: &read::KeyText<'_>, form: Form) -> u32 {
        let texts = [&key.group, &key.kind, &key.namespace].map(|text| text.clone().into_owned());
        let [group, kind, namespace] = texts.clone().map(String::into_boxed_str);
        let [a, b, c] = texts;
        *self.known.entry((a, b, c, form)).or_insert_with(|| {
            self.places.push(Place {
                group,
                kind,
                namespace,
                form,
            });
            // There are no more places than rows.
            self.places.len() as u32 - 1
        })
    }

    fn finish(self, complete: bool) -> Result<Table, InvalidContent> {
        if self.overflow {
            return Err(InvalidContent::Unreadable("its names are too long".to_owned()));
        }
        let mut table = Table {
            places: self.places.into(),
            names: self.names.into(),
            rows: self.rows.into(),
            digests: self.digests.into(),
            sorted: Box::default(),
            open: Box::default(),
            complete,
        };
        let mut sorted: Box<[u32]> = table.rows().collect();
        sorted.sort_unstable_by(|one, other| table.compare(*one, *other));
        let twice = sorted
            .windows(2)
            .find(|pair| table.compare(pair[0], pair[1]) == Ordering::Equal);
        if let Some(pair) = twice {
            return Err(InvalidContent::Duplicate(table.key(pair[0])));
        }
        table.sorted = sorted;
        let is_open = |row: &u32| {
            let (group, kind, name) = table.name(*row);
            [group, kind, name].iter().any(|part| part.contains('$'))
        };
        table.open = table.rows().filter(is_open).collect();
        Ok(table)
    }
}

impl Table {
    /// Reads a content and checks what it asserts about itself.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidContent> {
        let mut builder = Builder::default();
        let asserted = read::read(bytes, |entry| builder.take(entry))?;
        builder.finish(asserted.complete)
    }

    /// Returns the canonical bytes of the content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = String::with_capacity(64 + self.names.len() + self.len() * 192);
        out.push_str("{\"complete\":");
        out.push_str(if self.complete { "true" } else { "false" });
        out.push_str(",\"count\":");
        out.push_str(&self.len().to_string());
        out.push_str(",\"entries\":[");
        for row in self.rows() {
            if row > 0 {
                out.push(',');
            }
            self.write_entry(row, &mut out);
        }
        out.push_str("],\"type\":\"objects\"}");
        out.into_bytes()
    }

    fn write_entry(&self, row: u32, out: &mut String) {
        let (place, (.., name)) = (self.place(row), self.name(row));
        out.push_str("{\"digest\":");
        write_string(&self.digest(row).to_string(), out);
        out.push_str(",\"form\":");
        write_string(place.form.as_str(), out);
        out.push_str(",\"key\":{");
        if !place.group.is_empty() {
            out.push_str("\"group\":");
            write_string(&place.group, out);
            out.push(',');
        }
        out.push_str("\"kind\":");
        write_string(&place.kind, out);
        out.push_str(",\"name\":");
        write_string(name, out);
        if !place.namespace.is_empty() {
            out.push_str(",\"namespace\":");
            write_string(&place.namespace, out);
        }
        out.push_str("}}");
    }

    /// Returns how many objects there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Tells whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the numbers of all objects, in the renderer's order.
    pub fn rows(&self) -> std::ops::Range<u32> {
        // A content of more objects has longer names than a table takes.
        0..u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// Tells whether whoever rendered asserts that nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    fn place(&self, row: u32) -> &Place {
        &self.places[self.rows[row as usize].place as usize]
    }

    /// Returns group, kind and name of an object.
    pub fn name(&self, row: u32) -> (&str, &str, &str) {
        let place = self.place(row);
        let start = match row.checked_sub(1) {
            Some(before) => self.rows[before as usize].end,
            None => 0,
        };
        let end = self.rows[row as usize].end;
        let name = self.names.get(start as usize..end as usize).unwrap_or_default();
        (&place.group, &place.kind, name)
    }

    /// Returns the namespace of an object as rendered.
    pub fn namespace(&self, row: u32) -> &str {
        &self.place(row).namespace
    }

    /// Returns the key of an object as rendered.
    pub fn key(&self, row: u32) -> ObjectKey {
        let (group, kind, name) = self.name(row);
        ObjectKey::new(group, kind, &self.place(row).namespace, name)
    }

    /// Returns how the bytes of an object are to be read.
    pub fn form(&self, row: u32) -> Form {
        self.place(row).form
    }

    /// Returns the digest of an object's form and bytes.
    pub fn digest(&self, row: u32) -> Digest {
        self.digests[row as usize]
    }

    /// Returns the digests of all objects, in the renderer's order.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Returns each group and kind that objects have; one may come several times.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &str)> {
        self.places.iter().map(|place| (&*place.group, &*place.kind))
    }

    /// Returns the objects of a kind.
    pub fn of_kind(&self, group: &str, kind: &str) -> &[u32] {
        self.range(|row| {
            let place = self.place(row);
            (&*place.group, &*place.kind).cmp(&(group, kind))
        })
    }

    /// Returns the objects of a kind and name, in whatever namespace.
    pub fn named(&self, group: &str, kind: &str, name: &str) -> &[u32] {
        self.range(|row| self.name(row).cmp(&(group, kind, name)))
    }

    /// Returns the object of a key as rendered.
    pub fn find(&self, key: &ObjectKey) -> Option<u32> {
        let named = self.named(&key.group, &key.kind, &key.name);
        named
            .iter()
            .copied()
            .find(|row| self.namespace(*row) == key.namespace)
    }

    /// Returns each object with the one of the same key of another table: one walk over both, side by side.
    pub fn beside<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (u32, Option<u32>)> + 'a {
        let mut others = other.sorted.iter().copied().peekable();
        self.sorted.iter().map(move |row| {
            let key = self.full_name(*row);
            while others.next_if(|one| other.full_name(*one) < key).is_some() {}
            (*row, others.next_if(|one| other.full_name(*one) == key))
        })
    }

    /// Returns the objects whose group, kind or name holds a variable: substitution may make any name of those.
    pub fn open(&self) -> &[u32] {
        &self.open
    }

    fn compare(&self, one: u32, other: u32) -> Ordering {
        self.full_name(one).cmp(&self.full_name(other))
    }

    /// What rows are sorted by.
    fn full_name(&self, row: u32) -> ((&str, &str, &str), &str) {
        (self.name(row), self.namespace(row))
    }

    fn range(&self, order: impl Fn(u32) -> Ordering) -> &[u32] {
        let start = self.sorted.partition_point(|row| order(*row) == Ordering::Less);
        let rest = &self.sorted[start..];
        &rest[..rest.partition_point(|row| order(*row) == Ordering::Equal)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Content, ObjectEntry, Objects, object_digest};

    fn entry(kind: &str, namespace: &str, name: &str, form: Form) -> ObjectEntry {
        ObjectEntry {
            key: ObjectKey::new("", kind, namespace, name),
            form,
            digest: object_digest(form, format!("{namespace}/{name}").as_bytes(), None),
        }
    }

    fn bytes(entries: &[ObjectEntry], count: usize) -> Vec<u8> {
        let objects = Objects {
            entries: entries.to_vec(),
            count: u32::try_from(count).expect("few"),
            complete: true,
        };
        Content::Objects(objects).to_bytes()
    }

    fn mixed() -> Vec<ObjectEntry> {
        vec![
            entry("Secret", "b", "x", Form::Yaml),
            entry("ConfigMap", "b", "x", Form::Json),
            entry("ConfigMap", "a", "x", Form::Yaml),
            entry("ConfigMap", "", "", Form::Yaml),
            entry("ConfigMap", "a", "y-${v}", Form::Yaml),
            entry("ConfigMap", "a", "\"quoted\"", Form::Yaml),
            entry("Secret", "b", "ä", Form::Yaml),
        ]
    }

    #[test]
    fn table_says_of_each_object_what_the_content_says() {
        let entries = mixed();
        let table = Table::from_bytes(&bytes(&entries, entries.len())).expect("reads");
        let read = table.rows().map(|row| ObjectEntry {
            key: table.key(row),
            form: table.form(row),
            digest: table.digest(row),
        });
        assert_eq!(read.collect::<Vec<_>>(), entries);
        assert!(table.is_complete());
    }

    #[test]
    fn tables_side_by_side_show_for_each_object_the_one_of_its_key() {
        let all = mixed();
        for (some, others) in [
            (&all[..], &all[2..]),
            (&all[3..], &all[..5]),
            (&all[..2], &all[5..]),
        ] {
            let table = |entries: &[ObjectEntry]| {
                let bytes = bytes(entries, entries.len());
                Table::from_bytes(&bytes).expect("reads")
            };
            let (table, other) = (table(some), table(others));
            let mut beside: Vec<_> = table.beside(&other).collect();
            beside.sort_unstable();
            let found: Vec<_> = table
                .rows()
                .map(|row| (row, other.find(&table.key(row))))
                .collect();
            assert_eq!(beside, found);
        }
    }

    #[test]
    fn table_gives_the_bytes_that_it_was_read_from() {
        let grouped = ObjectEntry {
            key: ObjectKey::new("apps", "Deployment", "a", "x"),
            ..entry("", "", "", Form::Json)
        };
        for entries in [vec![], mixed(), [mixed(), vec![grouped]].concat()] {
            for complete in [true, false] {
                let objects = Objects {
                    count: u32::try_from(entries.len()).expect("few"),
                    entries: entries.clone(),
                    complete,
                };
                let bytes = Content::Objects(objects).to_bytes();
                let table = Table::from_bytes(&bytes).expect("reads");
                assert_eq!(String::from_utf8(table.to_bytes()), String::from_utf8(bytes));
            }
        }
    }

    #[test]
    fn objects_are_found_by_kind_name_and_key() {
        let entries = mixed();
        let table = Table::from_bytes(&bytes(&entries, entries.len())).expect("reads");
        assert_eq!(table.named("", "ConfigMap", "x"), [2, 1]);
        assert_eq!(table.named("", "ConfigMap", "z"), [0; 0]);
        assert_eq!(table.of_kind("", "Secret"), [0, 6]);
        assert_eq!(table.of_kind("", "Pod"), [0; 0]);
        assert_eq!(table.open(), [4]);
        for (row, entry) in (0..).zip(&entries) {
            assert_eq!(table.find(&entry.key), Some(row), "{}", entry.key);
        }
        assert_eq!(table.find(&ObjectKey::new("", "ConfigMap", "c", "x")), None);
    }

    #[test]
    fn what_a_content_may_not_be_a_table_is_neither() {
        let twice = [mixed(), vec![entry("ConfigMap", "a", "x", Form::Json)]].concat();
        let cases = [
            ("twice", bytes(&twice, twice.len())),
            ("cut", bytes(&mixed(), 8)),
            ("of another type", b"{\"type\":\"recipe\"}".to_vec()),
            (
                "without a type",
                b"{\"entries\":[],\"count\":0,\"complete\":true}".to_vec(),
            ),
            ("empty", Vec::new()),
        ];
        for (name, bytes) in cases {
            let (table, content) = (Table::from_bytes(&bytes), Content::from_bytes(&bytes));
            let error = table.expect_err(name);
            assert_eq!(Err(error), content.map(|_| ()), "{name}");
        }
    }
}

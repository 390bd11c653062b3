//! What calls cost beside the step that each is: functions that walk through values, or that take long by
//! design, pay for it in steps, so that steps bound the time. What they walk through is noted as read.

use std::any::Any;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::{Frame, Interp, Outcome};
use crate::helm::context::Reads;
use crate::helm::object::Object;
use crate::helm::value::{Items, Shared, Val};
use crate::yaml::map_bytes;

/// How deep values may hold each other where a function walks through them.
const MAX_NESTING: usize = 1000;
/// How many bytes of text a function handles for one step.
const BYTES_PER_STEP: usize = 16;
/// How many bytes of a name are compared or hashed for one step.
pub(super) const BYTES_COMPARED_PER_STEP: usize = 512;
/// In how many sets of templates one is looked for in one step.
const SETS_PER_STEP: u64 = 16;
/// What a list or a map takes in memory for each thing that it holds.
const BYTES_PER_ITEM: usize = 64;
/// What a list takes in memory by itself.
const BYTES_PER_HOLDER: usize = 128;
/// What a map takes in memory by itself, and what holds it.
const BYTES_PER_MAP: usize = map_bytes::<Rc<str>, Val>(1) + 48;
/// What a function takes for each thing that it walks through, while it runs.
const ROOM_PER_ITEM: usize = 96;
/// What a function takes for each map that it walks through, while it runs.
const ROOM_PER_MAP: usize = 1536;

/// How far a function looks into its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::helm) enum Walk {
    /// It passes them on, or looks one thing up.
    None,
    /// It goes through the items of a list or a map, not into them.
    Items,
    /// It goes through all of them, to the last leaf.
    All,
}

impl Walk {
    /// Returns how far the function of this name looks; one that is not named here, into everything.
    pub(in crate::helm) fn of(name: &str) -> Walk {
        match name {
            "include" | "tpl" | "set" | "unset" | "merge" | "mustMerge" | "mergeOverwrite"
            | "mustMergeOverwrite" | "get" | "hasKey" | "index" | "dig" | "default" | "empty" | "not"
            | "len" | "ternary" | "coalesce" | "kindIs" | "kindOf" | "typeIs" | "typeOf" | "typeIsLike"
            | "required" | "first" | "mustFirst" | "last" | "mustLast" | "list" | "tuple" | "dict"
            | "any" | "all" => Walk::None,
            "append" | "push" | "mustAppend" | "mustPush" | "prepend" | "mustPrepend" | "rest"
            | "mustRest" | "initial" | "mustInitial" | "slice" | "mustSlice" | "reverse" | "mustReverse"
            | "concat" | "compact" | "mustCompact" | "chunk" | "mustChunk" | "keys" | "values" | "pick"
            | "omit" | "pluck" | "until" | "untilStep" => Walk::Items,
            _ => Walk::All,
        }
    }
}

/// Returns the steps that a function takes by design.
fn price(name: &str, args: &[Val]) -> u64 {
    let length = |at: usize| args.get(at).and_then(Val::as_str).map_or(0, str::len) as u64;
    let compared = |names: &mut dyn Iterator<Item = usize>| {
        names.map(length).sum::<u64>() / BYTES_COMPARED_PER_STEP as u64
    };
    match name {
        // Reading an expression, apart from what compiling it and matching cost.
        _ if name.starts_with("regex") || name.starts_with("mustRegex") => 100 + 16 * length(0),
        // They look one thing up by its name, or look whether a text holds bytes that are no UTF-8.
        "include" | "tpl" | "len" => compared(&mut (0..1)),
        "get" | "hasKey" | "set" | "unset" => compared(&mut (1..2)),
        "index" | "dig" => compared(&mut (0..args.len())),
        "dict" => compared(&mut (0..args.len()).step_by(2)),
        _ => 0,
    }
}

/// Returns how many bytes of memory a function may take for each byte of text that it is given: for what it writes, in a
/// text that doubles as it grows, and for the value that this becomes.
fn bytes_per_byte(name: &str) -> usize {
    match name {
        // They write up to six bytes for one, once in a tree of what they were given and once as text.
        "toJson" | "mustToJson" | "toPrettyJson" | "mustToPrettyJson" | "toRawJson" | "mustToRawJson"
        | "toToml" | "mustToToml" | "toYaml" | "mustToYaml" | "toYamlPretty" => 32,
        // They write up to six bytes for one.
        "js" | "html" | "urlquery" | "quote" | "squote" | "printf" => 20,
        _ => 6,
    }
}

/// Tells whether a function makes a value of each byte of bytes, as of the items of a list.
fn takes_bytes_for_a_list(name: &str) -> bool {
    let others = [
        "first",
        "mustFirst",
        "last",
        "mustLast",
        "join",
        "toStrings",
        "sortAlpha",
        "has",
        "mustHas",
        "uniq",
        "mustUniq",
        "without",
        "mustWithout",
        "toToml",
        "mustToToml",
    ];
    Walk::of(name) == Walk::Items || others.contains(&name)
}

/// What walking through values came to.
#[derive(Default)]
struct Size {
    nodes: usize,
    /// How many of the nodes are maps.
    maps: usize,
    /// The blanks in front of the nodes where each stands on a line of its own, two for each level.
    blanks: usize,
    /// What objects hold, which is walked and of which no copies are made.
    inside: usize,
    bytes: usize,
    /// The maps and what each takes by itself, where that is asked for.
    held: Option<Vec<(Weak<Shared>, usize)>>,
    /// What was seen on the way that the chart and the values do not decide.
    reads: Reads,
}

/// Why a walk ended early.
enum End {
    TooDeep,
    TooMany,
}

impl Size {
    fn steps(&self) -> u64 {
        ((self.nodes + self.inside) / 4 + self.bytes / BYTES_PER_STEP) as u64
    }

    /// Returns what a copy takes in memory.
    fn copied(&self) -> usize {
        let nodes = self.nodes.saturating_mul(BYTES_PER_ITEM);
        let maps = self.maps.saturating_mul(BYTES_PER_MAP);
        self.bytes.saturating_add(nodes).saturating_add(maps)
    }

    /// Returns what a function of that name may take in memory while it runs.
    fn room(&self, name: &str) -> usize {
        let nodes = self.nodes.saturating_mul(ROOM_PER_ITEM);
        let maps = self.maps.saturating_mul(ROOM_PER_MAP);
        let written = self.bytes.saturating_mul(bytes_per_byte(name));
        let blanks = match name {
            "toPrettyJson" | "mustToPrettyJson" | "toYaml" | "mustToYaml" | "toYamlPretty" | "toToml"
            | "mustToToml" => self.blanks.saturating_mul(4),
            _ => 0,
        };
        let inside = match self.inside > 0 && takes_bytes_for_a_list(name) {
            true => self.inside.saturating_mul(2 * ROOM_PER_ITEM),
            false => 0,
        };
        [nodes, maps, written, blanks, inside]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// Adds a value; one that several hold counts for each of them, as it does for what walks through it.
    fn add(&mut self, value: &Val, depth: usize, most: usize) -> Result<(), End> {
        self.nodes += 1;
        self.blanks += 2 * depth;
        if depth > MAX_NESTING {
            return Err(End::TooDeep);
        }
        if self.nodes > most {
            return Err(End::TooMany);
        }
        match value {
            Val::Str(text) => self.bytes += text.len(),
            Val::List(list) => {
                for item in list.items.iter() {
                    self.add(item, depth + 1, most)?;
                }
            }
            Val::Map(map) => {
                self.maps += 1;
                let entries = map.entries.borrow();
                if let Some(held) = &mut self.held {
                    let keys: usize = entries.keys().map(|key| key.len()).sum();
                    let bytes = keys + entries.len() * BYTES_PER_ITEM + BYTES_PER_MAP;
                    held.push((Rc::downgrade(&map.entries), bytes));
                }
                for (key, item) in entries.iter() {
                    self.bytes += key.len();
                    self.reads.key(key);
                    self.add(item, depth + 1, most)?;
                }
            }
            Val::Object(object) => {
                let (nodes, bytes) = object.size();
                self.inside += nodes;
                self.bytes += bytes;
            }
            _ => {}
        }
        Ok(())
    }

    fn add_items(&mut self, value: &Val) {
        self.nodes += match value {
            Val::List(list) => list.items.len(),
            Val::Map(map) => {
                let entries = map.entries.borrow();
                entries.keys().for_each(|key| self.reads.key(key));
                entries.len()
            }
            Val::Object(object) => object.size().0,
            _ => 1,
        };
    }
}

impl Interp<'_> {
    /// Takes the steps that a call with these arguments costs, and makes sure that there is room for what it makes.
    pub(super) fn charge_arguments(
        &mut self,
        frame: &Frame<'_>,
        name: &str,
        walk: Walk,
        args: &[Val],
    ) -> Outcome<()> {
        let mut size = Size::default();
        for arg in args {
            self.measure(frame, walk, arg, &mut size)?;
        }
        // What is no text is printed to be a key.
        for key in args
            .iter()
            .step_by(2)
            .filter(|key| name == "dict" && key.as_str().is_none())
        {
            self.measure(frame, Walk::All, key, &mut size)?;
        }
        self.reads.add(&size.reads);
        self.steps(frame, size.steps() + price(name, args))?;
        self.within(frame, size.room(name))
    }

    /// Takes the steps, and counts the memory, that a call's result costs.
    pub(super) fn charge_result(
        &mut self,
        frame: &Frame<'_>,
        name: &str,
        walk: Walk,
        value: &Val,
    ) -> Outcome<()> {
        match value {
            Val::Str(text) => self.made += text.len(),
            // It makes room for one more, whatever the map held before.
            Val::Map(_) if name == "set" => self.made += BYTES_PER_ITEM,
            Val::Map(map) if name == "dict" => {
                let entries = map.entries.borrow();
                let keys: usize = entries.keys().map(|key| key.len()).sum();
                let bytes = keys + entries.len() * BYTES_PER_ITEM + BYTES_PER_MAP;
                self.hold(&map.entries, bytes);
                self.made += bytes;
            }
            // What is passed on was made before.
            Val::Map(_) if walk == Walk::None => {}
            value if value.holds_others() => {
                let mut size = Size {
                    held: Some(Vec::new()),
                    ..Size::default()
                };
                self.measure(frame, walk.max(Walk::Items), value, &mut size)?;
                for (map, bytes) in size.held.take().into_iter().flatten() {
                    self.hold_weak(map, bytes);
                }
                // Each item is a list of its own.
                let lists = match value {
                    Val::List(list) if list.of == Items::Lists => list.items.len(),
                    _ => 1,
                };
                self.made += size.copied() + lists * BYTES_PER_HOLDER;
                if let Val::List(list) = value {
                    // What its items hold may be held by others too.
                    let own = list.items.len() * BYTES_PER_ITEM + BYTES_PER_HOLDER;
                    self.hold(&list.items, own);
                }
                return self.steps(frame, size.steps());
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the steps, and counts the memory, of a value that a method or a field of an object has made. Maps and
    /// objects but bytes and files are passed on.
    pub(super) fn charge_made(&mut self, frame: &Frame<'_>, value: &Val) -> Outcome<()> {
        let mut size = Size::default();
        match value {
            Val::Str(text) => size.bytes = text.len(),
            Val::List(_) => self.measure(frame, Walk::All, value, &mut size)?,
            Val::Object(object) => match &**object {
                Object::Bytes(bytes) => size.bytes = bytes.len(),
                // Their names and bytes are the chart's.
                Object::Files(files) => {
                    let bytes = map_bytes::<Rc<str>, Arc<[u8]>>(files.len()) + BYTES_PER_HOLDER;
                    self.hold(files, bytes);
                    self.made += bytes;
                    return self.steps(frame, (files.len() / 4) as u64);
                }
                _ => return Ok(()),
            },
            _ => return Ok(()),
        }
        self.made += size.copied();
        self.steps(frame, size.steps())
    }

    /// Takes the steps of a method of an object: one file is found by its name, all else goes through all there is.
    pub(super) fn charge_method(
        &mut self,
        frame: &Frame<'_>,
        receiver: &Val,
        name: &str,
        args: &[Val],
    ) -> Outcome<()> {
        let asked = args.first().and_then(Val::as_str).unwrap_or_default();
        if matches!(name, "Get" | "GetBytes" | "Lines") {
            return self.charge_compared(frame, asked);
        }
        // A pattern is compiled.
        self.steps(frame, asked.len() as u64)?;
        self.charge_entries(frame, receiver, false)
    }

    /// Takes the steps of looking for a template, which may be in any of the sets that texts within each other brought.
    pub(in crate::helm) fn charge_sets(&mut self) -> Outcome<()> {
        match u64::from(self.evaluating) / SETS_PER_STEP {
            0 => Ok(()),
            long => self.charge(long),
        }
    }

    /// Takes the steps of looking something up by its name, where that is long.
    pub(super) fn charge_compared(&mut self, frame: &Frame<'_>, name: &str) -> Outcome<()> {
        match name.len() / BYTES_COMPARED_PER_STEP {
            0 => Ok(()),
            long => self.steps(frame, long as u64),
        }
    }

    /// Takes the steps of going through what a map or an object holds; with its content, where copies are made of it.
    pub(super) fn charge_entries(&mut self, frame: &Frame<'_>, over: &Val, copied: bool) -> Outcome<()> {
        let mut size = Size::default();
        size.add_items(over);
        if let (Val::Object(object), true) = (over, copied) {
            size.bytes += object.size().1;
        }
        self.reads.add(&size.reads);
        self.steps(frame, size.steps())?;
        self.within(frame, size.copied())
    }

    /// Takes the steps that writing a value costs, and makes sure that there is room for it.
    pub(super) fn charge_written(&mut self, frame: &Frame<'_>, value: &Val) -> Outcome<()> {
        let mut size = Size::default();
        self.measure(frame, Walk::All, value, &mut size)?;
        self.reads.add(&size.reads);
        self.steps(frame, size.steps())?;
        self.within(frame, size.bytes.saturating_add(size.nodes))
    }

    /// Notes a map or a list that was counted, and gives back what those took that nothing holds any longer.
    fn hold<T: 'static>(&mut self, held: &Rc<T>, bytes: usize) {
        let held: Weak<T> = Rc::downgrade(held);
        self.hold_weak(held, bytes);
    }

    fn hold_weak(&mut self, held: Weak<dyn Any>, bytes: usize) {
        let freed = self.held.add(held, bytes);
        self.made = self.made.saturating_sub(freed);
    }

    /// Fails where output and values would take more than is allowed with so many bytes more.
    fn within(&self, frame: &Frame<'_>, bytes: usize) -> Outcome<()> {
        self.has_room(bytes).or_else(|why| self.fail(frame, why))
    }

    fn measure(&self, frame: &Frame<'_>, walk: Walk, value: &Val, size: &mut Size) -> Outcome<()> {
        match (walk, value) {
            (Walk::None, _) => Ok(()),
            (_, Val::Str(text)) => {
                size.bytes += text.len();
                Ok(())
            }
            (Walk::Items, value) => {
                size.add_items(value);
                Ok(())
            }
            (Walk::All, value) => {
                let by_steps = usize::try_from(self.fuel).unwrap_or(usize::MAX).saturating_mul(4);
                // No walk goes on where there is no room for what it leads to.
                let by_room = self.context.limits.bytes / BYTES_PER_ITEM;
                match size.add(value, 0, by_steps.min(by_room)) {
                    Ok(()) => Ok(()),
                    Err(End::TooDeep) => {
                        self.fail(frame, format!("values are nested deeper than {MAX_NESTING}"))
                    }
                    Err(End::TooMany) if by_room < by_steps => self.fail(frame, self.context.no_more_bytes()),
                    Err(End::TooMany) => self.fail(frame, self.context.no_more_steps()),
                }
            }
        }
    }
}

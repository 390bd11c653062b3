//! What a kustomization makes itself: config maps, secrets, and the objects that configure plugins.

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::Value;

use super::super::carried;
use super::super::error::{At, Error, Result, invalid, shortened};
use super::super::generators;
use super::super::kustomization::{GeneratorArgs, GeneratorOptions};
use super::super::load::LoadError;
use super::super::origin::Maker;
use super::super::plugins::{self, Generator};
use super::super::resource::Resource;
use super::{Accumulator, Build, Target};
use crate::yaml::node::{Node, Schema};

impl Build<'_> {
    pub(super) fn generate(&self, target: &Target, acc: &mut Accumulator) -> Result<()> {
        let k = &target.kustomization;
        let options = k.generator_options.as_ref();
        let mut made = Vec::new();
        for (list, secret) in [(&k.config_maps, false), (&k.secrets, true)] {
            let (field, kind) = if secret {
                ("secretGenerator", "SecretGenerator")
            } else {
                ("configMapGenerator", "ConfigMapGenerator")
            };
            for args in list {
                let args = self.with_options(args, options).in_field(field)?;
                let maker = target
                    .origin
                    .as_ref()
                    .map(|origin| origin.of_field(&target.file, kind));
                made.push((field, self.make(target, &args, secret, maker).in_field(field)?));
            }
        }
        let plugins = self.plugins(target, "generators", &k.generators);
        for configured in plugins.in_field("generators")? {
            let maker = Maker::of_plugin(&configured.value);
            let read = configured.named(self, plugins::generator(&configured.value));
            let object = match read.in_field("generators")? {
                Generator::Data { args, secret } => self.make(target, &args, secret, maker),
                Generator::Object(text) => self.parsed(&text, maker),
            };
            let object = configured.named(self, object);
            made.push(("generators", object.in_field("generators")?));
        }
        for (field, resource) in made {
            acc.map.absorb(resource, &self.steps).in_field(field)?;
        }
        acc.map.close(&self.steps)
    }

    /// Adds the options of the whole kustomization to the arguments of a generator, which are copied for it.
    fn with_options<'g>(
        &self,
        args: &'g GeneratorArgs,
        options: Option<&GeneratorOptions>,
    ) -> Result<Cow<'g, GeneratorArgs>> {
        let Some(options) = options else {
            return Ok(Cow::Borrowed(args));
        };
        let own = args.options.iter();
        let entries = own.clone().chain([options]).map(GeneratorOptions::entries);
        let length = own.chain([options]).map(GeneratorOptions::text_bytes);
        let text = args.text_bytes() + length.sum::<usize>();
        self.steps
            .spend_copy(args.sources() + entries.sum::<usize>(), text)?;
        Ok(Cow::Owned(args.clone().with_options(options)))
    }

    fn make(
        &self,
        target: &Target,
        args: &GeneratorArgs,
        secret: bool,
        maker: Option<Maker>,
    ) -> Result<Resource> {
        let read = |path: &str| self.read(target, path).map(Cow::into_owned);
        let lines = |path: &str| -> Result<Vec<u8>> {
            let content = read(path)?;
            let carried = match secret && self.carries {
                true => carried::env_file(&content)?,
                false => None,
            };
            Ok(carried.unwrap_or(content))
        };
        let mut resource =
            generators::make(args, secret, [&read, &lines], &self.steps).in_object(|| args.name.clone())?;
        if let Some(maker) = maker {
            self.charge_note(&resource, maker.length())?;
            maker.note_generated(&mut resource);
            resource.restore_mark();
        }
        Ok(resource)
    }

    fn parsed(&self, text: &str, maker: Option<Maker>) -> Result<Resource> {
        let node = self.reader().first(text.as_bytes())?.unwrap_or_else(Node::map);
        let mut resource = Resource::new(node);
        if let Some(maker) = maker {
            self.charge_note(&resource, maker.length())?;
            maker.note_generated(&mut resource);
        }
        Ok(resource)
    }

    /// Reads the objects that configure plugins, which a field gives in place or by path.
    pub(super) fn plugins(
        &self,
        target: &Target,
        field: &str,
        entries: &[String],
    ) -> Result<Vec<Configured>> {
        let mut acc = self.empty();
        let mut paths = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            match self.loaded(entry.as_bytes()) {
                Ok(mut list) => {
                    if let Some(origin) = &target.origin {
                        let origin = origin.join(&target.file);
                        for object in &mut list {
                            self.charge_note(object, origin.length())?;
                            origin.note_file(object);
                        }
                    }
                    acc.map.append_all(list)?;
                }
                Err(error) if error.is_final() => return Err(error.into()),
                Err(error) if is_no_path(entry) => return Err(neither(&error)).in_item(field, index),
                Err(_) => paths.push(entry.clone()),
            }
        }
        let acc = self.resources(target, acc, &paths)?;
        acc.map
            .list()
            .iter()
            .map(|resource| {
                self.steps.hold_json(&resource.node, 1)?;
                Ok(Configured {
                    value: resource.node.to_json(Schema::New)?,
                    id: resource.id().to_string(),
                    file: resource.file.clone(),
                })
            })
            .collect()
    }
}

/// Tells whether an entry that holds no objects can be no path either. Such a one is not quoted: it may hold secrets.
pub(super) fn is_no_path(entry: &str) -> bool {
    entry.contains(['\n', '{']) || entry.contains(": ")
}

/// Returns the failure of such an entry.
pub(super) fn neither(why: &LoadError) -> Box<Error> {
    invalid(format!("neither an object nor the path of a file: {why}"))
}

/// An object that configures a plugin, and where it stands.
pub(super) struct Configured {
    pub(super) value: Value,
    id: String,
    /// The file that it was read from, unless it stands in the kustomization.
    file: Option<Rc<str>>,
}

impl Configured {
    /// Names the object, and its file, in a failure of what it configures.
    pub(super) fn named<T>(&self, build: &Build<'_>, made: Result<T>) -> Result<T> {
        made.of(|| {
            let id = shortened(&self.id);
            match &self.file {
                Some(file) => format!("{}: {id}", shortened(&build.files.shown(file))),
                None => id.into_owned(),
            }
        })
    }
}

//! The settings of a run that goes on: its own, except for what leaves its result as it is.

use std::path::Path;

use super::{RawSettings, Settings, SettingsError};

/// Settings that may differ between the parts of a run: none of them changes a bit of the model.
const FREE: [&str; 7] =
    ["data", "output", "threads", "shards", "comm-timeout", "checkpoint-every", "max-time"];

/// A run begun before there were weights of classes has none in its files, and goes on without.
const CLASS_WEIGHTS: &str = "class-weights";

impl Settings {
    /// The settings that decide what comes out, as TOML; `split` is the one in use.
    pub fn deciding(&self, split: &str) -> String {
        let mut table = toml::Table::try_from(self.spelled_out(split)).unwrap_or_default();
        FREE.iter().for_each(|key| drop(table.remove(*key)));
        table.to_string()
    }
}

/// The flags in which two texts of [`Settings::deciding`] differ, each with its values here and there.
pub fn differences(here: &str, there: &str) -> Vec<String> {
    let table = |text: &str| {
        let mut table = text.parse::<toml::Table>().unwrap_or_default();
        table.entry(CLASS_WEIGHTS).or_insert(toml::Value::Float(0.0));
        table
    };
    let (here, there) = (table(here), table(there));
    let mut keys: Vec<&String> = here.keys().chain(there.keys()).collect();
    keys.sort();
    keys.dedup();
    let value =
        |table: &toml::Table, key: &str| table.get(key).map_or("unset".to_owned(), ToString::to_string);
    let differs = |key: &&&String| here.get(**key) != there.get(**key);
    keys.iter()
        .filter(differs)
        .map(|key| format!("--{key} (there {}, here {})", value(&there, key), value(&here, key)))
        .collect()
}

/// The settings to go on with in `folder`: those of its config.toml, under `flags`.
///
/// # Errors
/// No run in the folder, or flags that would change its result.
pub fn resumed(folder: &Path, flags: RawSettings) -> Result<Settings, SettingsError> {
    let path = folder.join("config.toml");
    if !path.is_file() {
        return Err(SettingsError::NoRun { folder: folder.to_owned() });
    }
    if flags.output.as_ref().is_some_and(|output| output != folder) {
        return Err(SettingsError::Contradiction(
            "--resume and --output name two folders: a run goes on in its own; leave --output out".into(),
        ));
    }
    let mut own = RawSettings::from_file(&path)?;
    own.output = Some(folder.to_owned());
    own.class_weights.get_or_insert(0.0);
    let before = own.clone().check()?;
    let settings = flags.over(own).check()?;
    let split = |settings: &Settings| settings.split.clone().unwrap_or_default();
    let changed = differences(&settings.deciding(&split(&settings)), &before.deciding(&split(&before)));
    if changed.is_empty() {
        return Ok(settings);
    }
    Err(SettingsError::Changed { folder: folder.to_owned(), changed: changed.join(", ") })
}

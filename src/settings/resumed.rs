//! The settings of a run that goes on: its own, except for what leaves its result as it is.

use std::path::Path;

use super::{Method, RawSettings, Settings, SettingsError};

/// Settings that may differ between the parts of a run: none of them changes a bit of the model.
const FREE: [&str; 7] =
    ["data", "output", "threads", "shards", "comm-timeout", "checkpoint-every", "max-time"];

impl Settings {
    /// The settings that decide what comes out, as TOML; `split` is the one in use.
    pub fn deciding(&self, split: &str) -> String {
        let mut table = toml::Table::try_from(self.spelled_out(split)).unwrap_or_default();
        FREE.iter().for_each(|key| drop(table.remove(*key)));
        table.to_string()
    }
}

/// A text of [`Settings::deciding`] from before there were settings that it has now: a run begun then goes on as it was.
pub fn with_later_settings(deciding: &str) -> String {
    let mut table = deciding.parse::<toml::Table>().unwrap_or_default();
    let later = RawSettings { optimizer: method_of(&table), ..RawSettings::default() }.dated_back();
    for (key, value) in toml::Table::try_from(later).unwrap_or_default() {
        table.entry(key).or_insert(value);
    }
    table.to_string()
}

fn method_of(table: &toml::Table) -> Option<Method> {
    table.get("optimizer").and_then(|method| method.clone().try_into().ok())
}

impl RawSettings {
    /// Settings that came later are as if they were not there, unless they are given.
    fn dated_back(mut self) -> Self {
        self.class_weights.get_or_insert(0.0);
        if self.optimizer.is_none_or(|method| method == Method::Admm) {
            self.tie_operators.get_or_insert(0.0);
            self.follow_covariance.get_or_insert(0.0);
        }
        self
    }
}

/// The flags in which two texts of [`Settings::deciding`] differ, each with its values here and there.
pub fn differences(here: &str, there: &str) -> Vec<String> {
    let table = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
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
    let mut own = RawSettings::from_file(&path)?.dated_back();
    own.output = Some(folder.to_owned());
    let before = own.clone().check()?;
    let settings = flags.over(own).check()?;
    let split = |settings: &Settings| settings.split.clone().unwrap_or_default();
    let changed = differences(&settings.deciding(&split(&settings)), &before.deciding(&split(&before)));
    if changed.is_empty() {
        return Ok(settings);
    }
    Err(SettingsError::Changed { folder: folder.to_owned(), changed: changed.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_there_were_settings_means_that_they_do_nothing() {
        let old = with_later_settings("optimizer = \"admm\"\n");
        let same =
            "optimizer = \"admm\"\nclass-weights = 0.0\ntie-operators = 0.0\nfollow-covariance = 0.0\n";
        assert_eq!(differences(same, &old), [""; 0]);
        let other = differences(&same.replace("weights = 0.0", "weights = 0.5"), &old);
        assert_eq!(other, ["--class-weights (there 0.0, here 0.5)"]);
        let own = "class-weights = 0.5\noptimizer = \"adam\"\n";
        assert_eq!(with_later_settings(own), own);
    }
}

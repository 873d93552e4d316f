//! What a request asks for besides its files. The same names work in the query and as fields of a form.

use crate::http::problem::Problem;
use crate::job::Lane;
use crate::pipeline::spec::Overrides;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Name of the preset; empty for the first.
    pub preset: String,
    /// Settings.
    pub set: Overrides,
    /// `None` lets the ledger choose.
    pub lane: Option<Lane>,
    /// Whether the same image, made into the same, will do if it is there.
    pub dedup: bool,
    /// Of raw bytes.
    pub filename: Option<String>,
}

impl Asked {
    /// Reads the query.
    pub fn from_query(query: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for (name, value) in query {
            if name == "filename" {
                asked.filename = Some(value);
            } else {
                asked.put(&name, value)?;
            }
        }
        Ok(asked)
    }

    /// Takes one parameter. A name that is not known is an error: a typing mistake must not pass as a default.
    pub fn put(&mut self, name: &str, value: String) -> Result<(), Problem> {
        match name {
            "preset" => self.preset = value,
            "lane" => self.lane = Some(lane(&value)?),
            "dedup" => self.dedup = flag(&value)?,
            "set" => {
                let setting = value.split_once('=');
                let (key, value) = setting.ok_or_else(|| Problem::invalid("set is written as key=value."))?;
                self.set.insert(key.trim().to_owned(), value.trim().to_owned());
            }
            _ => {
                let key = name.strip_prefix("set.").ok_or_else(|| unknown(name))?;
                self.set.insert(key.to_owned(), value);
            }
        }
        Ok(())
    }
}

fn lane(name: &str) -> Result<Lane, Problem> {
    Lane::parse(name).ok_or_else(|| Problem::invalid("lane is interactive or bulk."))
}

fn flag(value: &str) -> Result<bool, Problem> {
    value.to_ascii_lowercase().parse().map_err(|_| Problem::invalid("dedup is true or false."))
}

fn unknown(name: &str) -> Problem {
    let shown: String = name.chars().filter(|character| !character.is_control()).take(40).collect();
    Problem::invalid(format!("There is no parameter `{shown}`."))
        .remedy("Send files as `file`; parameters are preset, set, set.<key>, lane, dedup, and filename in the query.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &[(&str, &str)]) -> Result<Asked, Problem> {
        Asked::from_query(query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn both_forms_of_a_setting_are_the_same() {
        let one = asked(&[("preset", "photo"), ("set", "quality=70"), ("lane", "bulk")]).unwrap();
        let other = asked(&[("set.quality", "70"), ("lane", "bulk"), ("preset", "photo")]).unwrap();
        assert_eq!(one, other);
        assert_eq!(one.lane, Some(Lane::Bulk));
    }

    #[test]
    fn mistakes_do_not_pass() {
        for query in [("prest", "photo"), ("set", "quality"), ("lane", "fast"), ("dedup", "1"), ("image", "x")] {
            assert_eq!(asked(&[query]).unwrap_err().code, "invalid_parameter", "{query:?}");
        }
    }
}

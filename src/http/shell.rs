//! The page's HTML, rendered from a template and the words of a language: which one, and whether light or dark, was chosen
//! on the page and stands in a cookie, or follows the browser.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use cookie::Cookie;
use serde_json::Value;

const TEMPLATE: &str = include_str!("assets/index.html");
/// Longest header that is read for a language or a cookie: browsers send a tenth of it.
const HEADER_BYTES_MAX: usize = 8192;

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English, and what those get who ask for neither.
    En,
    /// Russian.
    Ru,
}

impl Language {
    const ALL: [Self; 2] = [Self::En, Self::Ru];

    /// As in `lang`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ru => "ru",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::En => Self::Ru,
            Self::Ru => Self::En,
        }
    }

    const fn module(self) -> &'static str {
        match self {
            Self::En => include_str!("assets/words/en.js"),
            Self::Ru => include_str!("assets/words/ru.js"),
        }
    }

    /// The one of the list that is wanted most (RFC 9110, 12.5.4); `en-GB` is English.
    fn wanted(accepted: &str) -> Option<Self> {
        let weighed = accepted.split(',').filter_map(|range| {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let weight: f32 = weight.trim().strip_prefix("q=")?.parse().ok()?;
            let primary = tag.trim().split('-').next()?.to_ascii_lowercase();
            let language = Self::ALL.into_iter().find(|language| language.code() == primary)?;
            (weight > 0.0).then_some((language, weight))
        });
        // Of equals the first.
        weighed.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(language, _)| language)
    }
}

/// Light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// As the system.
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    const fn code(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// How the page is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// In which language.
    pub language: Language,
    /// In which colours.
    pub theme: Theme,
}

impl Look {
    /// Every one there is.
    pub const ALL: [Self; 6] = [
        Self { language: Language::En, theme: Theme::Auto },
        Self { language: Language::En, theme: Theme::Light },
        Self { language: Language::En, theme: Theme::Dark },
        Self { language: Language::Ru, theme: Theme::Auto },
        Self { language: Language::Ru, theme: Theme::Light },
        Self { language: Language::Ru, theme: Theme::Dark },
    ];

    /// What was chosen, else what the browser asks for, else English as the system has it.
    pub fn asked_for(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let text = |name| text(name).filter(|value: &&str| value.len() <= HEADER_BYTES_MAX);
        let cookies = text(header::COOKIE).unwrap_or_default();
        let chosen = |name: &str| {
            let mut found = Cookie::split_parse(cookies).filter_map(Result::ok).filter(|cookie| cookie.name() == name);
            found.next().map(|cookie| cookie.value().to_owned())
        };
        let language = chosen("inkpool_language");
        let language = Language::ALL.into_iter().find(|one| Some(one.code()) == language.as_deref());
        let theme = chosen("inkpool_theme");
        let theme = Theme::ALL.into_iter().find(|one| Some(one.code()) == theme.as_deref());
        let by_browser = || text(header::ACCEPT_LANGUAGE).and_then(Language::wanted);
        Self { language: language.or_else(by_browser).unwrap_or(Language::En), theme: theme.unwrap_or(Theme::Auto) }
    }
}

/// The words of a language.
pub struct Shell(BTreeMap<String, Value>);

impl Shell {
    /// Of the module that the page uses too: strict JSON between its first brace and its last.
    pub fn of(language: Language) -> Self {
        let module = language.module();
        let json = module.find('{').zip(module.rfind('}')).and_then(|(from, to)| module.get(from..=to));
        Self(json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default())
    }

    #[cfg(test)]
    pub fn words(&self) -> &BTreeMap<String, Value> {
        &self.0
    }

    /// The template with the words where their keys stand in double braces.
    pub fn render(&self, look: Look) -> String {
        let mut html = String::with_capacity(TEMPLATE.len() * 2);
        let mut rest = TEMPLATE;
        while let Some((before, (key, after))) =
            rest.split_once("{{").and_then(|(before, tail)| Some((before, tail.split_once("}}")?)))
        {
            html.push_str(before);
            let word = match key {
                "lang" => look.language.code(),
                "other" => look.language.other().code(),
                "theme" => look.theme.code(),
                _ => self.0.get(key).and_then(Value::as_str).unwrap_or(key),
            };
            for character in word.chars() {
                match character {
                    '&' => html.push_str("&amp;"),
                    '<' => html.push_str("&lt;"),
                    '"' => html.push_str("&quot;"),
                    _ => html.push(character),
                }
            }
            rest = after;
        }
        html.push_str(rest);
        html
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Plural forms that Intl.PluralRules names for whole numbers and others.
    const FORMS: [(Language, &[&str]); 2] =
        [(Language::En, &["one", "other"]), (Language::Ru, &["few", "many", "one", "other"])];

    fn blanks(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
    }

    /// Every form of a word: one, or its plurals.
    fn forms(word: &Value) -> Vec<&str> {
        match (word.as_str(), word.as_object()) {
            (Some(text), _) => vec![text],
            (None, Some(plurals)) => plurals.values().map(|text| text.as_str().unwrap()).collect(),
            (None, None) => panic!("{word}"),
        }
    }

    #[test]
    fn both_languages_have_every_key() {
        let (english, russian) = (Shell::of(Language::En), Shell::of(Language::Ru));
        let keys = |shell: &Shell| {
            shell.words().keys().filter(|key| !key.starts_with("server.")).cloned().collect::<BTreeSet<_>>()
        };
        assert!(keys(&english).len() > 200);
        assert_eq!(keys(&english), keys(&russian));
        for key in keys(&english) {
            let (one, other) = (&english.words()[&key], &russian.words()[&key]);
            assert_eq!(one.is_string(), other.is_string(), "{key}");
            for text in forms(one).into_iter().chain(forms(other)) {
                assert!(!text.trim().is_empty(), "{key}");
                assert_eq!(blanks(text), blanks(forms(one)[0]), "{key}: {text}");
            }
        }
    }

    #[test]
    fn plurals_have_the_forms_of_their_language() {
        for (language, expected) in FORMS {
            for (key, word) in Shell::of(language).words() {
                let Some(plurals) = word.as_object() else { continue };
                assert_eq!(
                    plurals.keys().map(String::as_str).collect::<BTreeSet<_>>(),
                    expected.iter().copied().collect(),
                    "{key}"
                );
            }
        }
    }

    #[test]
    fn what_the_server_says_has_words_in_other_languages() {
        let russian = Shell::of(Language::Ru);
        let problems = include_str!("problem.rs").split("(S::").skip(1).filter_map(|rest| rest.split('"').nth(1));
        let refusals =
            include_str!("../job/refusal.rs").split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
        let codes: BTreeSet<_> = problems.chain(refusals).filter(|code| !code.contains([' ', '{'])).collect();
        assert!(codes.len() > 50, "{codes:?}");
        for code in codes {
            assert!(russian.words().contains_key(&format!("server.{code}")), "{code}");
        }
    }

    #[test]
    fn the_shell_has_no_blank_left() {
        for look in Look::ALL {
            let shell = Shell::of(look.language);
            for key in TEMPLATE.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(key, _)| key) {
                let is_own = ["lang", "other", "theme"].contains(&key);
                assert!(is_own || shell.words().get(key).is_some_and(Value::is_string), "{key}");
            }
            let html = shell.render(look);
            assert!(!html.contains("{{") && html.contains(&format!("<html lang=\"{}\"", look.language.code())));
            assert!(html.contains(&format!("data-theme=\"{}\"", look.theme.code())));
        }
    }

    #[test]
    fn the_look_is_chosen_or_asked_for() {
        let look = |cookie: &str, accepted: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, cookie.parse().unwrap());
            headers.insert(header::ACCEPT_LANGUAGE, accepted.parse().unwrap());
            let look = Look::asked_for(&headers);
            (look.language.code(), look.theme.code())
        };
        assert_eq!(look("", ""), ("en", "auto"));
        assert_eq!(look("", "ru-RU,ru;q=0.9,en;q=0.8"), ("ru", "auto"));
        assert_eq!(look("", "de, en-GB;q=0.5, ru;q=0.4"), ("en", "auto"));
        assert_eq!(look("", "en;q=0, ru;q=0.1"), ("ru", "auto"));
        assert_eq!(look("", "*"), ("en", "auto"));
        assert_eq!(look("a=b; inkpool_language=en; inkpool_theme=dark", "ru"), ("en", "dark"));
        assert_eq!(look("inkpool_language=xx; inkpool_theme=<b>", "ru"), ("ru", "auto"));
    }
}

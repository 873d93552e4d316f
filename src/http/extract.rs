//! Extractors whose rejections are problems, who asks, and the cursor of lists.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::AppState;
use super::identity::Caller;
use super::problem::{Kind, Problem};
use crate::job::OwnerId;

/// A JSON body: an object. Left to itself serde would take a list of the members in their order as well.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(members) = axum::Json::<serde_json::Map<String, Value>>::from_request(request, state).await?;
        let read = serde_json::from_value(Value::Object(members));
        read.map(Self).map_err(|error| Problem::new(Kind::InvalidJson, error.to_string()))
    }
}

/// The query.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct Query<T>(pub T);

/// Parts of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub struct Path<T>(pub T);

/// Whose images and jobs are asked for. In `open` mode everybody who gets past the guard is the one local user.
#[derive(Debug, Clone, Copy)]
pub struct Owner(pub OwnerId);

impl FromRequestParts<AppState> for Owner {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        Caller::from_request_parts(parts, state).await?.owner().map(Self)
    }
}

/// A whole number, as JSON Schema has it: 879.0 is one.
pub fn whole<'de, D: Deserializer<'de>, N: TryFrom<u64>>(from: D) -> Result<N, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    // Above 2^53 neighbours cannot be told apart.
    let is_whole = |float: &f64| float.fract() == 0.0 && (0.0..9.0e15).contains(float);
    let whole = number.as_u64().or_else(|| format!("{:.0}", number.as_f64().filter(is_whole)?).parse().ok());
    let whole = whole.and_then(|whole| N::try_from(whole).ok());
    whole.ok_or_else(|| serde::de::Error::custom(format!("{number} is not a whole number of the right size")))
}

/// The same, or null.
pub fn whole_or_none<'de, D: Deserializer<'de>, N: TryFrom<u64>>(from: D) -> Result<Option<N>, D::Error> {
    struct Maybe<N>(N);
    impl<'de, N: TryFrom<u64>> Deserialize<'de> for Maybe<N> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            whole(from).map(Self)
        }
    }
    Ok(Option::<Maybe<N>>::deserialize(from)?.map(|Maybe(number)| number))
}

/// Which page of a list.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PageQuery {
    /// Items at most.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// Items at most, within the configured bounds.
    pub fn items_max(&self, state: &AppState) -> Result<u32, Problem> {
        let http = &state.config.http;
        match self.limit {
            None => Ok(http.page_items_default.min(http.page_items_max)),
            Some(0) => Err(Problem::invalid("limit is at least 1.")),
            Some(limit) if limit > http.page_items_max => Err(Problem::invalid("limit is too large.")
                .figures(format!("{} items", http.page_items_max), format!("{limit} items"))
                .remedy("Ask for fewer, and follow next_cursor.")),
            Some(limit) => Ok(limit),
        }
    }

    /// The last key of the page before.
    pub fn before(&self) -> Result<Option<Uuid>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let key = Uuid::try_parse(cursor).map_err(|_| Problem::invalid("The cursor is not one of this server."))?;
        Ok(Some(key))
    }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Where the next page starts; `null` on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A list that always fits on one page.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }
}

/// Cuts the one row too many that was asked for, and makes a cursor of the last that is shown.
pub fn cut<R>(mut rows: Vec<R>, items_max: u32, key: impl Fn(&R) -> Uuid) -> (Vec<R>, Option<String>) {
    let items_max = items_max as usize;
    if rows.len() <= items_max {
        return (rows, None);
    }
    rows.truncate(items_max);
    let cursor = rows.last().map(|row| key(row).simple().to_string());
    (rows, cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_as_json_schema_has_them() {
        let read = |text: &str| whole_or_none::<_, u32>(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(read("879.0").unwrap(), Some(879));
        assert_eq!((read("7").unwrap(), read("null").unwrap()), (Some(7), None));
        for wrong in ["1.5", "-1", "-0.5", "1e300", "4294967296", "\"7\"", "true"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

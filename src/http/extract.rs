//! Extractors whose rejections are problems, who asks, and the cursor of lists.

use axum::extract::{FromRequest, FromRequestParts};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::AppState;
use super::identity::Caller;
use super::problem::Problem;
use crate::job::OwnerId;

/// A JSON body.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub struct Json<T>(pub T);

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

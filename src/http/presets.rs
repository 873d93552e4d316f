//! `/presets` and `/limits`: what can be asked for, and within which bounds.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::extract::Page;

/// A named recipe.
#[derive(Debug, Serialize, ToSchema)]
pub struct PresetView {
    /// For requests.
    #[schema(example = "document")]
    name: String,
    /// For people.
    title: String,
    /// What is done to each page, in order.
    steps: Vec<String>,
    /// Names of the files of the first page, and of the PDF that inputs of several pages get.
    outputs: Vec<String>,
}

/// The presets, the default first.
#[utoipa::path(get, path = "/presets", operation_id = "list_presets", tag = "presets", responses((status = 200, body = Page<PresetView>)))]
pub async fn list(State(state): State<AppState>) -> axum::Json<Page<PresetView>> {
    let views = state.presets.preset.iter().map(|preset| PresetView {
        name: preset.name.clone(),
        title: preset.title.clone(),
        steps: preset.steps().into_iter().map(str::to_owned).collect(),
        outputs: std::iter::once("original".to_owned()).chain(preset.names().map(str::to_owned)).collect(),
    });
    axum::Json(Page::whole(views.collect()))
}

/// Bounds on uploads and archives.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsView {
    /// One body.
    body_bytes_max: u64,
    /// Files of one request.
    parts_max: usize,
    /// One page.
    page_pixels_max: u64,
    /// A side of a page.
    side_px_max: u32,
    /// Pages of one image.
    pages_max: u32,
    /// Images of one archive.
    archive_images_max: usize,
}

/// Bounds on uploads, so that clients can say them before they send.
#[utoipa::path(get, path = "/limits", operation_id = "show_limits", tag = "presets", responses((status = 200, body = LimitsView)))]
pub async fn limits(State(state): State<AppState>) -> axum::Json<LimitsView> {
    let (http, limits) = (&state.config.http, &state.config.limits);
    axum::Json(LimitsView {
        body_bytes_max: http.body_bytes_max,
        parts_max: http.parts_max,
        page_pixels_max: limits.page_pixels_max,
        side_px_max: limits.side_px_max,
        pages_max: limits.pages_max,
        archive_images_max: state.config.archive.images_max,
    })
}

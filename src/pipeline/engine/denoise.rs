//! The network: one ONNX session, one thread.

use std::path::Path;
use std::sync::Mutex;

use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{NoSelectedOutputs, RunOptions, Session};
use ort::value::TensorRef;

/// Sides of what the network takes are multiples of this, pixels.
pub const GRID_PX: u32 = 32;

/// ONNX Runtime allows one environment for each process; several engines (in tests) share it.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// A loaded network: gray page in, clean gray page out.
pub struct Network {
    session: Session,
    /// For the last window of a page: gives the memory of the run back.
    releasing: RunOptions<NoSelectedOutputs>,
    keeping: RunOptions<NoSelectedOutputs>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Network {
    /// Loads the library and the graph. Opens files; nothing is opened afterwards.
    ///
    /// # Errors
    /// One sentence of ONNX Runtime.
    pub fn load(graph: &[u8], onnxruntime: &Path) -> Result<Self, String> {
        let session = session(graph, onnxruntime).map_err(|error| error.to_string())?;
        let has = |names: &[ort::value::Outlet], name: &str| names.iter().any(|outlet| outlet.name() == name);
        if has(session.inputs(), "page") && has(session.outputs(), "clean") {
            let options = || RunOptions::new().map_err(|error| error.to_string());
            let mut releasing = options()?;
            releasing.set("memory.enable_memory_arena_shrinkage", "cpu:0").map_err(|error| error.to_string())?;
            Ok(Self { session, releasing, keeping: options()? })
        } else {
            Err("the graph has no input `page` and output `clean`".to_owned())
        }
    }

    /// Cleans one window. `page` holds `width_px * height_px` gray pixels; both sides are multiples of [`GRID_PX`]; `clean`
    /// is called with as many. `is_last` says that no window of this page follows: the memory for windows is given back.
    ///
    /// # Errors
    /// One sentence of ONNX Runtime.
    pub fn clean<T>(
        &mut self,
        page: &[u8],
        width_px: u32,
        height_px: u32,
        is_last: bool,
        clean: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, String> {
        let shape = [1i64, 1, height_px.into(), width_px.into()];
        let input = TensorRef::from_array_view((shape, page)).map_err(|error| error.to_string())?;
        let options = if is_last { &self.releasing } else { &self.keeping };
        let outputs =
            self.session.run_with_options(ort::inputs!["page" => input], options).map_err(|error| error.to_string())?;
        let output = outputs.get("clean").ok_or("the graph gave no `clean`")?;
        let (_, pixels) = output.try_extract_tensor::<u8>().map_err(|error| error.to_string())?;
        if pixels.len() == page.len() {
            Ok(clean(pixels))
        } else {
            Err(format!("the graph gave {} pixels for {}", pixels.len(), page.len()))
        }
    }
}

fn session(graph: &[u8], onnxruntime: &Path) -> Result<Session, Box<dyn std::error::Error>> {
    let mut shared = ENVIRONMENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if shared.is_none() {
        *shared = Some(ort::init_from(onnxruntime)?.with_telemetry(false).build()?);
    }
    let environment = shared.as_ref().ok_or("no environment")?;
    let session = Session::builder(environment)?
        // Work is spread over slots, not inside one; and the worker may start no thread once it is locked down.
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        // Shapes differ between pages: a pattern for each would be kept for good.
        .with_memory_pattern(false)?
        // Windows of a page have one shape: an arena saves a tenth of the time and a quarter of the memory against malloc.
        .with_execution_providers([ort::ep::CPU::default().with_arena_allocator(true).build()])?
        .commit_from_memory(graph)?;
    Ok(session)
}

//! Runs the engine on one file again and again, without server, bus, ledger or worker process: what `scripts/bench` compares
//! a job end to end with. Usage: `in_process PRESET COUNT FILE`; prints the CPU seconds of one run, start-up left out.
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measuring tool")]

use std::path::Path;

use inkpool::pipeline::engine::{Engine, Reporter, locate};
use inkpool::pipeline::spec::Presets;
use inkpool::pipeline::wire::{Run, RunLimits};

struct Silent;

impl Reporter for Silent {
    fn planned(&mut self, _: u64, _: u64, _: u32) {}
    fn progress(&mut self, _: &'static str, _: f32) {}
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap()).as_secs_f64()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, preset, count, file] = arguments.as_slice() else { panic!("usage: in_process PRESET COUNT FILE") };
    let count: u32 = count.parse().expect("COUNT is a number");
    let located = locate::find("", "", "").unwrap();
    let mut engine = Engine::load(&located.model, &located.model_sha256, &located.onnxruntime).unwrap();
    let spec = Presets::builtin().unwrap().resolve(preset, &Default::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in"), directory.path().join("out"));
    std::fs::create_dir(&input).unwrap();
    std::fs::copy(file, input.join("input")).unwrap();
    let run = Run {
        job: "bench".to_owned(),
        spec,
        input: "input".to_owned(),
        input_sha256: String::new(),
        limits: RunLimits { pixels_max: 100_000_000, side_px_max: 16_384, pages_max: 200, memory_bytes_max: 2 << 30 },
    };
    once(&mut engine, &run, &input, &output);
    let before = cpu_seconds();
    for _ in 0..count {
        once(&mut engine, &run, &input, &output);
    }
    println!("{}", (cpu_seconds() - before) / f64::from(count));
}

fn once(engine: &mut Engine, run: &Run, input: &Path, output: &Path) {
    let _ = std::fs::remove_dir_all(output);
    std::fs::create_dir(output).unwrap();
    engine.run(run, input, output, &mut Silent).unwrap();
}
